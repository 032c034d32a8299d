"""The rows of one run as the gate reads them: by system, data set, metric and protocol, one score an utterance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from evalkit.run.saved_run import RunError, SavedRun
from evalkit.text import normalized

NEEDED = ("system", "dataset", "utterance", "speaker", "metric", "value", "status", "detail")
OF_SYSTEMS = ("system", "kind")
SIGNALS = ("system", "dataset", "utterance", "reference_sha256", "estimate")


class Key(NamedTuple):
    """Of the scores of one system."""

    dataset: str
    metric: str
    protocol: str


class Score(NamedTuple):
    """value: a finite number where status is "ok", else None."""

    value: float | None
    status: str
    detail: str


@dataclass(frozen=True)
class Rows:
    """One run's rows.

    Attributes:
        run: that they are of.
        scores: system -> key -> utterance -> score.
        versions: key -> versions of the metric that gave scores.
        speakers: data set -> utterance -> speaker, of the utterances whose speaker is known.
        references: data set -> utterance -> digest of its reference's file; empty for older runs.
        estimates: (system, data set) -> utterance -> digest of what made its estimate; empty for older runs.
        systems: system -> its row of systems.parquet.
    """

    run: SavedRun
    scores: Mapping[str, Mapping[Key, Mapping[str, Score]]]
    versions: Mapping[Key, Set[str]]
    speakers: Mapping[str, Mapping[str, str]]
    references: Mapping[str, Mapping[str, str]]
    estimates: Mapping[tuple[str, str], Mapping[str, str]]
    systems: Mapping[str, Mapping[str, Any]]

    def kind(self, system: str) -> str:
        """ "anchor", "codec" or "folder"."""
        return str(self.systems[system].get("kind"))

    def of_kind(self, anchors: bool) -> list[str]:
        """Systems with rows that are, or are not, known-answer systems, in the order of the run."""
        return [name for name in self.systems if name in self.scores and (self.kind(name) == "anchor") == anchors]

    def utterances(self, system: str, dataset: str) -> set[str]:
        """Ids that the system has rows of, whatever became of them."""
        own = self.scores[system]
        return {utterance for key, scores in own.items() if key.dataset == dataset for utterance in scores}

    def values(self, system: str, key: Key) -> dict[str, float]:
        """Utterance -> number, of the scores that are ok."""
        own = self.scores[system].get(key, {})
        return {utterance: score.value for utterance, score in own.items() if score.value is not None}


def check_columns(run: SavedRun) -> None:
    """Refuse frames that are not of a run.

    Raises:
        RunError: naming the file and the column.
    """
    for name, of, columns in (
        ("utterances", run.utterances, NEEDED), ("systems", run.systems, OF_SYSTEMS), ("signals", run.signals, SIGNALS),
    ):  # fmt: skip
        if missing := [column for column in columns if column not in of]:
            raise RunError(f"{run.folder / f'{name}.parquet'} lacks the column {missing[0]}; it is not of a run")


def read_rows(run: SavedRun, metrics: Iterable[str] | None, renamed: Mapping[str, str] | None = None) -> Rows:
    """Sort the rows of a run.

    Args:
        run: as loaded, with all columns.
        metrics: those to keep; None for all.
        renamed: data set -> the name it shall have.

    Raises:
        RunError: there are no rows, an utterance was scored twice, or a system is unknown.
    """
    systems = run.systems
    spelled = _spellings(run)
    frame = run.utterances.assign(utterance=run.utterances["utterance"].map(spelled))
    for column in ("protocol", "version"):
        frame = frame.assign(**{column: frame[column].fillna("") if column in frame else ""})
    if metrics is not None:
        frame = frame[frame["metric"].isin(list(metrics))]
    frame = frame.assign(dataset=frame["dataset"].replace(dict(renamed or {})))
    if frame.empty:
        raise RunError(f"{run.folder} holds no scores" + ("" if metrics is None else " by the metrics of the gate"))
    if unknown := sorted(set(frame["system"]) - set(systems["system"])):
        raise RunError(f"{run.folder}: {unknown[0]} has scores and no row in systems.parquet")
    twice = frame[frame.duplicated(["system", "dataset", "utterance", "metric", "protocol"])]
    if len(twice):
        row = twice.iloc[0]
        raise RunError(f"{run.folder}: {row['utterance']} of {row['system']} was scored twice by {row['metric']}")
    scores: dict[str, dict[Key, dict[str, Score]]] = {}
    versions: dict[Key, set[str]] = {}
    speakers: dict[str, dict[str, str]] = {}
    columns_of_rows = (frame[column].tolist() for column in (*NEEDED, "protocol", "version"))
    for system, dataset, utterance, speaker, metric, value, status, detail, protocol, version in zip(
        *columns_of_rows, strict=True
    ):
        key = Key(dataset, metric, protocol)
        score = _score(value, status, detail)
        scores.setdefault(system, {}).setdefault(key, {})[utterance] = score
        if score.value is not None:
            versions.setdefault(key, set()).add(version)
        if isinstance(speaker, str):
            speakers.setdefault(dataset, {})[utterance] = speaker
    references: dict[str, dict[str, str]] = {}
    estimates: dict[tuple[str, str], dict[str, str]] = {}
    columns_of_signals = (run.signals[column].tolist() for column in SIGNALS)
    for system, dataset, utterance, reference, estimate in zip(*columns_of_signals, strict=True):
        dataset, utterance = (renamed or {}).get(dataset, dataset), spelled[utterance]
        references.setdefault(dataset, {})[utterance] = reference
        estimates.setdefault((system, dataset), {})[utterance] = estimate
    by_system = {str(row["system"]): {str(k): v for k, v in row.items()} for row in systems.to_dict("records")}
    return Rows(run, scores, versions, speakers, references, estimates, by_system)


def _spellings(run: SavedRun) -> dict[Any, Any]:
    """Utterance -> its name as it is compared: runs of other machines, and older ones, may spell it differently."""
    names = {*run.utterances["utterance"], *run.signals["utterance"]}
    spelled = {name: normalized(name) if isinstance(name, str) else name for name in names}
    return spelled if len(set(spelled.values())) == len(names) else {name: name for name in names}


def number(value: Any) -> float | None:
    """A finite number as float, anything else as None."""
    try:
        as_float = float(value)
    except (TypeError, ValueError):
        return None
    return as_float if math.isfinite(as_float) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """A section of run.json; empty where it is missing."""
    return value if isinstance(value, dict) else {}


def _score(value: Any, status: Any, detail: Any) -> Score:
    found = number(value) if status == "ok" else None
    if status == "ok" and found is None:
        return Score(None, "failed", f"not a finite number: {value}")
    return Score(found, str(status), detail if isinstance(detail, str) else "")
