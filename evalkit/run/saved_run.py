"""A finished run read back, for notebooks, reports and comparisons: `evalkit.load_run(folder)`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.run.descriptions import read_description
from evalkit.run.frames import read_parquet
from evalkit.run.store import SCHEMA_VERSION, SIGNAL_COLUMNS, example_path
from evalkit.stats.code_usage import CODE_USE, seen_enough
from evalkit.tables import compare_with_baseline, summarize
from q2d2.errors import UserError, shown

DESCRIPTION = "run.json"
SWEEP = "sweep.json"
PUBLISHED_TABLE = "published.csv"  # a paper's numbers beside ours; in tables/ until the run is published
TRAINING = "training.parquet"  # of a published run: all logs, column `system`


class RunError(UserError, ValueError):
    """A folder that holds no run that can be read; the message names the file and says what to do."""


@dataclass(frozen=True, repr=False)
class SavedRun:
    """What a run left, as pandas frames.

    Attributes:
        folder: of the run.
        description: run.json: experiment, protocol, test set, versions, machine; of a sweep, its sweep.json.
        utterances: one row a system, data set, utterance and metric: value, status (ok, failed, unavailable), detail.
        systems: one row a system: rates, code usage, speed, parameters.
        codes: one row a system, quantizer and code, with its count.
        signals: one row a system and utterance: speaker, seconds, SHA-256 of the reference's file, and a digest of what
            made the estimate (of a folder's file its SHA-256, of a codec that of its weights). Empty for runs made
            before this was kept.
        training: system -> rows of its training log.
    """

    folder: Path
    description: dict[str, Any]
    utterances: pd.DataFrame
    systems: pd.DataFrame
    codes: pd.DataFrame
    signals: pd.DataFrame
    training: dict[str, pd.DataFrame]

    def __repr__(self) -> str:
        return f"SavedRun({str(self.folder)!r}: {len(self.systems):,} systems, {len(self.utterances):,} rows)"

    @property
    def name(self) -> str:
        """Of the experiment or sweep; of decoded folders, that of the run's folder."""
        named = self.description.get("experiment") or self.description.get("sweep") or {}
        return str(named.get("name") or self.folder.resolve().name)

    @property
    def title(self) -> str:
        named = self.description.get("experiment") or self.description.get("sweep") or {}
        return str(named.get("title") or self.name)

    @property
    def baseline(self) -> str | None:
        """The system that others are compared with; None for no comparison."""
        name = self.description.get("baseline")
        return name if name in set(self.systems["system"]) else None

    def summary(self) -> pd.DataFrame:
        """One row a data set and system: means, 95 % intervals, counts, rates, speed (`evalkit.tables.summarize`)."""
        return summarize(self.utterances, self.systems, self.differences())

    def differences(self) -> pd.DataFrame | None:
        """Paired differences to the baseline (`evalkit.tables.compare_with_baseline`); None without a baseline."""
        if self.baseline is None:
            return None
        return compare_with_baseline(self.utterances, self.systems, self.baseline)

    def examples(self) -> dict[str, dict[str, Path]]:
        """Utterance -> system -> FLAC file, of the utterances whose audio the run kept."""
        found: dict[str, dict[str, Path]] = {}
        for utterance in dict.fromkeys(self.utterances["utterance"]):
            kept = {
                name: path
                for name in self.systems["system"]
                if (path := example_path(self.folder, utterance, name)).is_file()
            }
            if kept:
                found[utterance] = kept
        return found


def load_run(path: str | Path) -> SavedRun:
    """Read the folder of a finished run, of a published one, or of a sweep (its trials are the systems).

    Args:
        path: the folder, as given to --out.

    Raises:
        RunError: it holds no run, one that is not finished, or one that this version does not read.
    """
    folder = Path(path)
    if (folder / SWEEP).is_file():
        return _load_sweep(folder)
    description = _read_description(folder / DESCRIPTION)
    if description.get("schema_version") != SCHEMA_VERSION:
        found = shown(description.get("schema_version"))
        raise RunError(
            f"{folder / DESCRIPTION} has schema version {found}, this version of evalkit reads {SCHEMA_VERSION}"
        )
    signals = folder / "signals.parquet"
    return SavedRun(
        folder,
        description,
        _read_frame(folder / "utterances.parquet"),
        _read_frame(folder / "systems.parquet"),
        _read_frame(folder / "codes.parquet"),
        _read_frame(signals) if signals.is_file() else pd.DataFrame(columns=list(SIGNAL_COLUMNS)),
        _read_training(folder),
    )


def _load_sweep(folder: Path) -> SavedRun:
    """A sweep as one run: every trial that left rows is a system, "LABEL seed N"; use of codes as in its tables."""
    description = _read_description(folder / SWEEP)
    trials, rows = _read_frame(folder / "trials.parquet"), _read_frame(folder / "utterances.parquet")
    trials = trials[trials["id"].isin(rows["trial"])]
    if trials.empty:
        raise RunError(f"{folder}: no trial of this sweep has scores; why, says evalkit sweep status {folder}")
    names = trials["label"] + " seed " + trials["seed"].astype(str)
    twice = names.duplicated(keep=False)
    names = names.where(~twice, names + " " + trials["id"])  # labels leave out what does not vary
    by_trial = dict(zip(trials["id"], names, strict=True))
    enough = pd.Series([seen_enough(row) for row in trials.to_dict("records")], trials.index, dtype=bool)
    trials = trials.assign(**{key: trials[key].where(enough) for key in CODE_USE})
    systems = trials.assign(system=names, kind="codec", codec=None, rtf_encode=None, rtf_decode=None, rtf_detail=None)
    systems["tokens_per_second"] = [
        row["frame_rate"] * _tokens_per_frame(row["bottleneck"], row["codebook_sizes"])
        if row["codebook_sizes"] is not None
        else None
        for row in trials.to_dict("records")
    ]
    systems["entropy_bitrate"] = trials["entropy"] * trials["frame_rate"]
    protocols = rows["protocol"].dropna().unique()
    datasets = rows["dataset"].unique()
    description |= {
        "protocol": {"label": ", ".join(map(str, protocols))},
        "test": {"dataset": ", ".join(map(str, datasets)), "scored": int(rows["utterance"].nunique())},
    }
    return SavedRun(
        folder,
        description,
        rows.assign(system=rows["trial"].map(by_trial)).drop(columns="trial"),
        systems.reset_index(drop=True),
        pd.DataFrame(columns=["system", "quantizer", "code", "count"]),
        pd.DataFrame(columns=list(SIGNAL_COLUMNS)),
        {},
    )


def _tokens_per_frame(bottleneck: str | None, codebook_sizes: Sequence[int]) -> int:
    """Of a trial: one for a product of codes, one a quantizer for all else, as its run counted them."""
    # torch, for which nothing else here waits
    from q2d2.bottleneck import BOTTLENECKS, tokens_per_frame
    from q2d2.registry import UnknownName

    if bottleneck is None:
        return len(codebook_sizes)
    try:
        return tokens_per_frame(BOTTLENECKS.resolve(json.loads(bottleneck)["name"]), codebook_sizes)
    except UnknownName:  # of a package that is not installed here
        return len(codebook_sizes)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        return read_description(path, RunError)
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "no such folder" if not path.parent.is_dir() else f"it has no {path.name}"
        raise RunError(f"{path.parent} holds no run: {what}; give the folder (--out) of a finished one") from error


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        return read_parquet(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{path.parent} holds no finished run: {path.name} is missing; run the same command again to go on with it"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _read_training(folder: Path) -> dict[str, pd.DataFrame]:
    """System -> its log, of a run one CSV each, of a published run one file for all."""
    if (folder / TRAINING).is_file():
        logs = _read_frame(folder / TRAINING).groupby("system", sort=False)
        return {
            str(system): rows.drop(columns="system").dropna(axis="columns", how="all").reset_index(drop=True)
            for system, rows in logs
        }
    found = {}
    for path in sorted((folder / "training").glob("*.csv")):
        try:
            found[path.stem] = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return found
