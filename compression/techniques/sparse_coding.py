"""W2: the rows of a linear layer as sparse combinations of a few atoms."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import output_basis, solve_right
from ..layers import SparseCodec, StoredLayer
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import at_least_one, checked, shares_or_all
from .ranks import aligned, distinct

__all__ = ["SparseCoding"]

_ROUNDS = 6


class SparseCoding(Technique):
    """W ~ S D: a dense layer to k atoms, then a sparse one in which each output reads few of them.

    Dictionary learning in the norm of the outputs: codes by orthogonal matching pursuit (Pati et al. 1993), the
    dictionary by least squares given the codes (method of optimal directions, Engan et al. 1999), in turn; the start
    are the principal components of the outputs. Bhattacharya and Lane 2016 (SenSys) compress fully connected layers so;
    AdaDeep's W2. Engines execute S densely; the file holds its few values.

    Args:
        atoms: Numbers of atoms as shares of the outputs, each in (0, 1).
        active: Share of the atoms that an output reads, in (0, 1].
        atom_multiple: Atoms are rounded down to multiples of this.
    """

    name = "sparse_coding"

    def __init__(self, atoms: Sequence[float] = (0.5, 0.25), active: float = 0.25, atom_multiple: int = 8) -> None:
        self._atoms = checked("sparse_coding.atoms", atoms, "above 0", lambda share: share > 0)
        (self._active,) = shares_or_all("sparse_coding.active", active)
        (self._atom_multiple,) = at_least_one("sparse_coding.atom_multiple", atom_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.kind != "linear":
            return ()

        def saves(atoms: int) -> bool:
            stored = atoms * site.in_channels + site.out_channels * (self.active(atoms) + atoms / 32)
            return atoms < site.in_channels and stored < site.weights

        offered = (Choice.of(self.name, atoms=value) for value in self._atoms)
        return distinct(offered, lambda choice: self.atoms(site, choice), saves)

    def atoms(self, site: Site, choice: Choice) -> int:
        """Size of the dictionary."""
        return aligned(site.out_channels * float(choice["atoms"]), self._atom_multiple)

    def active(self, atoms: int) -> int:
        """How many atoms an output reads."""
        return max(1, round(atoms * self._active))

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight = weight_matrix(layer)
        factor = torch.linalg.cholesky(calibration.covariance)
        atoms = self.atoms(site, choice)
        start = output_basis(weight, calibration.covariance)[:, :atoms].T @ weight
        codes, whitened = _learn(weight @ factor, start @ factor, self.active(atoms))
        dictionary = torch.linalg.solve_triangular(factor, whitened, upper=False, left=False)
        first = nn.Linear(site.in_channels, atoms, bias=False)
        first.weight.copy_(dictionary)
        second = nn.Linear(atoms, site.out_channels)
        bias = corrected_bias(layer, codes @ dictionary, calibration)
        codec = SparseCodec.store(codes.float(), codes != 0)
        return nn.Sequential(first, StoredLayer.of(second, {"weight": codec}, {"bias": bias}))


def _learn(rows: Tensor, dictionary: Tensor, active: int) -> tuple[Tensor, Tensor]:
    """Codes (rows, atoms) with `active` entries a row, and the dictionary (atoms, K), for rows (rows, K)."""
    codes = _pursue(rows, dictionary, active)
    for _ in range(_ROUNDS):
        dictionary = solve_right((codes.T @ rows).T, codes.T @ codes).T
        # An atom that no row reads points nowhere: it becomes the row that is fitted worst.
        unused = (codes != 0).sum(0) == 0
        worst = (rows - codes @ dictionary).square().sum(1).argsort(descending=True)
        dictionary[unused] = rows[worst[: int(unused.sum())]]
        codes = _pursue(rows, dictionary, active)
    return codes, dictionary


def _pursue(rows: Tensor, dictionary: Tensor, active: int) -> Tensor:
    lengths = dictionary.norm(dim=1).clamp_min(1e-12)
    normalised = (dictionary / lengths[:, None]).T.numpy()
    with warnings.catch_warnings():
        # A row that is fitted before all its atoms are spent ends the pursuit early, which is no fault.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = orthogonal_mp(normalised, rows.T.numpy(), n_nonzero_coefs=active, precompute=True)
    codes: Tensor = torch.from_numpy(np.atleast_2d(found.T)).view(len(rows), -1) / lengths
    return codes
