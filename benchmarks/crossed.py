"""Intervals and tests over seeds and utterances, on simulated scores: coverage, and marks where nothing differs.

Coverage: how often 95 % intervals hold the true difference of two systems. Baseline: the bootstrap over speakers of the
differences averaged over seeds (`evalkit.stats.bootstrap`), which takes the seeds at hand for all there are.

False marks: how often ten systems that do not differ from their baseline get a mark, corrected by Holm, and how often a
single p is below 0.001. Baseline: one t with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

import argparse
from typing import Literal

import numpy as np
from scipy import special

from benchmarks.timing import hardware, interleaved_medians, print_figure
from evalkit.stats.behrens_fisher import two_sided_p
from evalkit.stats.bootstrap import Interval, bootstrap_mean
from evalkit.stats.crossed import CrossedEstimate, Scores, crossed_estimate
from evalkit.stats.rate_curves import compare_curves

SIZES = np.array([1] * 11 + [2] * 6 + [3] * 6 + [4] * 4)  # utterances of 27 speakers: 57
SPEAKERS = np.repeat(np.arange(SIZES.size), SIZES)
UTTERANCES = [f"u{number:02}" for number in range(SPEAKERS.size)]
# Variances of the difference between speakers, between utterances of one speaker, and of each score.
SPEAKER = UTTERANCE = RESIDUAL = 1.0
TRUE_DIFFERENCE = 0.5
# Utterances of each speaker.
DESIGNS = {
    "27 speakers": SIZES,
    "12 speakers": np.array([1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 8]),
    "6 speakers": np.array([1, 1, 1, 2, 4, 8]),
    "6 alike": np.array([3] * 6),
}
Family = Literal["one baseline", "independent"]
FAMILY_SIZE = 10
ALPHA = 0.05
# Simulated at a time: bounds memory.
BLOCK = 500


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


def mean_and_variances(
    sums: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[np.ndarray, float], tuple[np.ndarray, float]]]:
    """What `crossed_estimate` computes of a mean, for many at once.

    Args:
        sums: (..., seeds, speakers), of the utterances of each speaker.
        sizes: (speakers,) utterances.

    Returns:
        Means (...), and the variances (...) by seeds and by speakers with their degrees of freedom.
    """
    seeds = sums.shape[-2]
    count = int(sizes.sum())
    total = sums.sum(axis=(-2, -1), keepdims=True)
    mean = total[..., 0, 0] / (seeds * count)
    left_seed = (total[..., 0] - sums.sum(axis=-1)) / ((seeds - 1) * count)
    left_speaker = (total[..., 0] - sums.sum(axis=-2)) / (seeds * (count - sizes))
    of_seeds, of_speakers = (
        (left.shape[-1] - 1) / left.shape[-1] * np.square(left - mean[..., None]).sum(axis=-1)
        for left in (left_seed, left_speaker)
    )
    effective = max(count**2 / float(np.square(sizes).sum()), 2.0)
    return mean, ((of_seeds, seeds - 1.0), (of_speakers, effective - 1))


def null_sums(
    rng: np.random.Generator, repeats: int, sizes: np.ndarray, seeds: int, ratio: float, family: Family, skewed: bool
) -> np.ndarray:
    """Sums (repeats, FAMILY_SIZE, seeds, speakers) of the scores of ten systems minus those of a baseline.

    One baseline: all differences hold the same draw of it. Else each has a baseline of its own. Skewed: seeds, speakers
    and scores of every system are drawn from a gamma distribution of skewness 1, like scores near the top of a scale.
    """

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_gamma(4, shape) / 2 - 2 if skewed else rng.standard_normal(shape)

    def systems(number: int) -> np.ndarray:
        shape = (repeats, number)
        speaker = np.sqrt(SPEAKER) * sizes * drawn(*shape, 1, sizes.size)
        utterance = np.sqrt(UTTERANCE * sizes) * drawn(*shape, 1, sizes.size)
        residual = np.sqrt(RESIDUAL * sizes) * drawn(*shape, seeds, sizes.size)
        return np.sqrt(ratio * SPEAKER) * sizes * drawn(*shape, seeds, 1) + speaker + utterance + residual

    baselines = systems(1 if family == "one baseline" else FAMILY_SIZE)
    return np.asarray((systems(FAMILY_SIZE) - baselines) / np.sqrt(2))


def false_marks(
    rng: np.random.Generator,
    repeats: int,
    sizes: np.ndarray,
    seeds: int,
    ratio: float,
    family: Family,
    skewed: bool = False,
) -> dict[str, float]:
    """Of families in which nothing differs: "families" with a mark after Holm, single "p < 0.001", and both of the
    baseline ("one t: ...")."""  # fmt: skip
    counts = dict.fromkeys(("families", "p < 0.001", "one t: families", "one t: p < 0.001"), 0.0)
    for start in range(0, repeats, BLOCK):
        sums = null_sums(rng, min(BLOCK, repeats - start), sizes, seeds, ratio, family, skewed)
        mean, sources = mean_and_variances(sums, sizes)
        variance = sum(part for part, _ in sources)
        satterthwaite = variance**2 / sum(part**2 / df for part, df in sources)
        single = 2 * special.stdtr(satterthwaite, -np.abs(mean) / np.sqrt(variance))
        ours = np.ones(mean.shape)
        far = np.abs(mean) > 1.9 * np.sqrt(variance)  # nearer than that p is above 0.05
        ours[far] = two_sided_p(mean[far], [(part[far], df) for part, df in sources])
        for name, p in (("", ours), ("one t: ", single)):
            # Holm marks something where the smallest p passes at the first step.
            counts[f"{name}families"] += float((p.min(axis=1) < ALPHA / FAMILY_SIZE).sum())
            counts[f"{name}p < 0.001"] += float((p < 0.001).sum()) / FAMILY_SIZE
    return {name: count / repeats for name, count in counts.items()}


def print_false_marks(repeats: int, seeds: list[int], ratios: list[float]) -> dict[str, float]:
    """Print the table of false marks; its figures."""
    print(
        f"\nfalse marks: families of {FAMILY_SIZE} without any difference, {repeats:,} a line: 5 % is uncertain by "
        f"{196 * np.sqrt(0.05 * 0.95 / repeats):.1f} points, of p < 0.001 0.1 % by "
        f"{196 * np.sqrt(0.001 * 0.999 / repeats / FAMILY_SIZE):.2f} at least"
    )
    print(f"{'design':<22}{'family':<14}{'seeds':>5}{'ratio':>7}{'marked':>9}{'p<0.001':>9}{'one t':>9}{'p<0.001':>9}")
    rng = np.random.default_rng(1)
    figures = {}
    lines = [(name, sizes, False) for name, sizes in DESIGNS.items()] + [("27 speakers, skewed", SIZES, True)]
    families: tuple[Family, ...] = ("one baseline", "independent")
    for name, sizes, skewed in lines:
        for family in families:
            for number in seeds:
                for ratio in ratios:
                    found = false_marks(rng, repeats, sizes, number, ratio, family, skewed)
                    numbers = "".join(
                        f"{value:>9.2%}" if "0.001" in key else f"{value:>9.1%}" for key, value in found.items()
                    )
                    print(f"{name:<22}{family:<14}{number:>5}{ratio:>7g}{numbers}", flush=True)
                    key = f"{name}.{family}.{number}seeds.{ratio:g}to1".replace(" ", "_").replace(",", "")
                    figures[f"crossed.marked.{key}"] = found["families"]
                    figures[f"crossed.tail.{key}"] = found["p < 0.001"]
    return figures


def ends(interval: CrossedEstimate | Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crossed", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated test sets a line (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[2, 3, 5, 10], help="training seeds (default: 2 3 5 10)"
    )
    parser.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        default=[0, 0.1, 0.25, 1, 4],
        help="variance between seeds, in units of that between speakers (default: 0 0.1 0.25 1 4)",
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
    figures |= print_false_marks(options.repeats, options.seeds, options.ratios)
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
