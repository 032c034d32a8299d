"""What a finished run leaves: rows as Parquet, tables, plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.datasets import Utterance
from evalkit.papers import Paper, read_paper
from evalkit.plots.drawing import DrawnPlots, draw_plots
from evalkit.run.evaluation import Evaluation
from evalkit.run.store import SIGNAL_COLUMNS, UTTERANCE_COLUMNS, RunStore, UtteranceRecord, example_path, read_example
from evalkit.run.systems import CodecSystem, System
from evalkit.scoring.protocol import GROUND_TRUTH
from evalkit.stats.code_usage import CodeUsage
from evalkit.tables import compare_with_paper, summarize, write_published, write_tables
from evalkit.tables.notes import pair_notes

# By these names tables and plots are known as ours.
TABLES = ("comparison.*", "differences.*", "published.*")
PLOTS = tuple(
    f"{name}*.{suffix}"
    for name in (
        "quality-vs-bitrate",
        "distributions",
        "differences",
        "usage-",
        "spectrograms",
        "training-curves",
        "tilings",
    )
    for suffix in ("svg", "png")
)


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        folder: the run's folder.
        baseline: the system that the others are compared with; None for no comparison.
        utterances, systems: the rows, as in the Parquet files.
        tables: paths of the tables.
        plots: paths of the plots, and what could not be drawn.
        paper, published: numbers of a paper, and ours beside them (`compare_with_paper`); None for none.
    """

    folder: Path
    baseline: str | None
    utterances: pd.DataFrame
    systems: pd.DataFrame
    tables: list[Path]
    plots: DrawnPlots
    paper: Paper | None = None
    published: pd.DataFrame | None = None

    @property
    def num_failed(self) -> int:
        """Scores that failed; those of a metric that cannot run here are not counted."""
        return int((self.utterances["status"] == "failed").sum())

    def unavailable(self) -> dict[str, str]:
        """Metrics that cannot run here, and why."""
        return _wholly_unavailable(self.utterances, "metric")

    def unavailable_systems(self) -> dict[str, str]:
        """Systems that cannot run here, and why."""
        return unavailable_systems(self.utterances)

    def failures(self, most: int = 10) -> list[str]:
        """Which scores failed and why, one line a metric, system and reason, at most `most` lines."""
        lost = self.utterances[self.utterances["status"] == "failed"]
        lines = []
        for (metric, system, detail), rows in lost.groupby(["metric", "system", "detail"], sort=False):
            first, further = rows["utterance"].iloc[0], len(rows) - 1
            lines.append(f"{metric} of {system}, {first}{f' and {further} more' if further else ''}: {detail}")
        return lines if len(lines) <= most else [*lines[: most - 1], f"and {len(lines) - most + 1} further reasons"]


@dataclass(frozen=True)
class ScoredSystem:
    """What a run knows of a system once it is scored.

    Attributes:
        row: of systems.parquet.
        evaluation: what it was scored on.
        records: of the evaluation's utterances, in their order.
        usage: the codes of all of them, counted.
        estimates: digest of what made each utterance's estimate (`System.fingerprint`), in the same order.
    """

    row: dict[str, Any]
    evaluation: Evaluation
    records: tuple[UtteranceRecord, ...]
    usage: CodeUsage
    estimates: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.row["system"])


def scored_system(
    evaluation: Evaluation,
    system: System,
    records: Sequence[UtteranceRecord],
    described: dict[str, Any] | None,
    speed: dict[str, Any] | None,
) -> ScoredSystem:
    """Count a system's codes and make its row.

    Args:
        evaluation: what it was scored on.
        system: ready to reconstruct.
        records: of all utterances of the evaluation.
        described: its checkpoint's JSON; None for a known-answer system.
        speed: what was measured of it; None for a known-answer system, or where it could not be measured.
    """
    usage = CodeUsage(system.codebook_sizes)
    for record in records:
        if record.codes is not None:
            usage.add(record.codes)
    coded = bool(system.codebook_sizes)
    rate = system.frame_rate if coded else None
    row: dict[str, Any] = {"system": system.name, "kind": system.kind, "dataset": evaluation.dataset}
    row |= {
        "bottleneck": json.dumps(described["bottleneck"]) if described else None,
        "codec": (system.family or None) if isinstance(system, CodecSystem) else None,
        "codebook_sizes": list(system.codebook_sizes) if coded else None,
        "frame_rate": system.frame_rate,
        "bits_per_frame": usage.bits_per_frame if coded else None,
        "bitrate": _stream_bitrate(evaluation, records) if rate is None else usage.bits_per_frame * rate,
        "tokens_per_second": system.tokens_per_frame * rate if rate else None,
    }
    row |= usage.summary(system.frame_rate)
    row |= {name: speed and speed[name] for name in ("rtf_encode", "rtf_decode", "rtf_detail")}
    row |= {
        "parameters": system.num_parameters if isinstance(system, CodecSystem) else None,
        "train_steps": described and described["metadata"].get("settings", {}).get("train", {}).get("steps"),
        "checkpoint_sha256": (system.weights_sha256 or None) if isinstance(system, CodecSystem) else None,
    }
    estimates = tuple(system.fingerprint(utterance.id) for utterance in evaluation.utterances)
    return ScoredSystem(row, evaluation, tuple(records), usage, estimates)


def _stream_bitrate(evaluation: Evaluation, records: Sequence[UtteranceRecord]) -> float | None:
    """bit/s that the coded streams took, over all utterances that have one; None where there are none."""
    coded = {record.utterance: record.bits for record in records if record.bits is not None}
    seconds = sum(utterance.seconds for utterance in evaluation.utterances if utterance.id in coded)
    return sum(coded.values()) / seconds if seconds else None


def unavailable_systems(utterances: pd.DataFrame) -> dict[str, str]:
    """Systems without a score by any of the metrics that can run here, and why."""
    metrics = _wholly_unavailable(utterances, "metric")
    return _wholly_unavailable(utterances[~utterances["metric"].isin(list(metrics))], "system")


def _wholly_unavailable(utterances: pd.DataFrame, column: str) -> dict[str, str]:
    """Values of `column` all of whose rows are unavailable -> the first reason."""
    lost = utterances.groupby(column, sort=False).filter(lambda rows: bool((rows["status"] == "unavailable").all()))
    first = lost.drop_duplicates(column)
    return dict(zip(first[column], first["detail"], strict=True))


def write_rows(store: RunStore, scored: Sequence[ScoredSystem]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Write the frames of utterances, systems, codes and signals as Parquet; return the rows of the first three."""
    utterances = pd.DataFrame(_utterance_rows(scored), columns=list(UTTERANCE_COLUMNS))
    utterances["value"] = utterances["value"].astype("float64")
    systems = pd.DataFrame([system.row for system in scored])
    codes = pd.DataFrame(_code_rows(scored), columns=["system", "quantizer", "code", "count"])
    signals = pd.DataFrame(_signal_rows(scored), columns=list(SIGNAL_COLUMNS))
    frames = {"utterances": utterances, "systems": systems, "codes": codes, "signals": signals}
    for name, frame in frames.items():
        store.write_frame(frame, name)
    return utterances, systems, codes


def write_outputs(evaluation: Evaluation, store: RunStore, scored: Sequence[ScoredSystem]) -> RunResult:
    """Write rows, tables and plots of `scored`, systems in the order of the tables."""
    utterances, systems, codes = write_rows(store, scored)
    folder, baseline = evaluation.folder, evaluation.baseline
    notes = [*evaluation.notes, *pair_notes(utterances)]
    tables = write_tables(utterances, systems, folder / "tables", evaluation.title, notes, baseline)
    paper, published = None, None
    if evaluation.paper is not None:
        paper = read_paper(evaluation.paper)
        summary, reasons = summarize(utterances, systems), unavailable_systems(utterances)
        protocol = evaluation.protocol.label
        published = compare_with_paper(summary, paper, evaluation.counterparts, protocol, reasons)
        tables += write_published(published, paper, folder / "tables", evaluation.title)
    logs = {system.name: folder / "training" / f"{system.name}.csv" for system in scored}
    training = {name: pd.read_csv(path) for name, path in logs.items() if path.is_file()}
    example = evaluation.utterances[0] if evaluation.examples else None
    plots = draw_plots(
        utterances, systems, codes, training, _signals(folder, example, scored), folder / "plots",
        f"{evaluation.dataset} {example.id}" if example else "", baseline,
    )  # fmt: skip
    _remove_others(folder / "tables", TABLES, tables)
    _remove_others(folder / "plots", PLOTS, plots.files)
    return RunResult(folder, baseline, utterances, systems, tables, plots, paper, published)


def _remove_others(folder: Path, patterns: Sequence[str], written: Sequence[Path]) -> None:
    """Remove what an earlier call, with other systems or metrics, has left of our own files in `folder`."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink()


def _utterance_rows(scored: Sequence[ScoredSystem]) -> list[tuple[Any, ...]]:
    return [
        (system.name, on.dataset, utterance.id, utterance.speaker, score.metric, score.value, score.status,
         score.detail, score.seconds, on.protocol.label, score.version)
        for system in scored
        for on in (system.evaluation,)
        for utterance, record in zip(on.utterances, system.records, strict=True)
        for score in on.scores_of(record)
    ]  # fmt: skip


def _signal_rows(scored: Sequence[ScoredSystem]) -> list[tuple[Any, ...]]:
    return [
        (system.name, on.dataset, utterance.id, utterance.speaker, utterance.seconds, on.files[utterance.id], estimate)
        for system in scored
        for on in (system.evaluation,)
        for utterance, estimate in zip(on.utterances, system.estimates, strict=True)
    ]  # fmt: skip


def _code_rows(scored: Sequence[ScoredSystem]) -> list[tuple[str, int, int, int]]:
    return [
        (system.name, quantizer, code, int(count))
        for system in scored
        if system.usage.frames  # no rows, rather than rows of zeros, where no codes were seen
        for quantizer, counts in enumerate(system.usage.counts)
        for code, count in enumerate(counts)
    ]


def _signals(folder: Path, example: Utterance | None, scored: Sequence[ScoredSystem]) -> dict[str, Any]:
    """Name -> (audio, rate) of the first example, original and codecs, from the files kept of it."""
    if example is None:
        return {}
    shown = [system.name for system in scored if system.row["kind"] != "anchor" or system.name == GROUND_TRUTH]
    paths = {name: example_path(folder, example.id, name) for name in shown}
    return {name: found[:2] for name, path in paths.items() if (found := read_example(path)) is not None}
