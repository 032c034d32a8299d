"""Student's t for a difference whose error has two sources, each known from few draws of its own: seeds and speakers.

With variances a and b, estimated with m and n degrees of freedom, what is compared with the difference is the sum of
two independent t variables, sqrt(a) t_m + sqrt(b) t_n (Behrens, Landwirtschaftliche Jahrbücher 1929; Fisher, Annals of
Eugenics 1935). It errs to the safe side (Robinson, Annals of Statistics 1976). One t with Satterthwaite's degrees of
freedom does not: where few seeds agree by chance it takes the many degrees of freedom of the speakers.

The sum's tail is one integral, since m a / U + n b / W with independent chi-squares U and W is, for U / (U + W) = B of
a beta distribution, a multiple of 1 / (U + W): a t variable with m + n degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A variance and its degrees of freedom (> 0).
Source = tuple[float, float]
MOST_STEP = 0.6  # of the integral; its error is exp(-2 pi^2 / step)


def two_sided_p(difference: ArrayLike, sources: Sequence[tuple[ArrayLike, float]]) -> NDArray[np.float64]:
    """p of the test that the true value of `difference` is 0.

    Args:
        difference: any shape.
        sources: one or two: variances (of the shape of `difference`, >= 0, not all 0) and their degrees of freedom.
    """
    from scipy import special

    distance = np.abs(np.asarray(difference, np.float64))
    variances = [np.asarray(variance, np.float64) for variance, _ in sources]
    freedoms = [float(df) for _, df in sources]
    if len(sources) == 1:
        return np.asarray(2 * special.stdtr(freedoms[0], -distance / np.sqrt(variances[0])))
    first, second, weights = _nodes(*freedoms)
    p = np.zeros(distance.shape)
    for a, b, weight in zip(first.tolist(), second.tolist(), weights.tolist(), strict=True):
        spread = np.sqrt((variances[0] * a + variances[1] * b) / sum(freedoms))
        p += weight * special.stdtr(sum(freedoms), -distance / spread)
    return np.minimum(2 * p, 1.0)


def half_width(sources: Sequence[Source], level: float) -> float:
    """Half of the interval at `level` (in (0, 1)): the difference at which p is 1 - level."""
    from scipy import optimize, special

    widths = [math.sqrt(variance) * float(special.stdtrit(df, (1 + level) / 2)) for variance, df in sources]
    if len(sources) == 1 or min(widths) == 0:
        return max(widths)
    (a, m), (b, n) = sources
    first, second, weights = _nodes(m, n)
    heavy = weights > 1e-13  # what is left out matters to the smallest p alone
    spread, weights = np.sqrt((a * first + b * second)[heavy] / (m + n)), weights[heavy]
    scale = max(widths)

    def missing(multiple: float) -> float:
        return 2 * float(weights @ special.stdtr(m + n, -multiple * scale / spread)) - (1 - level)

    most = 1.5
    while missing(most) > 0:
        most *= 1.5
    return scale * float(optimize.brentq(missing, 0.9, most, xtol=1e-9, rtol=1e-9))


@lru_cache(maxsize=256)
def _nodes(m: float, n: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """m / B, n / (1 - B) and weights: the trapezoidal rule over the logit of B, exact to rounding as all is smooth."""
    from scipy import special

    middle = float(special.digamma(m / 2) - special.digamma(n / 2))
    deviation = math.sqrt(float(special.polygamma(1, m / 2) + special.polygamma(1, n / 2)))
    step = min(MOST_STEP, 0.6 * deviation)
    # Beyond nine deviations the density falls as exp(-m / 2 |x|) and exp(-n / 2 |x|).
    ends = -9 * deviation - 80 / m, 9 * deviation + 80 / n
    logits = middle + step * np.arange(math.floor(ends[0] / step), math.ceil(ends[1] / step) + 1)
    logs = (m * special.log_expit(logits) + n * special.log_expit(-logits)) / 2
    weights = np.exp(logs - special.betaln(m / 2, n / 2)) * step
    kept = weights > 0
    logits, weights = logits[kept], weights[kept]
    return m * (1 + np.exp(-logits)), n * (1 + np.exp(logits)), weights
