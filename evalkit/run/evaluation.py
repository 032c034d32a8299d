"""One system on one test set: reconstruct what has no score yet, score it, keep every row at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evalkit.datasets import Utterance
from evalkit.machine import describe_environment
from evalkit.metrics import Metric, Unavailable, load_metric, packages, version_on
from evalkit.run.store import RunStore, UtteranceRecord, example_path, read_example
from evalkit.run.systems import System, UnavailableSystem
from evalkit.scoring.pair import Pair, Score
from evalkit.scoring.protocol import Protocol
from evalkit.scoring.workers import Scorer
from evalkit.tables.against_paper import Counterpart
from q2d2.audio import AudioError, encode_flac, read_audio, read_header
from q2d2.errors import UserError
from q2d2.files import file_sha256, whole


class MissingMetric(UserError, RuntimeError):
    """A metric that was required cannot run here; the message says what it lacks."""


@dataclass(frozen=True)
class Evaluation:
    """What systems are scored on, and how.

    Attributes:
        folder: of the run.
        title, notes: heading of the tables, and sentences under them.
        dataset: as named in rows: "librispeech/test-clean".
        utterances: of the test set, sorted by id.
        metrics: registered names.
        protocol: how pairs are brought to the metrics.
        baseline: the system that the others are compared with; None for no comparison.
        examples: utterances whose reconstructions are kept.
        paper: published numbers to stand beside, one of `evalkit.papers`; None for none.
        counterparts: system -> the paper's row that it is compared with.
    """

    folder: Path
    title: str
    notes: tuple[str, ...]
    dataset: str
    utterances: tuple[Utterance, ...]
    metrics: tuple[str, ...]
    protocol: Protocol
    baseline: str | None = None
    examples: int = 0
    paper: str | None = None
    counterparts: Mapping[str, Counterpart] = field(default_factory=dict)

    @cached_property
    def loaded(self) -> dict[str, Metric]:
        """The metrics that can run here."""
        found = {}
        for name in self.metrics:
            try:
                found[name] = load_metric(name)
            except (Unavailable, ImportError):
                continue
        return found

    @cached_property
    def unavailable(self) -> dict[str, str]:
        """The metrics that cannot run here, and why."""
        reasons = {}
        for name in self.metrics:
            if name not in self.loaded:
                try:
                    load_metric(name)
                except (Unavailable, ImportError) as error:
                    reasons[name] = str(error)
        return reasons

    def versions(self, device: str) -> dict[str, str]:
        """Version of each metric that can run here, on `device`."""
        return {name: version_on(metric, device) for name, metric in self.loaded.items()}

    @cached_property
    def files(self) -> dict[str, str]:
        """Utterance -> digest of its file."""
        return {utterance.id: file_digest(utterance.path) for utterance in self.utterances}

    def require(self, metrics: Sequence[str]) -> None:
        """Raise `MissingMetric` where one of `metrics` cannot run here or is not asked for."""
        for name in metrics:
            if name in self.unavailable:
                raise MissingMetric(f"{name} is required: {self.unavailable[name]}")
            if name not in self.metrics:
                raise MissingMetric(f"{name} is required but not among the metrics: {', '.join(self.metrics)}")

    def describe(self) -> dict[str, Any]:
        """Test set, protocol, versions and machine, for run.json."""
        rates = {name: (metric.sample_rate, metric.version) for name, metric in self.loaded.items()}
        return describe_environment(packages()) | {
            "notes": list(self.notes),
            "protocol": {"label": self.protocol.label} | self.protocol.describe(rates),
            "unavailable": self.unavailable,
            "baseline": self.baseline,
            "test": {"dataset": self.dataset, "scored": len(self.utterances), "files_sha256": digest(self.files)},
        }

    def scores_of(self, record: UtteranceRecord) -> Iterator[Score]:
        """A score for each metric, in their order; a metric that cannot run here has one that says so."""
        kept = {score.metric: score for score in record.scores}
        for name in self.metrics:
            if name in self.unavailable:
                yield Score(name, None, "unavailable", self.unavailable[name], 0.0)
            else:
                yield kept[name]


def report_damage(store: RunStore, console: Console) -> None:
    """Print what a user should know of a damaged journal."""
    if store.damage:
        console.print(f"[yellow]warning:[/] {escape(store.damage)}", highlight=False, soft_wrap=True)


def evaluate(
    evaluation: Evaluation, store: RunStore, system: System, scorer: Scorer, console: Console
) -> tuple[UtteranceRecord, ...]:
    """Score what has no number yet and return the records of all utterances, in their order.

    Raises:
        OSError: a row cannot be written; all rows before are kept.
    """
    keys = {u.id: _key(evaluation, system, u) for u in evaluation.utterances}
    if isinstance(system, UnavailableSystem):
        lost = tuple(Score(name, None, system.status, system.reason, 0.0) for name in evaluation.metrics)
        return tuple(UtteranceRecord(system.name, keys[u.id], u.id, lost, None) for u in evaluation.utterances)
    versions = evaluation.versions(scorer.device)
    found = {u.id: store.record(system.name, keys[u.id], u.id) for u in evaluation.utterances}
    todo = {utterance: _missing(record, versions) for utterance, record in found.items()}
    missing = [u for u in evaluation.utterances if todo[u.id]]
    if missing:
        made: dict[str, list[Any]] = {}  # utterance -> codes and bits

        def pairs() -> Iterator[tuple[Pair, Sequence[str]]]:
            for utterance in missing:
                pair, *made[utterance.id] = _reconstruct(system, utterance)
                yield pair, todo[utterance.id]

        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            total = len(evaluation.utterances)
            task = progress.add_task(f"score {system.name:18}", total=total, completed=total - len(missing))
            for pair, scores in scorer.score(pairs()):
                name = pair.utterance
                whole = (*_others(found[name], scores), *scores)
                store.append(UtteranceRecord(system.name, keys[name], name, whole, *made.pop(name)))
                progress.advance(task)
    _keep_examples(evaluation, system, keys)
    # Where no metric can run there are no records: the rows are made of the reasons alone.
    return tuple(
        store.record(system.name, keys[u.id], u.id) or UtteranceRecord(system.name, keys[u.id], u.id, (), None)
        for u in evaluation.utterances
    )


def _key(evaluation: Evaluation, system: System, utterance: Utterance) -> str:
    return digest(evaluation.files[utterance.id], system.fingerprint(utterance.id), evaluation.protocol.digest)


def _missing(record: UtteranceRecord | None, versions: Mapping[str, str]) -> list[str]:
    """The metrics that have given no number yet."""
    numbers = {} if record is None else record.numbers(versions)
    return [name for name in versions if name not in numbers]


def _others(record: UtteranceRecord | None, scores: Sequence[Score]) -> list[Score]:
    """What a record holds of further metrics, asked for now or not: a later call may want it."""
    new = {score.metric for score in scores}
    return [score for score in record.scores if score.status == "ok" and score.metric not in new] if record else []


def _reconstruct(system: System, utterance: Utterance) -> tuple[Pair, Any, int | None]:
    """The pair to score, and the codes and bits of the reconstruction where there are any."""
    try:
        channels = read_header(utterance.path).channels  # knows of damage that decoding passes over
        audio, rate = read_audio(utterance.path)
    except AudioError as error:
        return Pair.without_audio(utterance.id, f"reference: {error.reason}"), None, None
    try:
        made = system.reconstruct(audio, rate, utterance.id)
    except AudioError as error:
        return Pair.without_audio(utterance.id, f"estimate: {error.reason}"), None, None
    except Exception as error:  # a codec may be anybody's, and one utterance must not end a run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Pair.without_audio(utterance.id, f"estimate: {reason}"), None, None
    averaged = f"reference: mean of {channels} channels" if channels > 1 else ""
    note = "; ".join(part for part in (averaged, made.note) if part)
    return Pair(utterance.id, audio, rate, made.audio, made.sample_rate, note=note), made.codes, made.bits


def _keep_examples(evaluation: Evaluation, system: System, keys: Mapping[str, str]) -> None:
    """Write the reconstructions of the first utterances, for listening and for the spectrograms.

    Each file holds its record's key as its comment: one of other weights or of another file, and one that is damaged,
    is written anew.
    """
    for utterance in evaluation.utterances[: evaluation.examples]:
        path = example_path(evaluation.folder, utterance.id, system.name)
        kept = read_example(path)
        if kept is not None and kept[2] == keys[utterance.id]:
            continue
        path.unlink(missing_ok=True)
        try:
            made = system.reconstruct(*read_audio(utterance.path), utterance.id)
            coded = encode_flac(made.audio, made.sample_rate, keys[utterance.id])
        except Exception:  # as in _reconstruct: its scores are failed rows that say why
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_bytes(coded)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or "unreadable": reading it for scoring fails as well, and that row says why."""
    try:
        return file_sha256(path)
    except OSError:
        return "unreadable"


def digest(*parts: Any) -> str:
    """A short digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
