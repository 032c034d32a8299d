"""What a finished run leaves: rows as Parquet, tables, plots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile

from evalkit.codes import CodeUsage
from evalkit.datasets import Utterance
from evalkit.plan import Plan
from evalkit.plots import DrawnPlots, draw_plots
from evalkit.store import UTTERANCE_COLUMNS, RunStore
from evalkit.systems import CodecSystem, System
from evalkit.tables import write_tables


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        folder: the run's folder.
        utterances, systems: the rows, as in the Parquet files.
        tables: paths of the tables.
        plots: paths of the plots, and what could not be drawn.
    """

    folder: Path
    utterances: pd.DataFrame
    systems: pd.DataFrame
    tables: list[Path]
    plots: DrawnPlots

    @property
    def num_failed(self) -> int:
        """Scores that are not numbers."""
        return int((self.utterances["status"] != "ok").sum())


def example_path(folder: Path, utterance: str, system: str) -> Path:
    """Where the audio of an example utterance is kept."""
    return folder / "audio" / utterance.replace("/", "_") / f"{system}.flac"


def count_codes(plan: Plan, store: RunStore, system: System, key: str) -> CodeUsage:
    """The codes of all scored utterances of a system, counted."""
    usage = CodeUsage(system.codebook_sizes)
    for utterance in plan.test_utterances:
        record = store.record(system.name, key, utterance.id)
        if record is not None and record.codes is not None:
            usage.add(record.codes)
    return usage


def system_row(
    dataset: str,
    system: System,
    usage: CodeUsage,
    described: dict[str, Any] | None,
    speed: dict[str, Any] | None,
) -> dict[str, Any]:
    """One row of systems.parquet.

    Args:
        dataset: as named in rows.
        system: ready to reconstruct.
        usage: its codes over the test set.
        described: its checkpoint's JSON; None for a known-answer system.
        speed: what was measured of it; None for a known-answer system.
    """
    row: dict[str, Any] = {"system": system.name, "kind": system.kind, "dataset": dataset}
    coded = bool(system.codebook_sizes)
    row |= {
        "bottleneck": json.dumps(described["bottleneck"]) if described else None,
        "codebook_sizes": list(system.codebook_sizes) if coded else None,
        "frame_rate": system.frame_rate,
        "bits_per_frame": usage.bits_per_frame if coded else None,
        "bitrate": usage.bits_per_frame * system.frame_rate if coded and system.frame_rate else None,
        "tokens_per_second": len(system.codebook_sizes) * system.frame_rate if coded and system.frame_rate else None,
    }
    row |= usage.summary(system.frame_rate)
    row |= {name: speed and speed[name] for name in ("rtf_encode", "rtf_decode", "rtf_detail")}
    row |= {
        "parameters": _num_parameters(system),
        "train_steps": described and described["metadata"].get("settings", {}).get("train", {}).get("steps"),
        "checkpoint_sha256": described and described["weights_sha256"],
    }
    return row


def _num_parameters(system: System) -> int | None:
    if not isinstance(system, CodecSystem):
        return None
    return sum(parameter.numel() for parameter in system.codec.parameters())


def write_outputs(
    plan: Plan, store: RunStore, keys: dict[str, str], rows: list[dict[str, Any]], usages: dict[str, CodeUsage]
) -> RunResult:
    """Write rows, tables and plots from what the store holds.

    Args:
        plan, store: of the run.
        keys: system -> key of its records, in the order of the tables.
        rows: of systems.parquet, in the same order.
        usages: system -> its codes over the test set.
    """
    utterances = pd.DataFrame(_utterance_rows(plan, store, keys), columns=list(UTTERANCE_COLUMNS))
    utterances["value"] = utterances["value"].astype("float64")
    systems = pd.DataFrame(rows)
    codes = pd.DataFrame(_code_rows(usages), columns=["system", "quantizer", "code", "count"])
    for name, frame in (("utterances", utterances), ("systems", systems), ("codes", codes)):
        store.write_frame(frame, name)
    title = plan.experiment.title or plan.experiment.name
    tables = write_tables(utterances, systems, plan.folder / "tables", title, _notes(plan))
    training = {
        name: pd.read_csv(path) for name in keys if (path := plan.folder / "training" / f"{name}.csv").is_file()
    }
    example = plan.test_utterances[0] if plan.experiment.examples else None
    plots = draw_plots(
        utterances, systems, codes, training, _signals(plan, example, list(keys)), plan.folder / "plots",
        f"{plan.dataset} {example.id}" if example else "",
    )  # fmt: skip
    return RunResult(plan.folder, utterances, systems, tables, plots)


def _utterance_rows(plan: Plan, store: RunStore, keys: dict[str, str]) -> list[tuple[Any, ...]]:
    rows = []
    for system, key in keys.items():
        for utterance in plan.test_utterances:
            record = store.record(system, key, utterance.id)
            for score in record.scores if record else ():
                rows.append(
                    (system, plan.dataset, utterance.id, utterance.speaker, score.metric, score.value, score.status,
                     score.detail, score.seconds)
                )  # fmt: skip
    return rows


def _code_rows(usages: dict[str, CodeUsage]) -> list[tuple[str, int, int, int]]:
    return [
        (system, quantizer, code, int(count))
        for system, usage in usages.items()
        for quantizer, counts in enumerate(usage.counts)
        for code, count in enumerate(counts)
    ]


def _signals(plan: Plan, example: Utterance | None, systems: list[str]) -> dict[str, Any]:
    """Name -> (audio, rate) of the first example, from the files kept of it."""
    if example is None:
        return {}
    paths = {system: example_path(plan.folder, example.id, system) for system in systems}
    return {system: soundfile.read(path, dtype="float32") for system, path in paths.items() if path.is_file()}


def _notes(plan: Plan) -> list[str]:
    """What a reader of the table must know, as sentences."""
    train = plan.experiment.train
    tested = f"Test set: {plan.dataset}, {plan.test.coverage}"
    if len(plan.test_utterances) < len(plan.test.utterances):
        tested += f", of which {len(plan.test_utterances)} were scored"
    notes = [*plan.experiment.notes, tested + "."]
    if plan.train:
        start = f"continuing from the backbone checkpoint {train.init_from}" if train.init_from else "from scratch"
        seconds = sum(utterance.seconds for utterance in plan.train_utterances)
        notes.append(
            f"Every system was trained, {start}, for {train.steps:,} steps of {train.batch_size} x "
            f"{train.segment_seconds:g} s on {seconds / 60:.1f} minutes of speech, seed {train.seed}."
        )
    return notes
