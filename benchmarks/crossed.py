"""How often 95 % intervals over seeds and utterances hold the true difference of two systems, on simulated scores.

Baseline: the bootstrap over speakers of the differences averaged over seeds (`evalkit.statistics`), which takes the
seeds at hand for all there are.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.timing import hardware, interleaved_medians, print_figure
from evalkit.crossed import CrossedEstimate, Scores, crossed_estimate
from evalkit.curves import compare_curves
from evalkit.statistics import Interval, bootstrap_mean

SIZES = np.array([1] * 11 + [2] * 6 + [3] * 6 + [4] * 4)  # utterances of 27 speakers: 57
SPEAKERS = np.repeat(np.arange(SIZES.size), SIZES)
UTTERANCES = [f"u{number:02}" for number in range(SPEAKERS.size)]
# Variances of the difference between speakers, between utterances of one speaker, and of each score.
SPEAKER = UTTERANCE = RESIDUAL = 1.0
TRUE_DIFFERENCE = 0.5


def draw(rng: np.random.Generator, repeats: int, seeds: int, seed_variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two systems, (repeats, seeds, utterances) each.

    What makes a seed lucky or an utterance hard for both is far larger than what they differ in, and is in both.
    """
    shared = 3 * (rng.standard_normal((repeats, seeds, 1)) + rng.standard_normal((repeats, 1, SPEAKERS.size)))
    difference = (
        TRUE_DIFFERENCE
        + np.sqrt(seed_variance) * rng.standard_normal((repeats, seeds, 1))
        + np.sqrt(SPEAKER) * rng.standard_normal((repeats, 1, SIZES.size))[:, :, SPEAKERS]
        + np.sqrt(UTTERANCE) * rng.standard_normal((repeats, 1, SPEAKERS.size))
        + np.sqrt(RESIDUAL) * rng.standard_normal((repeats, seeds, SPEAKERS.size))
    )
    return shared + difference, np.broadcast_to(shared, difference.shape)


def true_error(seeds: int, seed_variance: float) -> float:
    """Standard deviation of the mean difference over many such test sets and seeds."""
    count = SPEAKERS.size
    speakers = SPEAKER * float(np.square(SIZES).sum()) / count**2
    return float(np.sqrt(seed_variance / seeds + speakers + UTTERANCE / count + RESIDUAL / (seeds * count)))


def crossed(a: np.ndarray, b: np.ndarray) -> CrossedEstimate:
    systems = [Scores(values, range(len(values)), UTTERANCES, SPEAKERS.tolist()) for values in (a, b)]
    return crossed_estimate(lambda means: means[0] - means[1], systems)


def without_seeds(a: np.ndarray, b: np.ndarray) -> Interval:
    return bootstrap_mean((a - b).mean(axis=0), clusters=SPEAKERS.tolist(), resamples=1000)


def ends(interval: CrossedEstimate | Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crossed", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated test sets a line (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5], help="training seeds (default: 2 3 5)")
    parser.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        default=[0, 0.1, 1, 4],
        help="variance between seeds, in units of that between speakers (default: 0 0.1 1 4)",
    )
    options = parser.parse_args()
    if options.repeats < 1 or min(options.seeds) < 2 or min(options.ratios) < 0:
        parser.error("needs --repeats >= 1, --seeds >= 2 and --ratios >= 0")

    print(hardware())
    print(
        f"{SIZES.size} speakers, {SPEAKERS.size} utterances, {options.repeats:,} repeats: a coverage of 95 % is", end=""
    )
    print(f" uncertain by {196 * np.sqrt(0.95 * 0.05 / options.repeats):.1f} points")
    print(
        "ratio: variance between seeds to that between speakers; by seeds: their share of the estimate's true variance"
    )
    print("width: median half-width, 1 where the true variance is known (1.96 standard errors)")
    print(f"{'seeds':>5}{'ratio':>7}{'by seeds':>10}{'crossed':>9}{'width':>7}{'speakers only':>15}{'width':>7}")
    rng = np.random.default_rng(0)
    figures: dict[str, float] = {}
    for seeds in options.seeds:
        for ratio in options.ratios:
            pairs = list(zip(*draw(rng, options.repeats, seeds, ratio * SPEAKER), strict=True))
            error = true_error(seeds, ratio * SPEAKER)
            share = ratio * SPEAKER / seeds / error**2
            line = f"{seeds:>5}{ratio:>7g}{share:>10.0%}"
            for name, method, places in (("crossed", crossed, 9), ("speakers_only", without_seeds, 15)):
                low, high = np.array([ends(method(a, b)) for a, b in pairs]).T
                coverage = float(np.mean((low <= TRUE_DIFFERENCE) & (high >= TRUE_DIFFERENCE)))
                width = float(np.median(high - low)) / 2 / 1.96 / error
                figures[f"crossed.coverage.{name}.{seeds}seeds.{ratio:g}to1"] = coverage
                figures[f"crossed.width.{name}.{seeds}seeds.{ratio:g}to1"] = width
                line += f"{coverage:>{places}.1%}{width:>7.2f}"
            print(line, flush=True)
    sizes = [size for size in range(9) for _ in "ab"]
    systems = [
        Scores(size + 0.1 * rng.standard_normal((3, SPEAKERS.size)), range(3), UTTERANCES, SPEAKERS.tolist())
        for size in sizes
    ]
    points = [(2.0**size, scores) for size, scores in zip(sizes, systems, strict=True)]
    seconds = interleaved_medians(
        {
            "difference": lambda: crossed_estimate(lambda means: means[0] - means[1], systems),
            "curves": lambda: compare_curves(points[::2], points[1::2], True),
        },
        rounds=20,
    )
    figures |= {f"crossed.milliseconds.{name}.18systems": 1e3 * median for name, median in seconds.items()}
    for figure, value in figures.items():
        print_figure(figure, value)


if __name__ == "__main__":
    main()
