"""What a plan makes an engine execute, and what it makes a file hold."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import product

from torch import nn

from ..graph.fusion import Fusion, with_activation
from ..graph.graph import Graph, Operator
from ..graph.opspec import FREE_KINDS, OpSpec
from .bank import Bank
from .blocks import Block, find_blocks
from .channels import PlacedChannels
from .choice import KEEP, Choice
from .layers import CompressedLayer, absorber, parameter_count
from .plan import Plan
from .site import HEAD, Site
from .variant import Variant, state_bytes

__all__ = ["HEADER_BYTES", "Realiser", "count_parameters", "count_storage_bytes"]

#: Bytes that a model file spends on the name, type and place of one tensor.
HEADER_BYTES = 100


class Realiser:
    """Turns plans into the operators that an engine executes after its fusions.

    Args:
        graph: The original network's trace.
        fusion: What the engine merges.
        bank: The variants.
        skips_blocks: Whether the engine skips what block pruning took away; else such a layer is a dense one.
    """

    def __init__(self, graph: Graph, fusion: Fusion, bank: Bank, skips_blocks: bool = False) -> None:
        self._skips_blocks = skips_blocks
        self._graph = graph
        self._fusion = fusion
        self._bank = bank
        self._space = bank.space

    @cached_property
    def _site_at(self) -> dict[str, Site]:
        """Operator name -> the site of the layer that it calls."""
        by_module = {site.name: site for site in self._space.sites if site.is_layer}
        return {o.name: by_module[o.module] for o in self._graph.operators if o.module in by_module}

    @cached_property
    def _head_operators(self) -> tuple[str, ...]:
        """Names of the operators that a replaced head takes the place of, in order."""
        if HEAD not in self._space.positions:
            return ()
        layers = self._space.sites[self._space.positions[HEAD]].layers
        names = [operator.name for operator in self._graph.operators]
        first, last = (names.index(self._graph.calls(layer)[0].name) for layer in (layers[0], layers[-1]))
        return tuple(names[first : last + 1])

    @cached_property
    def _carried(self) -> dict[str, tuple[str, ...]]:
        """Operator name -> narrowing sites whose channels its output carries."""
        carried: dict[str, tuple[str, ...]] = {}
        for operator in self._graph.operators:
            site = self._site_at.get(operator.name)
            if site is not None and site.groups == 1:
                carried[operator.name] = self._narrowed_by.get(site.name, ())
            elif operator.module in self._placed:
                target = self._placed[operator.module].target
                carried[operator.name] = (target,) if target else ()
            else:
                sources = (name for source in operator.inputs for name in carried.get(source, ()))
                carried[operator.name] = tuple(dict.fromkeys(sources))
        return carried

    @cached_property
    def _narrowed_by(self) -> dict[str, tuple[str, ...]]:
        """Site name -> the narrowing site that decides its output channels: itself, or the width it writes into."""
        return {member: (name,) for name, group in self._space.groups.items() for member in group.members or (name,)}

    @cached_property
    def _placed(self) -> dict[str, PlacedChannels]:
        return {placed.path: placed for placed in self._space.placements}

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(block for block in find_blocks(self._graph) if block.name in self._space.positions)

    def operators(self, plan: Plan) -> tuple[Operator, ...]:
        """The operators that an engine executes for a plan, in order."""
        realised: list[Operator] = []
        replaced = self._head_operators if plan[HEAD] != KEEP else ()
        skipped = {name for block in self._blocks if plan[block.name] != KEEP for name in block.operators}
        standing_for: dict[str, str] = {}
        for operator in self._graph.operators:
            inputs = tuple(standing_for.get(name, name) for name in operator.inputs)
            if operator.name in skipped:
                standing_for[operator.name] = inputs[0]
                continue
            is_replaced = operator.name in replaced
            if operator.name in self._fusion.owner and not is_replaced:
                standing_for[operator.name] = self._fusion.owner[operator.name]
                continue
            specs = self._head_specs(operator, plan) if is_replaced else self._specs(operator, plan)
            if specs:
                realised.append(Operator(operator.name, operator.module, specs, inputs))
            else:
                standing_for[operator.name] = inputs[0]
        return tuple(realised)

    def site_operators(self, site: Site, plan: Plan) -> tuple[tuple[OpSpec, ...], int]:
        """What a plan executes and stores for one site, without headers and what batch-norms leave behind.

        Args:
            site: A site.
            plan: Choices at the site and its producers; the others do not matter.

        Returns:
            Its operators, and bytes.
        """
        variant = self._bank.variant(site, plan)
        if site.is_layer:
            (operator,) = self._graph.calls(site.name)
            stored = variant.storage_bytes if variant else 4 * operator.specs[0].weights
            return self._specs(operator, plan), stored
        if variant is None:
            return (), 0
        replaced = self._head_operators if site.kind == "head" else ()
        specs = tuple(spec for name in replaced for spec in self._head_specs(self._graph[name], plan))
        return specs, variant.storage_bytes

    def fixed_operators(self) -> Iterator[tuple[Operator, tuple[str, ...]]]:
        """Operators that no plan chooses or removes, with the narrowing sites whose channels they carry."""
        in_blocks = {name for block in self._blocks for name in block.operators}
        for operator in self._graph.operators:
            is_fixed = operator.name not in self._site_at and operator.name not in self._fusion.owner
            if is_fixed and operator.name not in in_blocks and operator.name not in self._head_operators:
                yield operator, self._decided_by(operator)

    def _decided_by(self, operator: Operator) -> tuple[str, ...]:
        """The narrowing sites that decide how many channels an operator without choices reads and gives."""
        placed = self._placed.get(operator.module)
        if placed is None:
            return self._carried[operator.name]
        return tuple(name for name in (placed.source, placed.target) if name)

    def operator_specs(self, operator: Operator, plan: Plan) -> tuple[OpSpec, ...]:
        """What a plan executes for one operator that is no site's."""
        return tuple(spec for spec in self._fixed_specs(operator, plan) if spec.kind not in FREE_KINDS)

    def _fixed_specs(self, operator: Operator, plan: Plan) -> tuple[OpSpec, ...]:
        if operator.module in self._placed:
            layer = self._bank.placement(self._placed[operator.module], plan)
            return layer.op_specs((layer.in_channels, *operator.specs[0].input_shape[1:]))
        return tuple(self._narrowed(operator, spec, plan) for spec in operator.specs)

    def output(self, plan: Plan) -> str:
        """Name of the operator, among those of a plan, whose output is the network's."""
        name = self._graph.output
        is_replaced = plan[HEAD] != KEEP and name in self._head_operators
        return name if is_replaced else self._fusion.owner.get(name, name)

    def specs(self, plan: Plan) -> tuple[OpSpec, ...]:
        """Descriptors of everything that takes time."""
        specs = (spec for operator in self.operators(plan) for spec in operator.specs)
        return tuple(spec for spec in specs if spec.kind not in FREE_KINDS)

    def covering_plans(self) -> Iterator[Plan]:
        """Plans that together lead to every operator that a variant of the bank or a narrowed input can cause."""
        yield self._space.keep_plan
        for site in self._space.sites:
            choices = self._space.choices[self._space.positions[site.name]]
            for state in self._space.states(site):
                made = self._space.made(site, state)
                is_open = self._space.open_choices(site, state)
                for choice in (c for c, possible in zip(choices, is_open, strict=True) if possible):
                    yield self._changing({**made, site.name: choice})
        for placed in self._space.placements:
            widths = [name for name in (placed.source, placed.target) if name]
            for narrowings in product(*(self._space.narrowings(name) for name in widths)):
                yield self._changing(self._space.narrowed(dict(zip(widths, narrowings, strict=True))))

    def _changing(self, choices: Mapping[str, Choice]) -> Plan:
        """The plan that makes these choices and keeps all other sites."""
        return Plan.of({site.name: choices.get(site.name, KEEP) for site in self._space.sites})

    def _specs(self, operator: Operator, plan: Plan) -> tuple[OpSpec, ...]:
        site = self._site_at.get(operator.name)
        if site is None:
            return self._fixed_specs(operator, plan)
        variant = self._bank.variant(site, plan)
        specs = self._executed(variant) if variant else operator.specs
        if operator.name in self._fusion.batch_norm:
            specs = (*specs[:-1], _with_bias(specs[-1]))
        activation = self._fusion.activation.get(operator.name)
        return with_activation(specs, self._graph[activation].spec.activation if activation else "")

    def _executed(self, variant: Variant) -> tuple[OpSpec, ...]:
        return variant.specs if self._skips_blocks else tuple(spec.dense for spec in variant.specs)

    def _narrowed(self, operator: Operator, spec: OpSpec, plan: Plan) -> OpSpec:
        """An operator without choices, on the channels that its producers leave."""
        gone = sum(self._gone(name, plan[name]) for name in self._carried[operator.name])
        if not gone:
            return spec
        if self._carries_units(operator):
            rest = spec.input_shape[:-1], spec.output_shape[:-1]
            shapes = ((*rest[0], spec.input_shape[-1] - gone), (*rest[1], spec.output_shape[-1] - gone))
            return spec.replace(input_shape=shapes[0], output_shape=shapes[1])
        if len(spec.input_shape) == 1 or len(spec.output_shape) == 1:
            return spec
        return spec.narrowed(spec.input_shape[0] - gone, spec.output_shape[0] - gone)

    def _carries_units(self, operator: Operator) -> bool:
        """Whether the operator's channels are a recurrent layer's hidden units, which come last in its shapes."""
        sites = self._space.sites
        return any(sites[self._space.positions[name]].kind == "recurrent" for name in self._carried[operator.name])

    def _gone(self, name: str, choice: Choice) -> int:
        site = self._space.sites[self._space.positions[name]]
        return site.out_channels - self._space.kept_channels(name, choice)

    def _head_specs(self, operator: Operator, plan: Plan) -> tuple[OpSpec, ...]:
        """A replaced head's own operators at its last layer; its activations now run on the feature map."""
        head = self._space.sites[self._space.positions[HEAD]]
        variant = self._bank.variant(head, plan)
        assert variant is not None
        if operator.module == head.layers[-1]:
            return self._executed(variant)
        if operator.kind != "activation":
            return ()
        features = self._space.narrowed_site(head, self._space.state(head, plan)).features[:1]
        return (operator.spec.replace(input_shape=features, output_shape=features),)


def _with_bias(spec: OpSpec) -> OpSpec:
    """A folded batch-norm leaves a bias behind."""
    return spec.replace(bias=True) if spec.kind in ("conv2d", "linear") else spec


def count_parameters(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> int:
    """Weights and biases once batch-norms are folded, without pruned ones.

    Args:
        network: With its batch-norms.
        pairs: Dotted paths of the layers and the batch-norms that are folded into them.
    """
    folded = list(_foldable(network, pairs))
    biases = sum(norm.num_features for layer, norm in folded if _lacks_bias(layer))
    return parameter_count(network) - sum(parameter_count(norm) for _, norm in folded) + biases


def count_storage_bytes(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> int:
    """Bytes of the model file once batch-norms are folded, within the few that its header's text varies by.

    Args:
        network: With its batch-norms.
        pairs: Dotted paths of the layers and the batch-norms that are folded into them.
    """
    folded = list(_foldable(network, pairs))
    biases = sum(norm.num_features for layer, norm in folded if _lacks_bias(layer))
    stored = state_bytes(network) - sum(state_bytes(norm) for _, norm in folded) + 4 * biases
    return stored + HEADER_BYTES * (len(network.state_dict()) - 4 * len(folded))


def _foldable(
    network: nn.Module, pairs: Iterable[tuple[str, str]]
) -> Iterable[tuple[nn.Module, nn.BatchNorm1d | nn.BatchNorm2d]]:
    for layer_path, norm_path in pairs:
        part, norm = absorber(network.get_submodule(layer_path)), network.get_submodule(norm_path)
        if part is not None and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            yield part, norm


def _lacks_bias(part: nn.Module) -> bool:
    return not isinstance(part, CompressedLayer) and part.bias is None
