"""Timing whole networks on this machine: what the sum of their operators is judged and corrected by."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import nn

from ..compression.assembly import assemble, fold_batch_norms
from ..compression.bank import Bank
from ..compression.plan import Plan
from ..compression.realised import Realiser
from ..compression.spread import spread_plans
from ..compression.survey import Survey
from ..files import content_hash
from ..graph.integers import with_conversions
from ..graph.opspec import OpSpec
from ..hw_models.cost import skips_blocks
from ..hw_models.predictors.measurement import Measurement
from ..hw_models.profiled_device import ProfiledDevice
from ..hw_models.profiling.adaptive import Sampling, time_until_tight
from ..hw_models.profiling.steady import Passes
from ..hw_models.profiling.timing import Timing, one_processor, summarise
from ..hw_models.runtimes.runtime import CompilesAhead, Executable, Runtime
from ..hw_models.tables.correction import FEWEST_NETWORKS
from ..progress import step
from ..tasks.task import Task
from .output_grids import with_output_grids

__all__ = ["NetworkTimer", "learn_networks"]

#: Each network is measured so often, at different times and in other company; the middle one counts.
_PASSES = 3

#: Networks whose weights together take more memory than this are prepared anew for each pass.
_KEPT_BYTES = 2**31

#: Networks that take turns, beside the original.
_GROUP = 7

#: Networks decide what the sum of operators is worth: they are measured more closely than a single operator.
_SAMPLING = Sampling(15, 45, 0.02)

#: Images whose activations 8-bit outputs get their grids from; latency does not depend on them.
_IMAGES = 32

#: Of the plans that a device learns from; a search draws others.
_SEED = 4711

#: Draws of plans before it is believed that a space has no more networks.
_DRAWS = 4


class NetworkTimer:
    """Measures plans as whole networks, at batch size 1.

    Networks are timed as they come from the bank: refitting or fine-tuning them changes their weights and not their
    operators.

    Args:
        task: The original network and its data.
        survey: Its search space.
        bank: The variants.
        runtime: The engine.
    """

    def __init__(self, task: Task, survey: Survey, bank: Bank, runtime: Runtime) -> None:
        self._task = task
        self._survey = survey
        self._bank = bank
        self._runtime = runtime
        self._realiser = Realiser(survey.graph, survey.fusion, bank, skips_blocks(runtime))

    @property
    def original(self) -> Plan:
        """The plan that changes nothing."""
        return self._survey.space.keep_plan

    def operators(self, plan: Plan) -> tuple[OpSpec, ...]:
        """What the engine executes for a plan, in order; conversions between number formats included."""
        operators = with_conversions(self._realiser.operators(plan), self._runtime.keeps_integers)
        return tuple(spec for operator in operators for spec in operator.specs)

    def label(self, plan: Plan) -> str:
        """The name of a plan's measurement in a table: equal for plans whose operators are."""
        return content_hash("\n".join(op.key for op in self.operators(plan)))[:16]

    def different(self, count: int) -> dict[str, Plan]:
        """Label -> plan of the original and a spread of others, each of whose operators differ.

        Args:
            count: How many; fewer where the space has fewer.
        """
        space = self._survey.space
        found = {self.label(self.original): self.original}
        for draw in range(_DRAWS):
            for plan in spread_plans(space, count, _SEED + draw):
                if len(found) < count:
                    found.setdefault(self.label(plan), plan)
        return found

    def measure(self, plans: Sequence[Plan], title: str, sampling: Sampling = _SAMPLING) -> list[Measurement]:
        """Measure plans in groups that take turns with the original.

        A plan's latency is its ratio to the original beside it times the original's over all groups, so that a change
        of the machine's speed between two groups is no difference between their plans. Groups that met a slower machine
        are measured again.

        Args:
            plans: What to measure.
            title: Of the progress.
            sampling: How often in each pass.
        """
        passes: Passes[Plan, Timing] = Passes(_GROUP)
        are_kept = self._weights_bytes * len(plans) <= _KEPT_BYTES
        executable = cache(self._executable) if are_kept else self._executable
        self._compile_ahead(plans)
        original = self._executable(self.original)
        with step(title, _PASSES * len(plans)) as advance:
            for number, group in passes.over(plans, _PASSES):
                calls = [original, *map(executable, group)]
                with one_processor(self._runtime.threads):
                    samples = time_until_tight(calls, sampling)
                original_ms = summarise(samples[0]).median_ms
                advance(0 if passes.knows(number) else len(group))
                passes.take(number, original_ms, [summarise(row / original_ms) for row in samples[1:]])
        usual_ms, found = passes.reference_ms, passes.results()
        return [self._measurement(plan, found[plan], usual_ms) for plan in plans]

    def _compile_ahead(self, plans: Sequence[Plan]) -> None:
        """Let an engine that compiles do so on all processors, while nothing is timed."""
        if isinstance(self._runtime, CompilesAhead):
            with step("compiling networks", len(plans)) as advance:
                for _ in self._runtime.compile_networks_ahead(map(self.network, plans), self._task.example_input):
                    advance()

    def _measurement(self, plan: Plan, relative: Sequence[Timing], original_ms: float) -> Measurement:
        """A plan's measurement from its latencies relative to the original's, one for each pass."""
        middle = sorted(relative, key=lambda timing: timing.median_ms)[len(relative) // 2]
        samples = sum(timing.samples for timing in relative)
        figures = middle.median_ms * original_ms, middle.std_ms * original_ms, samples
        return Measurement(self.operators(plan), *figures, self.label(plan))

    @property
    def _weights_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._task.model.state_dict().values())

    def _executable(self, plan: Plan) -> Executable:
        return self._runtime.network(self.network(plan), self._task.example_input)

    def network(self, plan: Plan) -> nn.Module:
        """The network of a plan as the engine gets it."""
        # Fresh layers draw their first weights; who measures must not change what a search draws.
        with torch.random.fork_rng(devices=[]):
            network = assemble(self._task.model, plan, self._bank)
        network = fold_batch_norms(network, self._survey.batch_norm_pairs)
        if self._runtime.keeps_integers:
            inputs = self._task.calibrate.inputs(slice(0, _IMAGES))
            network = with_output_grids(network, self._survey.graph, self._survey.fusion, inputs)
        return network


def learn_networks(timer: NetworkTimer, device: ProfiledDevice) -> None:
    """Measure as many networks of a space as the device wants and does not know yet.

    Args:
        timer: Of the search space, on the device's engine.
        device: Is prepared for the operators of the space.
    """
    if not device.networks:
        return
    wanted = timer.different(device.networks)
    missing = [plan for label, plan in wanted.items() if not device.knows_network(label)]
    if len(wanted) >= FEWEST_NETWORKS:
        device.learn(timer.measure(missing, "measuring whole networks") if missing else [], wanted)
