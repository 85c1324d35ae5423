"""How AdaDeep's agents explore and learn."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import EspalierError

__all__ = ["ExplorationRecipe", "LearningRecipe"]


def _check(name: str, value: float, lowest: float, highest: float = float("inf")) -> None:
    if not lowest <= value <= highest:
        bounds = f"at least {lowest:g}" if highest == float("inf") else f"from {lowest:g} to {highest:g}"
        raise EspalierError(f"agent.{name} must be {bounds}, got {value!r}")


@dataclass(frozen=True)
class ExplorationRecipe:
    """Epsilon-greedy, counted in a phase's new plans, not in steps.

    Attributes:
        warmup: Episodes of random choices at the start of a phase; at most a third of its evaluations.
        start: Epsilon after the warm-up: the share of steps whose technique and strength are random.
        end: Epsilon in the end.
        share: Share of the phase's evaluations after which the end is reached.
        repeat_step: What an episode that leads to a known plan adds to epsilon until a new plan is found.
        noise: Standard deviation added to the strength of a technique that was not random; strengths span [0, 1].
        inherit: Share of the steps after the warm-up that repeat the best plan's choice at the site, where it is open;
            the agent and its epsilon decide the others. 0 is the plain epsilon-greedy walk.
        max_repeats: Episodes in a row without a new plan after which a phase is taken to have run dry.
    """

    warmup: int = 10
    start: float = 0.3
    end: float = 0.1
    share: float = 0.6
    repeat_step: float = 0.05
    noise: float = 0.1
    inherit: float = 0.7
    max_repeats: int = 100

    def __post_init__(self) -> None:
        _check("exploration.warmup", self.warmup, 0)
        for name in ("start", "end", "share", "repeat_step", "inherit"):
            _check(f"exploration.{name}", getattr(self, name), 0, 1)
        _check("exploration.noise", self.noise, 0)
        _check("exploration.max_repeats", self.max_repeats, 1)

    def warmup_of(self, evaluations: int) -> int:
        """Random episodes of a phase that may make so many evaluations."""
        return min(self.warmup, evaluations // 3)

    def epsilon(self, done: int, evaluations: int, repeats: int = 0) -> float:
        """The share of random steps in the next episode.

        Args:
            done: Plans that the phase has evaluated.
            evaluations: Plans that it may evaluate.
            repeats: Episodes since its last new plan.
        """
        warmup = self.warmup_of(evaluations)
        if done < warmup:
            return 1.0
        span = self.share * evaluations - warmup
        progress = min(1.0, (done - warmup) / span) if span > 0 else 1.0
        return min(1.0, self.start + progress * (self.end - self.start) + repeats * self.repeat_step)


@dataclass(frozen=True)
class LearningRecipe:
    """How the networks of a phase learn from its episodes.

    Attributes:
        net_arch: Widths of the hidden layers of every network.
        technique_rate: Learning rate of the Q-network over techniques.
        strength_rate: Learning rate of the actor and the critic of the strength.
        gamma: Discount of a step. Only a walk's end is rewarded, so 1 lets its first step see the reward in full.
        n_steps: Rewards summed before the target network is asked (Sutton & Barto 2018, eq. 7.1).
        tau: Share of the networks that moves into the target networks at every gradient step.
        batch_size: Transitions of a gradient step.
        gradient_steps: Gradient steps after an episode that brought a new plan.
        buffer_size: Transitions that are remembered; the oldest go.
    """

    net_arch: Sequence[int] = (64, 64)
    technique_rate: float = 1e-3
    strength_rate: float = 1e-3
    gamma: float = 1.0
    n_steps: int = 5
    tau: float = 0.05
    batch_size: int = 64
    gradient_steps: int = 20
    buffer_size: int = 50_000

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "buffer_size"):
            _check(f"learning.{name}", getattr(self, name), 1)
        for name in ("gamma", "tau", "technique_rate", "strength_rate"):
            _check(f"learning.{name}", getattr(self, name), 0, 1)
        _check("learning.gradient_steps", self.gradient_steps, 0)
        for width in self.net_arch:
            _check("learning.net_arch", width, 1)
