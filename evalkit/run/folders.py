"""Anyone's decoded audio: folders of estimates, paired by name with a folder of references, and scored."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from evalkit.datasets import Utterance
from evalkit.run.descriptions import read_description
from evalkit.run.evaluation import Evaluation, evaluate, file_digest, report_damage
from evalkit.run.outputs import RunResult, scored_system, write_outputs
from evalkit.run.store import RunStore
from evalkit.run.systems import Audio, GroundTruth, Reconstruction, System
from evalkit.scoring.pair_lists import by_mapping, find_by_mapping, refuse_outside
from evalkit.scoring.pairing import (
    Catalogue,
    PairingError,
    Wanted,
    by_equal_names,
    find_by_names,
    list_audio,
    named_folders,
    why_exchanged,
)
from evalkit.scoring.protocol import GROUND_TRUTH
from evalkit.scoring.workers import Scorer
from evalkit.text import normalized
from q2d2.audio import AudioError, read_audio, read_header
from q2d2.suffixes import why_unsupported

MAX_SHOWN = 10


class FolderSystem:
    """A codec's decoded files.

    Args:
        name: as in tables.
        folder: that holds them.
        files: utterance -> file.
        expected: utterance -> what its file should be called, where a list says it.
    """

    kind = "folder"
    sample_rate: int | None = None
    frame_rate: float | None = None
    codebook_sizes: tuple[int, ...] = ()
    tokens_per_frame = 0

    def __init__(
        self, name: str, folder: Path, files: Mapping[str, Path], expected: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.files = files
        self.expected = expected or {}

    def fingerprint(self, utterance: str) -> str:
        return file_digest(self.files[utterance]) if utterance in self.files else "missing"

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        if utterance not in self.files:
            named = self.expected.get(utterance)
            what = "no file for it" if named is None else f"no file {named!r}"
            raise AudioError(self.folder / utterance, f"{what} in {self.folder}")
        path = self.files[utterance]
        channels = read_header(path).channels
        decoded, rate = read_audio(path)
        return Reconstruction(decoded, rate, note=f"estimate: mean of {channels} channels" if channels > 1 else "")


@dataclass(frozen=True)
class Pairing:
    """What is scored against what.

    Attributes:
        dataset: the references' folder and the one above it.
        folder: of the references, as it was given.
        references: those with an estimate in at least one folder, sorted by id; then those without any, whose scores
            fail.
        paired: how many have an estimate.
        systems: in the order given.
        unpaired: folder -> its files that are left out.
        ignored: folder -> its files in a format that is not read, beside one of the same name that is.
        remarks: what else a reader of the table must know.
    """

    dataset: str
    folder: Path
    references: tuple[Utterance, ...]
    paired: int
    systems: tuple[FolderSystem, ...]
    unpaired: Mapping[Path, tuple[Path, ...]]
    ignored: Mapping[Path, tuple[Path, ...]]
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know."""
        left_out = ", ".join(f"{len(paths)} of {folder}" for folder, paths in self.unpaired.items())
        notes = [f"Left out, without partner: {left_out}."] if left_out else []
        if missing := len(self.references) - self.paired:
            notes.append(f"Failed, without an estimate in any folder: {missing} of {len(self.references)}.")
        return (*notes, *self.remarks)

    def baseline(self, name: str | None) -> str | None:
        """The system called `name`, the first of several if None, and none if there is one only.

        Raises:
            PairingError: no such system.
        """
        names = [GROUND_TRUTH, *(system.name for system in self.systems)]
        if name is not None and normalized(name) not in names:
            raise PairingError(f"--baseline {name}: no such system; there are {', '.join(names)}")
        return normalized(name) if name else (names[1] if len(names) > 2 else None)


def pair_folders(
    references: Path,
    estimates: Sequence[str],
    mapping: Path | None = None,
    out: Path | None = None,
    as_given: bool = False,
) -> Pairing:
    """Pair the files of each folder of estimates with those of `references`, subfolders included.

    Args:
        references: folder of the originals.
        estimates: folders, each "DIR" or "NAME=DIR"; a system is named after its folder unless a name is given.
        mapping: CSV with the columns reference and estimate (absolute paths, paths below their folders or the CSV's,
            file names or stems) and, if known, speaker. None: files pair whose paths in their folders, or whose names,
            are equal without suffix.
        out: folder of the run. What lies in it, or in another of the folders, does not belong to a folder around it.
        as_given: pair also where originals and estimates seem to be exchanged.

    Raises:
        PairingError: a folder is missing, empty, or named twice; a name is ambiguous; nothing pairs; the mapping
            cannot be read; the arguments are exchanged.
    """
    named = named_folders(estimates)
    folders = [references, *named.values(), *([out] if out else [])]
    listed = {folder: list_audio(folder, folders) for folder in (references, *named.values())}
    if not as_given and (reason := why_exchanged(references, list(named.values()), out)):
        raise PairingError(f"{reason}: the originals come first; --as-given scores the folders as they are given")
    originals = Catalogue(references, listed[references].files)
    wanted = by_equal_names(originals) if mapping is None else by_mapping(originals, mapping)
    catalogues = {name: Catalogue(folder, listed[folder].files) for name, folder in named.items()}
    if mapping is not None:
        for entry in wanted.values():
            refuse_outside(list(catalogues.values()), entry.estimate, f"{mapping}, line {entry.line}")
    systems = []
    unpaired: dict[Path, tuple[Path, ...]] = {}
    for name, catalogue in catalogues.items():
        folder = catalogue.folder
        if mapping is None:
            files = find_by_names(originals, wanted, catalogue)
        else:
            files = find_by_mapping(wanted, catalogue, mapping)
        expected = {utterance: entry.estimate for utterance, entry in wanted.items() if entry.estimate}
        systems.append(FolderSystem(name, folder, files, expected))
        unpaired[folder] = tuple(sorted(set(listed[folder].files) - set(files.values())))
    paired = {utterance for system in systems for utterance in system.files}
    if not any(wanted[utterance].reference in set(listed[references].files) for utterance in paired):
        raise _nothing_pairs(originals, wanted, list(catalogues.values()), mapping)
    if mapping is not None:
        used = {entry.reference for entry in wanted.values()}
        unpaired[references] = tuple(sorted(set(listed[references].files) - used))
    names = [*sorted(paired), *sorted(wanted.keys() - paired)]
    where = Path(os.path.realpath(references))
    return Pairing(
        dataset=normalized(f"{where.parent.name}/{where.name}".lstrip("/")),
        folder=references,
        references=tuple(_utterance(name, wanted[name]) for name in names),
        paired=len(paired),
        systems=tuple(systems),
        unpaired={folder: paths for folder, paths in unpaired.items() if paths},
        ignored={folder: tuple(listing.ignored) for folder, listing in listed.items() if listing.ignored},
        remarks=tuple(
            f"{name} is the folder of the originals itself: a known answer, no codec."
            for name, folder in named.items()
            if os.path.realpath(folder) == os.path.realpath(references)
        ),
    )


def _nothing_pairs(
    originals: Catalogue, wanted: Mapping[str, Wanted], estimates: Sequence[Catalogue], mapping: Path | None
) -> PairingError:
    named = ", ".join(str(each.folder) for each in estimates)
    if mapping is None:
        first, second = (next(iter(each.by_path.values()))[0] for each in (originals, estimates[0]))
        return PairingError(
            f"no file of {originals.folder} has the name of an estimate ({first.name} and {second.name}); give --pairs "
            "with a CSV of columns reference,estimate"
        )
    for name, entry in wanted.items():
        if not entry.reference.is_file():
            return PairingError(f"{mapping}, line {entry.line}: no reference {name!r} in {originals.folder}")
    return PairingError(f"{mapping}: no estimate that it names is in {named}")


def show_pairing(pairing: Pairing, evaluation: Evaluation, console: Console) -> None:
    """Print what will be scored against what, and every file that is left out, as far as a screen holds them."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def names(listed: Sequence[object]) -> None:
        for each in listed[:MAX_SHOWN]:
            line(f"  {each}")
        if len(listed) > MAX_SHOWN:
            line(f"  and {len(listed) - MAX_SHOWN:,} more, listed in {evaluation.folder / 'run.json'}")

    count = pairing.paired
    line(f"reference {pairing.dataset}: {count:,} utterance{'' if count == 1 else 's'} with an estimate")
    for system in pairing.systems:
        missing = len(pairing.references) - len(system.files)
        line(f"system    {system.name}: {len(system.files):,} files" + (f", {missing:,} missing" if missing else ""))
    if without := [utterance.path for utterance in pairing.references[count:]]:
        line(f"missing   {len(without):,} without an estimate in any folder; their scores fail:")
        names([path.relative_to(pairing.folder) if path.is_relative_to(pairing.folder) else path for path in without])
    for folder, paths in pairing.unpaired.items():
        line(f"left out  {len(paths):,} of {folder} without partner:")
        names([path.relative_to(folder) for path in paths])
        for reason in dict.fromkeys(filter(None, map(why_unsupported, paths))):
            line(f"  {reason}")
    for folder, paths in pairing.ignored.items():
        line(f"ignored   {len(paths):,} of {folder}, beside files of the same names: {why_unsupported(paths[0])}")
    for remark in pairing.remarks:
        line(f"note      {remark}")
    for name, held in _replaced(pairing, evaluation.folder).items():
        line(f"replaced  {name} of {held}, which {evaluation.folder} held: --out keeps runs apart")
    line(f"scoring   {', '.join(evaluation.metrics)}")
    line(f"protocol  {evaluation.protocol.label}")


def _replaced(pairing: Pairing, run: Path) -> dict[str, str]:
    """System -> folder, of what an earlier call scored into `run` and this one does not."""
    try:
        before = read_description(run / "run.json", PairingError).get("folders") or {}
    except (OSError, PairingError):
        return {}
    now = {system.name: str(system.folder) for system in pairing.systems}
    return {name: folder for name, folder in before.items() if now.get(name) != folder}


def score_folders(pairing: Pairing, evaluation: Evaluation, console: Console, scorer: Scorer) -> RunResult:
    """Score every system of `pairing`, and the references themselves as `ground-truth`; write the run's folder.

    Raises:
        StoreError, OSError: what was computed before is kept.
    """
    with RunStore(evaluation.folder) as store:
        report_damage(store, console)
        unpaired = {str(folder): [str(path) for path in paths] for folder, paths in pairing.unpaired.items()}
        missing = [utterance.id for utterance in pairing.references[pairing.paired :]]
        systems = {system.name: str(system.folder) for system in pairing.systems}
        named = {"originals": str(pairing.folder), "folders": systems, "unpaired": unpaired, "missing": missing}
        description = evaluation.describe() | named
        store.write_run(description)
        # An original that no system has an estimate of need not be scored against itself.
        todo: list[tuple[System, Evaluation]] = [
            (GroundTruth(), replace(evaluation, utterances=pairing.references[: pairing.paired])),
            *((system, evaluation) for system in pairing.systems),
        ]
        done = []
        for system, scored in todo:
            records = evaluate(scored, store, system, scorer, console)
            done.append(scored_system(scored, system, records, None, None))
        store.write_run(description)
        return write_outputs(evaluation, store, done)


def _utterance(name: str, wanted: Wanted) -> Utterance:
    try:
        header = read_header(wanted.reference)
    except AudioError:
        return Utterance(name, wanted.reference, wanted.speaker, 0, 1)  # its scores are failed rows that say why
    return Utterance(name, wanted.reference, wanted.speaker, header.frames, header.sample_rate)
