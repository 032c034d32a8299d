"""What a scored system sends to the trackers: scores and rates, the examples' audio and spectrograms, use of its codes.

The same names in every system's run, so that a service shows them side by side. The original is what the system
`ground-truth` sends as its audio: once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from evalkit.figures.looks import NothingToDraw
from evalkit.figures.spectrograms import Signal
from evalkit.figures.usage import code_usage
from evalkit.plots.figures import styled
from evalkit.plots.spectrograms import plot_spectrograms
from evalkit.plots.usage import plot_usage_curves, plot_usage_map
from evalkit.run.evaluation import digest
from evalkit.run.outputs import ScoredSystem
from evalkit.run.store import example_path, read_example
from evalkit.scoring.protocol import GROUND_TRUTH
from evalkit.stats.code_usage import CodeUsage
from q2d2.trackers import Trackers, Tracking
from q2d2.trackers.notes import read_notes, write_notes

# Columns of systems.parquet that are numbers of the system itself.
NUMBERS = (
    "bitrate", "bits_per_frame", "tokens_per_second", "frame_rate", "utilization", "frame_utilization", "entropy",
    "normalized_entropy", "perplexity", "entropy_bitrate", "rtf_encode", "rtf_decode", "parameters",
)  # fmt: skip


def send_results(tracking: Tracking, run: Path, system: ScoredSystem, console: Console) -> None:
    """Send what is known of a scored system to each tracker that has not had it yet.

    A tracker that fails is a warning on the console, and is sent everything by the next call.

    Args:
        tracking: which trackers.
        run: the run's folder.
        system: scored; its examples' audio is kept in `run`.
        console: for warnings.
    """
    folder = tracked_folder(run, system.name)
    numbers, examples = final_numbers(system), _examples(run, system)
    if not examples and not any(name.startswith("scores/") for name in numbers):
        return  # a system that cannot run here: the table says why
    content = digest(numbers, sorted(record.key for record in system.records), system.evaluation.examples)

    def warn(text: str) -> None:
        console.print(f"[yellow]warning:[/] {system.name}: ", end="")
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def had_it(name: str) -> bool:
        try:
            return read_notes(folder, name).get("results") == content
        except (OSError, ValueError):  # opening the tracker says what is wrong with them
            return False

    due = tuple(name for name in tracking.names if name not in tracking.off and not had_it(name))
    if not due:
        return
    folder.mkdir(parents=True, exist_ok=True)
    steps = int(system.row["train_steps"] or 0)
    settings = {name: system.row[name] for name in ("kind", "dataset", "bottleneck", "codec", "train_steps")}
    with closing(replace(tracking, names=due).open(folder, system.name, settings, None, warn)) as trackers:
        trackers.scalars(numbers, steps)
        for utterance, signal in examples.items():
            trackers.audio(f"audio/{utterance}", *signal, steps)
            original = _read(example_path(run, utterance, GROUND_TRUTH))
            pair = {GROUND_TRUTH: original, system.name: signal} if original else {system.name: signal}
            _send_figure(trackers, f"spectrograms/{utterance}", partial(plot_spectrograms, pair, utterance), steps)
        _send_figure(trackers, "codes", partial(_usage_figure, system), steps)
    for name in trackers.working:
        try:
            write_notes(folder, name, **(read_notes(folder, name) | {"results": content}))
        except (OSError, ValueError) as error:
            warn(f"{name} will be sent the same again: {error}")


def tracked_folder(run: Path, system: str) -> Path:
    """Where trackers keep what belongs to a system: beside its checkpoint where it was trained in this run."""
    trained = run / "checkpoints" / system
    return trained if trained.is_dir() else run / "tracking" / system


def final_numbers(system: ScoredSystem) -> dict[str, float]:
    """A system's means under scores/METRIC, each with scored/METRIC, over how many of scored/utterances it is.

    A metric without any score has no mean. What belongs to the system alone is under system/NAME.
    """
    values: dict[str, list[float]] = {name: [] for name in system.evaluation.metrics}
    for record in system.records:
        for score in system.evaluation.scores_of(record):
            if score.status == "ok" and score.value is not None:
                values[score.metric].append(score.value)
    numbers: dict[str, float] = {"scored/utterances": len(system.records)}
    for metric, scores in values.items():
        numbers[f"scored/{metric}"] = len(scores)
        if scores:
            numbers[f"scores/{metric}"] = float(np.mean(scores))
    known = {name: system.row[name] for name in NUMBERS}
    return numbers | {f"system/{name}": float(value) for name, value in known.items() if pd.notna(value)}


def _examples(run: Path, system: ScoredSystem) -> dict[str, Signal]:
    """Utterance -> audio and rate of each example that this system gave back."""
    wanted = system.evaluation.utterances[: system.evaluation.examples]
    found = {each.id: _read(example_path(run, each.id, system.name)) for each in wanted}
    return {utterance: signal for utterance, signal in found.items() if signal}


def _read(path: Path) -> Signal | None:
    """A kept example; None where its scores are failed rows that say why, or the file is damaged."""
    found = read_example(path)
    return None if found is None else found[:2]


def _usage_figure(system: ScoredSystem) -> Figure:
    used = code_usage(_code_counts(system.name, system.usage), pd.DataFrame([system.row]))
    return plot_usage_map(used[0]) if used and used[0].has_grids else plot_usage_curves(used)


def _code_counts(name: str, usage: CodeUsage) -> pd.DataFrame:
    rows = [
        (name, quantizer, code, int(count))
        for quantizer, counts in enumerate(usage.counts)
        for code, count in enumerate(counts)
        if usage.frames
    ]
    return pd.DataFrame(rows, columns=["system", "quantizer", "code", "count"])


def _send_figure(trackers: Trackers, name: str, draw: Callable[[], Figure], step: int) -> None:
    try:
        figure = draw()
    except NothingToDraw:
        return
    trackers.image(name, pixels(figure), step)


@styled
def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as drawn at its own resolution, (height, width, 3) in 0..255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
