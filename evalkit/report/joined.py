"""Several runs as one set of rows: systems named "run: system", nothing averaged over two data sets or protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from evalkit.run.saved_run import SavedRun
from evalkit.tables import compare_with_baseline, metric_keys, summarize
from q2d2.errors import UserError


class ReportError(UserError, ValueError):
    """Runs that cannot stand on one page; the message names them and says what to do."""


@dataclass(frozen=True)
class Joined:
    """What a page is about.

    Attributes:
        runs: in the order given.
        labels: a name of each run, all different.
        names: (position of the run, system) -> what the system is called on the page.
        utterances, systems, codes: rows of all runs under those names; in `utterances`, `key` is the metric as the
            summary calls it (`evalkit.tables.metric_keys`).
        training: system -> rows of its log.
        baseline: the system that the others are compared with, or None.
        differences: from `compare_with_baseline`; None without a baseline.
        summary: from `summarize`.
    """

    runs: tuple[SavedRun, ...]
    labels: tuple[str, ...]
    names: Mapping[tuple[int, str], str]
    utterances: pd.DataFrame
    systems: pd.DataFrame
    codes: pd.DataFrame
    training: Mapping[str, pd.DataFrame]
    baseline: str | None
    differences: pd.DataFrame | None
    summary: pd.DataFrame

    @property
    def title(self) -> str:
        return self.runs[0].title if len(self.runs) == 1 else ", ".join(self.labels)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(self.summary["dataset"]))

    def of_run(self, position: int) -> list[str]:
        """The systems of a run, as called on the page."""
        return [name for (run, _), name in self.names.items() if run == position]


def join_runs(runs: Sequence[SavedRun]) -> Joined:
    """Rows, means and differences of `runs`, at least one.

    Systems of several runs are compared with the baseline of the first run that has one.

    Raises:
        ReportError: a folder is given twice, two runs mean different audio by one utterance, or a metric was scored by
            two versions.
    """
    labels = _labels(runs)
    names = {
        (position, str(system)): f"{label}: {system}" if len(runs) > 1 else str(system)
        for position, (run, label) in enumerate(zip(runs, labels, strict=True))
        for system in run.systems["system"]
    }
    _check_references(runs, labels)
    utterances, systems, codes = (
        _stacked([_renamed(getattr(run, frame), position, names) for position, run in enumerate(runs)])
        for frame in ("utterances", "systems", "codes")
    )
    baselines = [(position, run.baseline) for position, run in enumerate(runs) if run.baseline is not None]
    baseline = names[baselines[0]] if baselines else None
    try:
        differences = None if baseline is None else compare_with_baseline(utterances, systems, baseline)
        summary = summarize(utterances, systems, differences)
    except ValueError as error:
        raise ReportError(f"{', '.join(str(run.folder) for run in runs)}: no table can be made: {error}") from error
    return Joined(
        tuple(runs),
        labels,
        names,
        utterances.assign(key=metric_keys(utterances)),
        systems,
        codes,
        {names[position, name]: log for position, run in enumerate(runs) for name, log in run.training.items()
         if (position, name) in names},
        baseline,
        None if differences is None or differences.empty else differences,
        summary,
    )  # fmt: skip


def _labels(runs: Sequence[SavedRun]) -> tuple[str, ...]:
    folders = [run.folder.resolve() for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise ReportError(f"{run.folder} is given twice; give each run once")
    named = [run.name for run in runs]
    # Two runs of one experiment are told apart by their folders, and these by their place.
    labels = [
        name if named.count(name) == 1 else f"{name} ({folder.name})"
        for name, folder in zip(named, folders, strict=True)
    ]
    return tuple(
        label if labels.count(label) == 1 else f"{label} {position}" for position, label in enumerate(labels, 1)
    )


def _renamed(frame: pd.DataFrame, position: int, names: Mapping[tuple[int, str], str]) -> pd.DataFrame:
    return frame.assign(system=[names.get((position, str(name)), str(name)) for name in frame["system"]])


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _check_references(runs: Sequence[SavedRun], labels: Sequence[str]) -> None:
    """Refuse what would pair different audio under one name; runs that did not keep digests are taken at their word."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for run, label in zip(runs, labels, strict=True):
        signals = run.signals.drop_duplicates(["dataset", "utterance"])
        for dataset, utterance, digest in zip(
            signals["dataset"], signals["utterance"], signals["reference_sha256"], strict=True
        ):
            before, other = seen.setdefault((dataset, utterance), (digest, label))
            if before != digest:
                raise ReportError(
                    f"runs {other} and {label}: utterance {utterance} of {dataset} is not the same audio in both, so "
                    "their systems cannot be compared; report each run by itself"
                )
