"""Sums over state units: vectors of rows of some gates times the state of a recurrent layer."""

from dataclasses import dataclass

from .decoding import C_TYPES, loaded, prefetched

__all__ = ["StateKernel"]


@dataclass(frozen=True)
class StateKernel:
    """A function for vectors of rows that share columns times the state, the state's numbers loaded once.

    Attributes:
        gates: Vectors of rows.
        copies: Columns that are computed at once, each with sums of its own, so that no multiplication waits for
            another.
        prefetches: Whether the weights are fetched ahead.
        index_type: C type of the columns' offsets.
        weight_type: Of the weights.
    """

    gates: int
    copies: int
    prefetches: bool
    index_type: str
    weight_type: str

    @property
    def name(self) -> str:
        """Of the C function."""
        kind = f"{self.gates}_by_{self.copies}_{self.index_type.removesuffix('_t')}_{self.weight_type}"
        return f"state_products_{kind}{'_far' if self.prefetches else ''}"

    def text(self) -> str:
        """The C function."""
        gates, copies, weight_type = range(self.gates), range(self.copies), self.weight_type
        sums = [(gate, copy) for gate in gates for copy in copies]
        inputs = f"const float *h, const {self.index_type} *columns"
        weights = ", ".join(f"const {C_TYPES[weight_type]} *w{gate}" for gate in gates)
        results = ", ".join(f"v *restrict p{gate}" for gate in gates)
        lines = [
            f"INLINE void {self.name}({inputs}, {weights}, int count, {results}) {{",
            *(f"  v a{gate}_{copy} = splat(0.0f);" for gate, copy in sums),
            "  int c = 0;",
            f"  for (; c + {self.copies} <= count; c += {self.copies}) {{",
            *(f"    const v x{copy} = splat(h[columns[c + {copy}]]);" for copy in copies),
            *(
                f"    {prefetched(weight_type, f'w{gate} + c * L', f'{self.copies} * L')}"
                for gate in (gates if self.prefetches else ())
            ),
            *(
                f"    a{gate}_{copy} += {loaded(weight_type, f'w{gate} + (c + {copy}) * L')} * x{copy};"
                for gate, copy in sums
            ),
            "  }",
            "  for (; c < count; c++) {",
            "    const v x0 = splat(h[columns[c]]);",
            *(f"    a{gate}_0 += {loaded(weight_type, f'w{gate} + c * L')} * x0;" for gate in gates),
            "  }",
            *(f"  *p{gate} = {' + '.join(f'a{gate}_{copy}' for copy in copies)};" for gate in gates),
            "}\n",
        ]
        return "\n".join(lines)
