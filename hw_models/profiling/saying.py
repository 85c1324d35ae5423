"""Telling the user how far the measurements can be trusted."""

from collections.abc import Mapping

from ...graph.opspec import OpSpec
from ...progress import console
from .adaptive import Sampling
from .noise import Noise

__all__ = ["noise_text", "say_trust"]


def noise_text(noise: Noise | None) -> str:
    """One sentence on how quiet the machine was."""
    if noise is None:
        return "nobody watched the machine while it was measured"
    if not noise.reasons:
        return "the machine was quiet while it was measured"
    return f"the machine was noisy while it was measured: {'; '.join(noise.reasons)}"


def say_trust(noise: Noise | None, unsettled: Mapping[OpSpec, float], measured: int, sampling: Sampling) -> None:
    """Print a warning where the machine was noisy or medians stayed uncertain; nothing where all is well.

    Args:
        noise: What disturbed the machine.
        unsettled: Operator -> relative half width of its median's interval.
        measured: How many operators were measured.
        sampling: How they were.
    """
    if noise is not None and noise.reasons:
        console.print(f"[yellow]{noise_text(noise)}[/yellow]", soft_wrap=True)
    if unsettled:
        worst = max(unsettled, key=unsettled.__getitem__)
        console.print(
            f"[yellow]{len(unsettled)} of {measured} operators are uncertain by more than "
            f"{sampling.tolerance:.1%} after {sampling.max_rounds} rounds; the worst by {unsettled[worst]:.1%}: "
            f"{worst.key}[/yellow]",
            soft_wrap=True,
        )
