"""Older forms of a publication made into the present one, version by version, on plain values and frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalkit.history.summaries import long_summary
from evalkit.run.store import SIGNAL_COLUMNS
from q2d2.errors import UserError

SCHEMA_VERSION = 2


class HistoryError(UserError, ValueError):
    """Something in a store of publications cannot be read or written; the message names it and says what to do."""


@dataclass(frozen=True)
class Stored:
    """What is kept of a run, in the form of some version.

    Attributes:
        values: version 1: run.json (or sweep.json), and `name`, `title`, `made`, `made_from`, `digest`; version 2:
            publication.json.
        frames: version 1: utterances, systems and maybe signals; version 2: summary as well.
    """

    values: dict[str, Any]
    frames: dict[str, pd.DataFrame]


def migrate(stored: Stored, version: object, where: str, known: Mapping[int, Callable[[Stored], Stored]]) -> Stored:
    """Bring what was stored in the form of `version` to that of the last version that `known` leads to.

    Args:
        stored: as read.
        version: what it says of itself.
        where: the file, for messages.
        known: `MIGRATIONS`: version -> what makes the next version of it.

    Raises:
        HistoryError: the version is none, or newer than this evalkit.
    """
    last = max(known) + 1
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise HistoryError(f"{where} has schema version {version!r}: not one of 1 to {last}; publish that run again")
    if version > last:
        raise HistoryError(
            f"{where} has schema version {version}, this evalkit reads up to {last}: install a newer evalkit"
        )
    for step in range(version, last):
        stored = known[step](stored)
    return stored


def from_plain_run(stored: Stored) -> Stored:
    """Version 1 to 2: a plain folder of a run gets its summary and what publication.json says.

    Signals were not kept then: without them it is not known whether two runs had the same audio behind equal ids.
    """
    run, frames = stored.values, dict(stored.frames)
    frames.setdefault("signals", pd.DataFrame(columns=list(SIGNAL_COLUMNS)))
    summary = long_summary(frames["utterances"], frames["systems"], frames["signals"])
    version = str(run.get("version", ""))
    commit = re.search(r"\+g([0-9a-f]{7,40}(-dirty)?)$", version)
    scored = summary[summary["n_total"] > 0]
    values = {
        "schema_version": 2,
        "digest": run["digest"],
        "name": run["name"],
        "title": run["title"],
        "kind": "sweep" if "sweep" in run else "folders" if "folders" in run else "run",
        "made": run["made"],
        "made_from": run["made_from"],
        "note": "",
        "version": version,
        "commit": commit[1] if commit else None,
        "hardware": run.get("hardware"),
        "seed": run.get("seed"),
        "baseline": run.get("baseline"),
        "boards": [
            {"dataset": dataset, "protocol": protocol, "n": int(rows["n_total"].max())}
            for (dataset, protocol), rows in scored.groupby(["dataset", "protocol"], sort=False)
        ],
        "metrics": {
            str(metric): sorted(set(rows["version"]) - {""})
            for metric, rows in scored.groupby("metric", sort=False)
        },
        "weights_sha256": _weights(run, frames["systems"]),
    }  # fmt: skip
    return Stored(values, frames | {"summary": summary})


MIGRATIONS: dict[int, Callable[[Stored], Stored]] = {1: from_plain_run}


def _weights(run: Mapping[str, Any], systems: pd.DataFrame) -> dict[str, Any]:
    """SHA-256 of every checkpoint and network that the numbers depend on."""
    found = dict(run.get("weights_sha256") or {})
    if "checkpoint_sha256" in systems:
        known = systems[systems["checkpoint_sha256"].notna()]
        found |= dict(zip(known["system"], known["checkpoint_sha256"], strict=True))
    return found
