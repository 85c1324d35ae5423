"""How the structure of a weight's zeros is written in the descriptor of its operator."""

import re
from dataclasses import dataclass

__all__ = ["BlockSparsity"]

_TEXT = re.compile(r"bcr:(\d{1,9})x(\d{1,9}):(\d{1,9}\.\d):r(\d{1,9})(?::g([34]))?")


@dataclass(frozen=True, slots=True)
class BlockSparsity:
    """Block column-row sparsity: what decides how long an operator takes on an engine that skips its zeros.

    Attributes:
        block_rows: Rows of a block of the weight's matrix (outputs, K).
        block_columns: Columns of a block.
        rate: How many times fewer weights are kept, to one decimal.
        kept_rows: Rows that a block keeps, in the mean over blocks that keep something.
        gates: Gates of a recurrent layer that keep the same, each of its matrices; 1 where they do not.
    """

    block_rows: int
    block_columns: int
    rate: float
    kept_rows: int
    gates: int = 1

    @property
    def text(self) -> str:
        """As descriptors hold it, such as "bcr:32x144:8.0:r12", or "bcr:32x144:8.0:r12:g3" with three gates alike."""
        gates = f":g{self.gates}" if self.gates > 1 else ""
        return f"bcr:{self.block_rows}x{self.block_columns}:{self.rate:.1f}:r{self.kept_rows}{gates}"

    @classmethod
    def parse(cls, text: str) -> "BlockSparsity | None":
        """The sparsity that a text describes; None where it describes another one."""
        found = _TEXT.fullmatch(text)
        if found is None or not (float(found[3]) >= 1 and int(found[1]) and int(found[2])):
            return None
        return cls(int(found[1]), int(found[2]), float(found[3]), int(found[4]), int(found[5] or 1))
