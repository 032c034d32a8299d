"""All plots of a run, each as SVG and PNG, and a list of those that could not be drawn with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from evalkit.figures.differences import compared_metrics
from evalkit.figures.distributions import scored_metrics
from evalkit.figures.looks import NothingToDraw, pages
from evalkit.figures.rates import rated_metrics
from evalkit.figures.spectrograms import Signal
from evalkit.figures.usage import code_usage
from evalkit.plots.curves import plot_training_curves
from evalkit.plots.differences import plot_differences
from evalkit.plots.distributions import plot_distributions
from evalkit.plots.figures import save
from evalkit.plots.lattices import plot_tilings
from evalkit.plots.rates import plot_quality_against_rate
from evalkit.plots.spectrograms import plot_spectrograms
from evalkit.plots.usage import plot_usage_curves, plot_usage_map
from evalkit.tables import compare_with_baseline, metric_keys, summarize


@dataclass(frozen=True)
class DrawnPlots:
    """What `draw_plots` did.

    files: paths written, in order, two a plot (SVG, PNG).
    skipped: plot -> why it could not be drawn.
    """

    files: tuple[Path, ...]
    skipped: dict[str, str]


def draw_plots(
    utterances: pd.DataFrame,
    systems: pd.DataFrame,
    codes: pd.DataFrame,
    training: Mapping[str, pd.DataFrame],
    spectrogram_signals: Mapping[str, Signal],
    out_dir: Path,
    spectrogram_title: str = "One utterance: original and reconstructions",
    baseline: str | None = None,
) -> DrawnPlots:
    """Draw all plots of a run into `out_dir` (made if missing), as NAME.svg and NAME.png.

    The first four metrics (see `pages`) are in NAME, further ones in NAME-2, NAME-3. Plots of codes are
    drawn where a system is a codec, those of trainings where one is ours, the tilings where one has them.

    Args:
        utterances, systems, codes: rows of utterances.parquet, systems.parquet, codes.parquet.
        training: system -> rows of training/SYSTEM.csv; empty where nothing was trained.
        spectrogram_signals: name -> (audio (samples,) float in [-1, 1], sample rate in Hz); may be empty.
        out_dir: folder of the plots.
        spectrogram_title: names the utterance of `spectrogram_signals`.
        baseline: the system that the plot `differences` compares the others with; None: no such plot.

    Raises:
        ValueError: the rows are inconsistent, see `evalkit.tables.summarize`; `baseline` is not in `systems`.
    """
    plots: dict[str, Callable[[], Figure]] = {}
    summary = summarize(utterances, systems)
    # Metrics of several protocols are told apart from here on, also where a data set has one of them only.
    utterances = utterances.assign(metric=metric_keys(utterances)).drop(columns="protocol", errors="ignore")
    differences = None if baseline is None else compare_with_baseline(utterances, systems, baseline)
    datasets = list(dict.fromkeys(summary["dataset"]))
    for dataset in datasets:
        several = len(datasets) > 1
        suffix, where = (f"-{_file_name(dataset)}", f", {dataset}") if several else ("", "")
        means = summary[summary["dataset"] == dataset]
        plots |= _paged(
            f"quality-vs-bitrate{suffix}", partial(plot_quality_against_rate, means),
            f"Quality against bit rate{where}", rated_metrics(means),
        )  # fmt: skip
        rows = utterances[utterances["dataset"] == dataset]
        plots |= _paged(
            f"distributions{suffix}", partial(plot_distributions, rows, systems),
            f"Scores of the single utterances{where}", scored_metrics(rows),
        )  # fmt: skip
        if differences is not None and len(differences):
            compared = differences[differences["dataset"] == dataset]
            plots |= _paged(
                f"differences{suffix}", partial(plot_differences, compared, systems),
                f"Differences to {baseline}{where}", compared_metrics(compared),
            )  # fmt: skip
    if (systems["kind"] == "codec").any():
        plots |= _of_codecs(systems, codes, training)
    plots["spectrograms"] = partial(plot_spectrograms, spectrogram_signals, spectrogram_title)
    files: list[Path] = []
    skipped = {}
    for name, draw in plots.items():
        try:
            figure = draw()
        except NothingToDraw as reason:
            skipped[name] = str(reason)
        else:
            files += save(figure, out_dir, name)
    return DrawnPlots(tuple(files), skipped)


def _paged(stem: str, draw: Callable[..., Figure], title: str, metrics: list[str]) -> dict[str, Callable[[], Figure]]:
    """The figures of a plot by name; without metrics one figure, which will say why there is none."""
    parts = pages(metrics)
    several = len(parts) > 1
    return {
        f"{stem}-{number}" if number > 1 else stem: partial(
            draw, f"{title} ({number} of {len(parts)})" if several else title, part
        )
        for number, part in enumerate(parts, 1)
    }


def _of_codecs(
    systems: pd.DataFrame, codes: pd.DataFrame, training: Mapping[str, pd.DataFrame]
) -> dict[str, Callable[[], Figure]]:
    """Use of the codes, training, and the tilings themselves."""
    plots: dict[str, Callable[[], Figure]] = {}
    used = code_usage(codes, systems)
    mapped = [usage for usage in used if usage.has_grids]
    plots |= {f"usage-{_file_name(usage.system)}": partial(plot_usage_map, usage) for usage in mapped}
    plots["usage-curves"] = partial(plot_usage_curves, [usage for usage in used if not usage.has_grids])
    if systems["bottleneck"].notna().any():
        plots["training-curves"] = partial(plot_training_curves, training, systems)
    if mapped and (grid := mapped[-1].quantizers[-1].grid):
        plots["tilings"] = partial(plot_tilings, grid.levels)
    return plots


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
