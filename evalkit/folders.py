"""Anyone's decoded audio: folders of estimates, paired by name with a folder of references, and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evalkit.datasets import Utterance
from evalkit.evaluation import Evaluation, evaluate, file_digest, report_damage
from evalkit.outputs import RunResult, scored_system, write_outputs
from evalkit.pairing import (
    PairingError,
    Wanted,
    by_equal_names,
    by_mapping,
    known_by_any_name,
    known_by_stem,
    list_audio,
    look_up,
    named_folders,
)
from evalkit.scoring import Scorer
from evalkit.store import RunStore
from evalkit.systems import Audio, GroundTruth, Reconstruction, System
from q2d2.audio import AudioError, read_audio, read_header

MAX_SHOWN = 10


class FolderSystem:
    """A codec's decoded files.

    Args:
        name: as in tables.
        folder: that holds them.
        files: utterance -> file.
    """

    kind = "folder"
    sample_rate: int | None = None
    frame_rate: float | None = None
    codebook_sizes: tuple[int, ...] = ()
    tokens_per_frame = 0

    def __init__(self, name: str, folder: Path, files: Mapping[str, Path]) -> None:
        self.name = name
        self.folder = folder
        self.files = files

    def fingerprint(self, utterance: str) -> str:
        return file_digest(self.files[utterance]) if utterance in self.files else "missing"

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        if utterance not in self.files:
            raise AudioError(self.folder / utterance, f"no file for it in {self.folder}")
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
        references: those with an estimate in at least one folder, sorted by id.
        systems: in the order given.
        unpaired: folder -> its files that are left out.
    """

    dataset: str
    folder: Path
    references: tuple[Utterance, ...]
    systems: tuple[FolderSystem, ...]
    unpaired: Mapping[Path, tuple[Path, ...]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know."""
        left_out = ", ".join(f"{len(paths)} of {folder}" for folder, paths in self.unpaired.items())
        return (f"Left out, without partner: {left_out}.",) if left_out else ()

    def baseline(self, name: str | None) -> str | None:
        """The system called `name`, the first of several if None, and none if there is one only.

        Raises:
            PairingError: no such system.
        """
        names = [GroundTruth.name, *(system.name for system in self.systems)]
        if name is not None and name not in names:
            raise PairingError(f"--baseline {name}: no such system; there are {', '.join(names)}")
        return name or (names[1] if len(names) > 2 else None)


def pair_folders(
    references: Path, estimates: Sequence[str], mapping: Path | None = None, out: Path | None = None
) -> Pairing:
    """Pair the files of each folder of estimates with those of `references`, subfolders included.

    Args:
        references: folder of the originals.
        estimates: folders, each "DIR" or "NAME=DIR"; a system is named after its folder unless a name is given.
        mapping: CSV with the columns reference and estimate (paths below their folders, file names or stems) and, if
            known, speaker. None: files pair whose names without suffix are equal.
        out: folder of the run. What lies in it, or in another of the folders, does not belong to a folder around it.

    Raises:
        PairingError: a folder is missing, empty, or named twice; a name is ambiguous; nothing pairs; the mapping
            cannot be read or names a reference that is not there.
    """
    named = named_folders(estimates)
    folders = [references, *named.values(), *([out] if out else [])]
    originals = list_audio(references, folders)
    listed = {name: list_audio(folder, folders) for name, folder in named.items()}
    wanted = by_equal_names(references, originals) if mapping is None else by_mapping(references, originals, mapping)
    systems = []
    unpaired: dict[Path, tuple[Path, ...]] = {}
    for name, folder in named.items():
        known = known_by_stem(folder, listed[name]) if mapping is None else known_by_any_name(folder, listed[name])
        found = {u: look_up(known, entry.estimate, f"estimate of {u}", folder) for u, entry in wanted.items()}
        files = {utterance: path for utterance, path in found.items() if path is not None}
        systems.append(FolderSystem(name, folder, files))
        unpaired[folder] = tuple(sorted(set(listed[name]) - set(files.values())))
    paired = {utterance for system in systems for utterance in system.files}
    if not paired:
        if mapping is not None:
            raise PairingError(f"{mapping}: no estimate that it names is in {', '.join(map(str, named.values()))}")
        example = f"{originals[0].name} and {listed[next(iter(named))][0].name}"
        raise PairingError(
            f"no file of {references} has the name of an estimate ({example}); give --pairs with a CSV of columns "
            "reference,estimate"
        )
    unpaired[references] = tuple(sorted(set(originals) - {wanted[utterance].reference for utterance in paired}))
    found_references = tuple(_utterance(name, wanted[name]) for name in sorted(paired))
    where = references.resolve()
    dataset = f"{where.parent.name}/{where.name}".lstrip("/")
    return Pairing(dataset, references, found_references, tuple(systems), {k: v for k, v in unpaired.items() if v})


def show_pairing(pairing: Pairing, evaluation: Evaluation, console: Console) -> None:
    """Print what will be scored against what, and every file that is left out, as far as a screen holds them."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    count = len(pairing.references)
    line(f"reference {pairing.dataset}: {count:,} utterance{'' if count == 1 else 's'} with an estimate")
    for system in pairing.systems:
        missing = count - len(system.files)
        line(f"system    {system.name}: {len(system.files):,} files" + (f", {missing:,} missing" if missing else ""))
    for folder, paths in pairing.unpaired.items():
        line(f"left out  {len(paths):,} of {folder} without partner:")
        for path in paths[:MAX_SHOWN]:
            line(f"  {path.relative_to(folder)}")
        if len(paths) > MAX_SHOWN:
            line(f"  and {len(paths) - MAX_SHOWN:,} more, listed in {evaluation.folder / 'run.json'}")
    for name, held in _replaced(pairing, evaluation.folder).items():
        line(f"replaced  {name} of {held}, which {evaluation.folder} held: --out keeps runs apart")
    line(f"scoring   {', '.join(evaluation.metrics)}")
    line(f"protocol  {evaluation.protocol.label}")


def _replaced(pairing: Pairing, run: Path) -> dict[str, str]:
    """System -> folder, of what an earlier call scored into `run` and this one does not."""
    try:
        before = json.loads((run / "run.json").read_text(encoding="utf-8"))["folders"]
    except (OSError, ValueError, KeyError, TypeError):
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
        systems = {system.name: str(system.folder) for system in pairing.systems}
        named = {"originals": str(pairing.folder), "folders": systems, "unpaired": unpaired}
        description = evaluation.describe() | named
        store.write_run(description)
        todo: list[System] = [GroundTruth(), *pairing.systems]
        done = []
        for system in todo:
            records = evaluate(evaluation, store, system, scorer, console)
            done.append(scored_system(evaluation, system, records, None, None))
        store.write_run(description)
        return write_outputs(evaluation, store, done)


def _utterance(name: str, wanted: Wanted) -> Utterance:
    try:
        header = read_header(wanted.reference)
    except AudioError:
        return Utterance(name, wanted.reference, wanted.speaker, 0, 1)  # its scores are failed rows that say why
    return Utterance(name, wanted.reference, wanted.speaker, header.frames, header.sample_rate)
