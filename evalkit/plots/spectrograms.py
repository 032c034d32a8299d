"""Spectrograms of one utterance, as recorded and as each system gives it back."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from evalkit.figures.looks import NothingToDraw
from evalkit.figures.spectrograms import HOP_SECONDS, RANGE_DB, WINDOW_SECONDS, Signal, spectrogram_db
from evalkit.plots.figures import fold, styled, wrap

COLUMNS = 4
TITLE_LENGTH = 24
RASTER_DPI = 100  # images, unlike lines, grow with resolution in the SVG too


@styled
def plot_spectrograms(signals: Mapping[str, Signal], title: str) -> Figure:
    """A grid of spectrograms with shared axes and one colour bar.

    Args:
        signals: name -> (audio (samples,) float in [-1, 1], sample rate in Hz), drawn in this order. Rates and
            lengths may differ; where a signal has no content by its rate or length, the panel is hatched.
        title: names the utterance.

    The scale ends at the loudest bin of all signals and covers 80 dB.

    Raises:
        NothingToDraw: no signal, or only empty ones.
    """
    drawn = {name: signal for name, signal in signals.items() if len(signal[0])}
    if not drawn:
        raise NothingToDraw("no audio to show")
    levels = {name: spectrogram_db(audio, rate) for name, (audio, rate) in drawn.items()}
    loudest = max(float(level.max()) for level in levels.values())
    seconds = max(len(audio) / rate for audio, rate in drawn.values())
    highest = max(rate for _, rate in drawn.values()) / 2000
    rows, width = wrap(COLUMNS, len(drawn))
    figure = Figure(figsize=(1.4 + 2.7 * width, 1.2 + 1.9 * rows), dpi=RASTER_DPI, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, width, sharex=True, sharey=True, squeeze=False)
    for panel, (name, (_, rate)) in zip(axes.flat, drawn.items(), strict=False):
        panel.patch.set(facecolor="white", hatch="//", edgecolor="#bbbbbb")
        # A column of the image is a frame, centred half a window in; a row is one frequency bin.
        extent = (
            WINDOW_SECONDS / 2 - HOP_SECONDS / 2,
            WINDOW_SECONDS / 2 + (levels[name].shape[1] - 0.5) * HOP_SECONDS,
            0,
            rate / 2000,
        )
        image = panel.imshow(
            levels[name],
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap="magma",
            vmin=loudest - RANGE_DB,
            vmax=loudest,
            interpolation="nearest",
        )
        panel.set(xlim=(0, seconds), ylim=(0, highest))
        panel.set_title(fold(name, TITLE_LENGTH))
        panel.grid(visible=False)
    for panel in axes.flat[len(drawn) :]:
        panel.remove()
    for column in range(width):
        # A column may end above the last row; its lowest panel then carries the time axis.
        lowest = axes[(len(drawn) - 1 - column) // width, column]
        lowest.tick_params(labelbottom=True)
    partial = any(rate / 2000 < highest or len(audio) / rate < 0.98 * seconds for audio, rate in drawn.values())
    hatched = "    hatched: beyond this signal's sample rate or end" if partial else ""
    figure.supxlabel(f"time (s){hatched}", fontsize=10)
    figure.supylabel("frequency (kHz)", fontsize=10)
    kept = list(axes.flat[: len(drawn)])
    figure.colorbar(image, ax=kept, shrink=min(1.0, 1.6 / rows), pad=0.02).set_label("level (dB re full-scale sine)")
    return figure
