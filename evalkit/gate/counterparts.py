"""Which system of the candidate is compared with which one of the baseline, and on which data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evalkit.gate.rows import Rows
from evalkit.gate.settings import GateError
from evalkit.run.saved_run import SavedRun
from q2d2.errors import did_you_mean

MAX_NAMED = 10
# What the built-in experiments called a system in earlier versions -> now.
FORMER_NAMES = {"null": "unquantized"}


class Pair(NamedTuple):
    """A system of the baseline and the one of the candidate that stands against it."""

    system: str
    candidate: str

    @property
    def label(self) -> str:
        return self.system if self.system == self.candidate else f"{self.system} -> {self.candidate}"


class Paired(NamedTuple):
    """pairs: of systems; reasons: why the runs are not comparable; notes: what is left out or was assumed."""

    pairs: tuple[Pair, ...]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def listed(names: Sequence[str]) -> str:
    """At most ten names with commas between them, then how many more there are."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def pair_systems(before: Rows, after: Rows, wanted: Sequence[str]) -> Paired:
    """Pair what is no known-answer system.

    Args:
        before: of the baseline; `after` of the candidate.
        after: see `before`.
        wanted: "NAME" or "BASELINE=CANDIDATE" each; none for all systems of the baseline.

    Raises:
        GateError: `wanted` names a system that is not there.
    """
    ours, theirs = before.of_kind(anchors=False), after.of_kind(anchors=False)
    if wanted:
        return Paired(tuple(dict.fromkeys(_asked_for(each, ours, theirs) for each in wanted)))
    renamed = {old: new for old, new in FORMER_NAMES.items() if old in ours and old not in theirs and new in theirs}
    shared = [name for name in ours if name in theirs or name in renamed]
    if not shared and len(ours) == len(theirs) == 1:
        return Paired(
            (Pair(ours[0], theirs[0]),), notes=(f"{theirs[0]} is compared with {ours[0]}: there is no other",)
        )
    if not shared:
        if not ours or not theirs:
            side = before if not ours else after
            return Paired((), (f"{side.run.folder} has known-answer systems only: nothing to compare",))
        return Paired((), (
            f"no system has the same name: the baseline has {listed(ours)}; the candidate has {listed(theirs)}; "
            "pair them by --system BASELINE=CANDIDATE",
        ))  # fmt: skip
    missing = [name for name in ours if name not in shared]
    extra = [name for name in theirs if name not in ours and name not in renamed.values()]
    reasons = (
        f"the candidate lacks {listed(missing)} of the baseline; name the systems to compare by --system NAME",
    ) if missing else ()  # fmt: skip
    notes = (f"not compared, the baseline does not have them: {listed(extra)}",) if extra else ()
    return Paired(tuple(Pair(name, renamed.get(name, name)) for name in shared), reasons, notes)


def _asked_for(wanted: str, ours: Sequence[str], theirs: Sequence[str]) -> Pair:
    if wanted in ours and wanted in theirs:
        return Pair(wanted, wanted)
    # Names may hold "=" themselves.
    places = [place for place, character in enumerate(wanted) if character == "="]
    splits = [(wanted[:place], wanted[place + 1 :]) for place in places] or [(wanted, wanted)]
    for system, candidate in splits:
        if system in ours and candidate in theirs:
            return Pair(system, candidate)
    system, candidate = splits[0]
    side, name, known = ("candidate", candidate, theirs) if system in ours else ("baseline", system, ours)
    raise GateError(
        f"--system {wanted}: the {side} has no system {name!r} beside the known answers."
        f"{did_you_mean(name, known)} It has: {listed(known) or 'none'}"
    )


def align_datasets(baseline: SavedRun, candidate: SavedRun) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """How data sets of the candidate are called in the baseline, reasons why they are not comparable, and notes.

    Decoded audio is scored on a data set named after folders, which may have other names on another machine. A single
    one on each side is the same under two names if all utterances that both have are of the same files.
    """
    ours, theirs = (list(map(str, dict.fromkeys(run.utterances["dataset"]))) for run in (baseline, candidate))
    missing = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    if not missing:
        return {}, (), (f"not compared, the baseline does not have it: data set {listed(extra)}",) if extra else ()
    if len(ours) == len(theirs) == 1:
        before, after = (
            dict(zip(run.signals["utterance"], run.signals["reference_sha256"], strict=True))
            for run in (baseline, candidate)
        )
        shared = before.keys() & after.keys()
        if shared and all(before[name] == after[name] for name in shared):
            note = f"data set {theirs[0]} of the candidate is {ours[0]} of the baseline: the same files"
            return {theirs[0]: ours[0]}, (), (note,)
    return {}, (
        f"other data sets: the baseline was scored on {listed(ours)}, the candidate on {listed(theirs)}",
    ), ()  # fmt: skip
