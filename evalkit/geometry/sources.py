"""Sources of pairs in the square, and how a partition codes them: by integrals where the density is known."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import ndtr

from evalkit.geometry.partition import Floats, Partition
from q2d2.errors import UserError

# Nodes of the double-exponential rule along each side of a cell (Takahasi and Mori 1974): it stands the density of
# tanh, which is flat but not analytic where a side ends at the square's.
NODES = 96
REACH = 8.5  # standard deviations beyond which a Gaussian has no probability in float64
LEAST_SIGMA, MOST_SIGMA = 0.05, 4.0


class SourceError(UserError, ValueError):
    """A source that cannot be measured; the message says why."""


@dataclass(frozen=True)
class Coding:
    """How a source is coded. `probability` (n,) of each code; `mse`: mean squared error per channel."""

    probability: Floats
    mse: float

    @property
    def entropy(self) -> float:
        """Bits a pair."""
        used = self.probability[self.probability > 0]
        return float(max(0.0, -(used * np.log2(used)).sum()))


class Source(ABC):
    """Pairs in [-1, 1]^2.

    Attributes:
        name: of files and tables.
        variance: of one channel.
        differential_entropy: of a pair in bits; None where it is not known.
    """

    name: str
    variance: float
    differential_entropy: float | None

    @abstractmethod
    def code(self, cells: Partition) -> Coding:
        """Probability of every cell and the mean squared error."""


def double_exponential(count: int) -> tuple[Floats, Floats]:
    """Nodes in (-1, 1) and weights, (count,) each, of the double-exponential rule; the weights sum to 2 up to 1e-12."""
    step = np.linspace(-3.2, 3.2, count)
    inner = np.pi / 2 * np.sinh(step)
    return np.tanh(inner), (step[1] - step[0]) * np.pi / 2 * np.cosh(step) / np.cosh(inner) ** 2


class _Independent(Source):
    """Two independent channels with one density, written with a variable in which that density is smooth.

    Integrals over a polygon become integrals along its sides (Green's theorem), where all but one dimension is the
    distribution function in closed form.
    """

    @abstractmethod
    def to_variable(self, values: Floats) -> Floats: ...

    @abstractmethod
    def to_value(self, variable: Floats) -> Floats: ...

    @abstractmethod
    def density(self, variable: Floats) -> Floats:
        """Of the variable."""

    @abstractmethod
    def distribution(self, values: Floats) -> Floats:
        """Probability of at most a value in [-1, 1]."""

    def code(self, cells: Partition) -> Coding:
        starts, ends, owner = cells.edges
        probability, error = np.zeros(len(cells.points)), np.zeros(len(cells.points))
        nodes, weights = double_exponential(NODES)
        for axis, sign in ((0, -1.0), (1, 1.0)):
            other = 1 - axis
            length = ends[:, axis] - starts[:, axis]
            along = np.abs(length) > 1e-12  # nothing flows through a side across the axis
            start, end, code, length = starts[along], ends[along], owner[along], length[along, None]
            first, last = self.to_variable(start[:, axis])[:, None], self.to_variable(end[:, axis])[:, None]
            variable = first + (last - first) * (nodes + 1) / 2
            value = self.to_value(variable)
            slope = (end[:, other] - start[:, other])[:, None] / length
            height = np.clip(start[:, other, None] + (value - start[:, axis, None]) * slope, -1, 1)
            flow = sign * self.distribution(height) * self.density(variable) * weights * (last - first) / 2
            off = value - cells.points[code, axis, None]
            error += np.bincount(code, (flow * off**2).sum(axis=1), len(error))
            probability += np.bincount(code, flow.sum(axis=1), len(error)) / 2  # both axes give it
        return Coding(np.maximum(probability, 0), float(error.sum() / 2))


class Uniform(_Independent):
    """Evenly spread over the square."""

    name = "uniform"
    variance = 1 / 3
    differential_entropy = 2.0

    def to_variable(self, values: Floats) -> Floats:
        return values

    def to_value(self, variable: Floats) -> Floats:
        return variable

    def density(self, variable: Floats) -> Floats:
        return np.full_like(variable, 0.5)

    def distribution(self, values: Floats) -> Floats:
        return (values + 1) / 2


class GaussianTanh(_Independent):
    """tanh of independent normal channels with standard deviation `sigma`.

    Raises:
        SourceError: sigma is not within [0.05, 4].
    """

    def __init__(self, sigma: float) -> None:
        if not LEAST_SIGMA <= sigma <= MOST_SIGMA:
            raise SourceError(f"sigma {sigma:g}: expected a standard deviation from {LEAST_SIGMA} to {MOST_SIGMA:g}")
        self.sigma = sigma
        self.name = f"gaussian-tanh-{sigma:g}"
        nodes, weights = np.polynomial.legendre.leggauss(512)
        variable = REACH * nodes
        share = REACH * weights * self.density(variable)
        self.variance = float(share @ self.to_value(variable) ** 2)
        scaled = np.abs(sigma * variable)
        log_slope = 2 - 2 / math.log(2) * (scaled + np.log1p(np.exp(-2 * scaled)))  # log2 of the derivative of tanh
        normal = 0.5 * math.log2(2 * math.pi * math.e * sigma**2)
        self.differential_entropy = 2 * (normal + float(share @ log_slope))

    def to_variable(self, values: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.clip(np.arctanh(np.clip(values, -1, 1)) / self.sigma, -REACH, REACH)

    def to_value(self, variable: Floats) -> Floats:
        return np.tanh(self.sigma * variable)

    def density(self, variable: Floats) -> Floats:
        return np.exp(-(variable**2) / 2) / math.sqrt(2 * math.pi)

    def distribution(self, values: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return ndtr(np.arctanh(values) / self.sigma)


class Recorded(Source):
    """Pairs that were recorded (see `evalkit.geometry.latents`), each as likely as any other.

    Args:
        pairs: (n, 2) in units of the square; those slightly beyond it count too.
    """

    name = "recorded"
    differential_entropy = None

    def __init__(self, pairs: Floats) -> None:
        self.pairs = pairs

    @cached_property
    def variance(self) -> float:  # type: ignore[override]
        return float(self.pairs.var(axis=0).mean())

    def code(self, cells: Partition) -> Coding:
        half = torch.tensor(cells.tiling.half_span, dtype=torch.float64)
        indices = cells.tiling.nearest(torch.from_numpy(self.pairs) * half)[1].numpy()
        counts = np.bincount(indices, minlength=len(cells.points))
        return Coding(counts / counts.sum(), float(np.square(self.pairs - cells.points[indices]).mean()))
