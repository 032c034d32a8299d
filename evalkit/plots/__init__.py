"""The plots of a run, each as SVG and PNG, and a list of those that could not be drawn with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from evalkit.plots.curves import plot_training_curves
from evalkit.plots.distributions import plot_distributions
from evalkit.plots.figures import NothingToDraw, save
from evalkit.plots.lattices import plot_tilings
from evalkit.plots.rates import plot_quality_against_rate
from evalkit.plots.spectrograms import Signal, plot_spectrograms
from evalkit.plots.usage import plot_usage_curves, plot_usage_map, tilings_of
from evalkit.tables import summarize

__all__ = [
    "DrawnPlots",
    "NothingToDraw",
    "draw_plots",
    "plot_distributions",
    "plot_quality_against_rate",
    "plot_spectrograms",
    "plot_tilings",
    "plot_training_curves",
    "plot_usage_curves",
    "plot_usage_map",
]

DEFAULT_LEVELS = (7, 7)


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
) -> DrawnPlots:
    """Draw all plots of a run into `out_dir` (made if missing), as NAME.svg and NAME.png.

    Args:
        utterances, systems, codes: rows of utterances.parquet, systems.parquet, codes.parquet.
        training: system -> rows of training/SYSTEM.csv; empty where nothing was trained.
        spectrogram_signals: name -> (audio (samples,) float in [-1, 1], sample rate in Hz); may be empty.
        out_dir: folder of the plots.
        spectrogram_title: names the utterance of `spectrogram_signals`.

    Raises:
        ValueError: the rows are inconsistent, see `evalkit.tables.summarize`.
    """
    plots: dict[str, Callable[[], Figure]] = {}
    summary = summarize(utterances, systems)
    datasets = list(dict.fromkeys(summary["dataset"]))
    for dataset in datasets:
        several = len(datasets) > 1
        suffix, where = (f"-{_file_name(dataset)}", f", {dataset}") if several else ("", "")
        rows = utterances[utterances["dataset"] == dataset]
        means = summary[summary["dataset"] == dataset]
        plots[f"quality-vs-bitrate{suffix}"] = partial(
            plot_quality_against_rate, means, f"Quality against bit rate{where}"
        )
        plots[f"distributions{suffix}"] = partial(
            plot_distributions, rows, systems, f"Scores of the single utterances{where}"
        )
    levels = DEFAULT_LEVELS
    for name, spec in zip(systems["system"], systems["bottleneck"], strict=True):
        tilings = tilings_of(spec)
        if tilings:
            levels = tilings[-1].levels
            plots[f"usage-{_file_name(name)}"] = partial(plot_usage_map, codes, name, tilings)
    plots["usage-curves"] = partial(plot_usage_curves, codes, systems)
    plots["spectrograms"] = partial(plot_spectrograms, spectrogram_signals, spectrogram_title)
    plots["training-curves"] = partial(plot_training_curves, training, systems)
    plots["tilings"] = partial(plot_tilings, levels)
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


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
