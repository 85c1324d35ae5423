"""A traced network: its operators in order of execution, and who reads whom."""

from dataclasses import dataclass
from functools import cached_property

from .opspec import OpSpec, Shape

__all__ = ["INPUT", "Graph", "Operator"]

#: The name of the network's input among the names of operators.
INPUT = "input"


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a network.

    Attributes:
        name: Unique name within the graph.
        module: Dotted path of the layer that is called; "" for a function.
        specs: What an engine executes for it, in order; several where a layer consists of several operators.
        inputs: Names of the operators (or `INPUT`) whose outputs it reads.
    """

    name: str
    module: str
    specs: tuple[OpSpec, ...]
    inputs: tuple[str, ...]

    @property
    def spec(self) -> OpSpec:
        """The last of `specs`, whose output is the operator's output."""
        return self.specs[-1]

    @property
    def kind(self) -> str:
        """The kind of the last of `specs`."""
        return self.specs[-1].kind

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch axis."""
        return self.specs[-1].output_shape


@dataclass(frozen=True)
class Graph:
    """A network as a list of operators.

    Attributes:
        operators: In order of execution.
        input_shape: Shape of the network's input without the batch axis.
        output: Name of the operator whose output is the network's output.
        front_end: What traced it: "torch.fx" or "torch.export".
    """

    operators: tuple[Operator, ...]
    input_shape: Shape
    output: str
    front_end: str

    @cached_property
    def _by_name(self) -> dict[str, Operator]:
        return {operator.name: operator for operator in self.operators}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Operator, ...]]:
        readers: dict[str, list[Operator]] = {operator.name: [] for operator in self.operators}
        for operator in self.operators:
            for name in dict.fromkeys(operator.inputs):
                readers.setdefault(name, []).append(operator)
        return {name: tuple(operators) for name, operators in readers.items()}

    def __getitem__(self, name: str) -> Operator:
        return self._by_name[name]

    def consumers(self, name: str) -> tuple[Operator, ...]:
        """The operators that read the output of `name`."""
        return self._consumers[name]

    def calls(self, module: str) -> tuple[Operator, ...]:
        """The operators that call the layer at the dotted path `module`."""
        return tuple(operator for operator in self.operators if operator.module == module)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(spec.macs for operator in self.operators for spec in operator.specs)

    @property
    def parameters(self) -> int:
        """Elements of all weights and biases that operators read, a shared layer counted once."""
        counted: dict[str, int] = {}
        for operator in self.operators:
            counted[operator.module or operator.name] = sum(spec.parameters for spec in operator.specs)
        return sum(counted.values())
