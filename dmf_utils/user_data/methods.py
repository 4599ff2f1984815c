"""The methods that complete a matrix: each chooses by validation entries, and is fitted again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.norms import effective_rank
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.user_data.early_stopping import EarlyStopping, early_stopping
from dmf_utils.user_data.keeping import Kept
from dmf_utils.user_data.offsets import Center, Offsets, fit_offsets, shrinkages
from dmf_utils.user_data.soft_impute import SoftImpute, soft_impute, soft_impute_path

__all__ = ["Biases", "Flow", "Method", "Penalty", "Prediction", "Values"]

_LONGEST = 3.0  # times of the run that was stopped early, in which it must repeat itself
_NO_CHOICE = (5.0, 5.0)  # shrinkage where no validation entry can choose it


@dataclass(frozen=True)
class Values:
    """All observed entries in the unit of the computation: places ``(m,)`` and values ``(m,)``."""

    i: np.ndarray
    j: np.ndarray
    z: np.ndarray
    shape: tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """Offsets, and `unit` times the product of factors ``[W_1, ..., W_N]``, or nothing more."""

    offsets: Offsets
    factors: list[Tensor] = field(default_factory=list)
    unit: float = 1.0
    n_gradients: int = 0

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """At entries."""
        found = self.offsets.at(i, j)
        return found + self.unit * at_entries(self.factors, i, j) if self.factors else found

    def matrix(self) -> np.ndarray:
        """The whole matrix."""
        if not self.factors:
            sizes = len(self.offsets.rows), len(self.offsets.columns)
            return self.offsets.add_to(np.zeros(sizes))
        return self.offsets.add_to(product_matrix(self.factors).numpy() * self.unit)

    def singular_values(self) -> Tensor:
        """Of the product matrix; of the offsets where there is none. By factors alone."""
        factors = self.factors or self.offsets.factors()
        if len(factors) == 1:
            return self.unit * torch.linalg.svdvals(factors[0])
        left, right = factors[-1], product_matrix(factors[:-1])
        core = torch.linalg.qr(left).R @ torch.linalg.qr(right.T).R.T
        return self.unit * torch.linalg.svdvals(core)

    def effective_rank(self) -> float:
        """Of the same matrix."""
        return float(effective_rank(torch.diag(self.singular_values())))


def at_entries(factors: Sequence[Tensor], i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The product matrix at some entries, from the factors."""
    if len(factors) == 1:
        return factors[0].numpy()[i, j]
    left, right = factors[-1], product_matrix(factors[:-1]).T.contiguous()
    found = [
        (left[i[at : at + 20_000]] * right[j[at : at + 20_000]]).sum(1)
        for at in range(0, len(i), 20_000)
    ]
    return torch.cat(found).numpy() if found else np.zeros(0)


class Method(Protocol):
    """What `complete` asks of a method.

    Attributes
    ----------
    name : str
    end : str
        How the choice ended, for a person.
    """

    name: str
    end: str

    def choose(self, values: Values, fitted: np.ndarray, validation: np.ndarray) -> float:
        """Choose what is free; the mean squared error on the validation entries, NaN if none."""
        ...

    def fit(self, values: Values, which: np.ndarray) -> Prediction:
        """Fit to the entries at the positions `which`, as was chosen."""
        ...


class Biases:
    """Mean and biases; with ``"mean"`` or ``"none"`` just that."""

    def __init__(self, center: Center) -> None:
        self.center, self.shrinkage, self.end = center, _NO_CHOICE, ""
        kinds = {"none": "zero", "mean": "mean", "both": "biases"}
        self.name = kinds.get(center, f"{center[:-1]} means")
        self.prefix = "" if center == "none" else f"{self.name} + "

    def choose(self, values: Values, fitted: np.ndarray, validation: np.ndarray) -> float:
        if not len(validation):
            return math.nan
        errors = {}
        for pair in shrinkages(self.center):
            self.shrinkage = pair
            left = values.z - self.fit(values, fitted).at(values.i, values.j)
            errors[pair] = float(np.mean(left[validation] ** 2))
        self.shrinkage = min(errors, key=errors.__getitem__)
        if self.center in ("rows", "columns", "both"):
            self.end = f"shrinkage {self.shrinkage[0]:g}, {self.shrinkage[1]:g}"
        return errors[self.shrinkage]

    def fit(self, values: Values, which: np.ndarray) -> Prediction:
        at = values.i[which], values.j[which], values.z[which]
        return Prediction(fit_offsets(*at, values.shape, self.center, self.shrinkage))


class _LowRank:
    """A matrix of low rank for what the biases leave, in units of its root mean square."""

    def __init__(self, biases: Biases, name: str) -> None:
        self.biases, self.name, self.end = biases, biases.prefix + name, ""

    def left(
        self, values: Values, which: np.ndarray
    ) -> tuple[Offsets, float, np.ndarray, MatrixCompletion]:
        """Offsets, unit, what they leave of all entries, and the problem of those `which`."""
        offsets = self.biases.fit(values, which).offsets
        left = values.z - offsets.at(values.i, values.j)
        unit = math.sqrt(float(np.mean(left[which] ** 2))) or 1.0
        i, j, left = (torch.from_numpy(x) for x in (values.i, values.j, left / unit))
        at = torch.from_numpy(which)
        problem = MatrixCompletion.from_entries(i[at], j[at], left[at], values.shape)
        return offsets, unit, left.numpy(), problem


class Penalty(_LowRank):
    """Nuclear norm penalty, its strength chosen along a path."""

    def __init__(self, biases: Biases, rank: int, dtype: torch.dtype) -> None:
        super().__init__(biases, "nuclear norm penalty")
        self.rank, self.dtype = rank, dtype
        self.chosen: SoftImpute | None = None

    def choose(self, values: Values, fitted: np.ndarray, validation: np.ndarray) -> float:
        _, unit, left, problem = self.left(values, fitted)
        judged = validation if len(validation) else fitted

        def error(found: SoftImpute) -> float:
            seen = at_entries(found.factors, values.i[judged], values.j[judged])
            return float(np.mean((seen - left[judged]) ** 2))

        path = list(soft_impute_path(problem, self.rank, error, self.dtype))
        self.chosen, least = min(path, key=lambda pair: pair[1])
        rank = int((self.chosen.s > 0).sum())
        self.end = f"penalty {self.chosen.penalty:.3g}, rank {rank}"
        return unit**2 * least if len(validation) else math.nan

    def fit(self, values: Values, which: np.ndarray) -> Prediction:
        offsets, unit, _, problem = self.left(values, which)
        found = soft_impute(problem, self.chosen.penalty, self.rank, self.chosen, dtype=self.dtype)
        return Prediction(offsets, found.factors, unit)


class Flow(_LowRank):
    """Gradient flow at a depth, with early stopping."""

    def __init__(
        self, biases: Biases, depth: int, start: gaussian, options: dict[str, object], kept: Kept
    ) -> None:
        super().__init__(biases, f"depth {depth}")
        self.depth, self.start, self.options, self.kept = depth, start, options, kept
        self.run: EarlyStopping | None = None
        self.unit, self.n_fitted = 1.0, 0

    def choose(self, values: Values, fitted: np.ndarray, validation: np.ndarray) -> float:
        _, self.unit, left, problem = self.left(values, fitted)
        self.n_fitted = len(fitted)
        i, j, seen = values.i[validation], values.j[validation], left[validation]

        def error(factors: Sequence[Tensor]) -> float:
            return float(np.mean((at_entries(factors, i, j) - seen) ** 2))

        self.run = self.kept.run(
            (self.name, "validation"),
            lambda: early_stopping(
                problem,
                self.depth,
                self.start,
                error if len(validation) else None,
                **self.options,
            ),
        )
        self.end = self.run.end
        return self.unit**2 * min((e for _, e in self.run.looks), default=math.nan)

    def fit(self, values: Values, which: np.ndarray) -> Prediction:
        offsets, unit, _, problem = self.left(values, which)
        if self.run.is_early and self.run.time == 0:
            return Prediction(offsets, self.run.factors, unit, self.run.n_gradients)
        options, until_time = dict(self.options), None
        if self.run.is_early:
            loss, error = min(self.run.looks, key=lambda look: look[1])
            # Half of what lies between the two is overfitting, and that falls with the entries.
            share = 1 - self.n_fitted / len(which)
            options["until_loss"] = loss + 0.5 * share * max(error - loss, 0.0)
            until_time = _LONGEST * self.run.time

        def again() -> EarlyStopping:
            run = gradient_flow(problem, self.depth, self.start, until_time=until_time, **options)
            return EarlyStopping(run.factors, run.time, run.n_gradients, [], "", False)

        run = self.kept.run((self.name, f"again {len(which)}"), again)
        n_gradients = self.run.n_gradients + run.n_gradients
        return Prediction(offsets, run.factors, unit, n_gradients)
