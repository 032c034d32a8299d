"""Anyone's decoded audio: folders of estimates, paired by name with a folder of references, and scored."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from evalkit.datasets import Utterance
from evalkit.datasets.corpus import find_audio
from evalkit.evaluation import Evaluation, evaluate, file_digest
from evalkit.outputs import RunResult, scored_system, write_outputs
from evalkit.scoring import Scorer
from evalkit.store import RunStore
from evalkit.systems import Audio, GroundTruth, Reconstruction, System
from q2d2.audio import AudioError, read_audio, read_header
from q2d2.errors import UserError

# Names of these corpora begin with the speaker.
SPEAKER_PATTERNS = (
    re.compile(r"(\d+)-\d+-\d{4,}"),  # LibriSpeech
    re.compile(r"(\d+)_\d+_\d{6}_\d{6}"),  # LibriTTS
    re.compile(r"(p\d{3})_\d{3}"),  # VCTK
)
MAX_SHOWN = 10


class PairingError(UserError, ValueError):
    """Folders that cannot be paired; the message names the folder or file and the way out."""


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
        references: those with an estimate in at least one folder, sorted by id.
        systems: in the order given.
        unpaired: folder -> its files that are left out.
    """

    dataset: str
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


def pair_folders(references: Path, estimates: Sequence[str], mapping: Path | None = None) -> Pairing:
    """Pair the files of each folder of estimates with those of `references`, subfolders included.

    Args:
        references: folder of the originals.
        estimates: folders, each "DIR" or "NAME=DIR"; a system is named after its folder unless a name is given.
        mapping: CSV with the columns reference and estimate (paths below their folders, file names or stems) and, if
            known, speaker. None: files pair whose names without suffix are equal.

    Raises:
        PairingError: a folder is missing, empty, or named twice; a name is ambiguous; nothing pairs; the mapping
            cannot be read or names a reference that is not there.
    """
    originals = _list_audio(references)
    named = _named_folders(estimates)
    listed = {name: _list_audio(folder) for name, folder in named.items()}
    wanted = _equal_names(references, originals) if mapping is None else _mapped(references, originals, mapping)
    systems = []
    unpaired: dict[Path, tuple[Path, ...]] = {}
    for name, folder in named.items():
        known = _by_stem(folder, listed[name]) if mapping is None else _by_any_name(folder, listed[name])
        found = {u: _look_up(known, entry.estimate, f"estimate of {u}", folder) for u, entry in wanted.items()}
        files = {utterance: path for utterance, path in found.items() if path is not None}
        systems.append(FolderSystem(name, folder, files))
        unpaired[folder] = tuple(sorted(set(listed[name]) - set(files.values())))
    paired = {utterance for system in systems for utterance in system.files}
    if not paired:
        example = f"{originals[0].name} and {listed[next(iter(named))][0].name}"
        raise PairingError(
            f"no file of {references} has the name of an estimate ({example}); give --pairs with a CSV of columns "
            "reference,estimate"
        )
    unpaired[references] = tuple(sorted(set(originals) - {wanted[utterance].reference for utterance in paired}))
    found_references = tuple(_utterance(name, wanted[name]) for name in sorted(paired))
    where = references.resolve()
    dataset = f"{where.parent.name}/{where.name}".lstrip("/")
    return Pairing(dataset, found_references, tuple(systems), {k: v for k, v in unpaired.items() if v})


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
    line(f"scoring   {', '.join(evaluation.metrics)}")
    line(f"protocol  {evaluation.protocol.label}")


def score_folders(pairing: Pairing, evaluation: Evaluation, console: Console, scorer: Scorer) -> RunResult:
    """Score every system of `pairing`, and the references themselves as `ground-truth`; write the run's folder.

    Raises:
        StoreError, OSError: what was computed before is kept.
    """
    with RunStore(evaluation.folder) as store:
        unpaired = {str(folder): [str(path) for path in paths] for folder, paths in pairing.unpaired.items()}
        systems = {system.name: str(system.folder) for system in pairing.systems}
        store.write_run(evaluation.describe() | {"folders": systems, "unpaired": unpaired})
        todo: list[System] = [GroundTruth(), *pairing.systems]
        done = []
        for system in todo:
            records = evaluate(evaluation, store, system, scorer, console)
            done.append(scored_system(evaluation.dataset, system, records, None, None))
        return write_outputs(evaluation, store, done)


def _list_audio(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PairingError(f"{folder}: no such folder")
    files = list(find_audio(folder))
    if not files:
        raise PairingError(f"{folder}: no audio files in it")
    return files


def _named_folders(estimates: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for given in estimates:
        name, equals, folder = given.partition("=")
        path = Path(folder if equals and "/" not in name else given)
        name = name if equals and "/" not in name else path.resolve().name
        if name == GroundTruth.name:
            raise PairingError(f"{given}: {name} is what the references are called; give it as NAME={path}")
        if name in named:
            raise PairingError(f"{named[name]} and {path} are both called {name}; give one as NAME={path}")
        named[name] = path
    return named


class _Wanted(NamedTuple):
    """What belongs to an utterance: its original, the name of its estimates, its speaker if known."""

    reference: Path
    estimate: str
    speaker: str | None


# By each name that a file may be given: the files it may be.
Known = dict[str, list[Path]]


def _equal_names(folder: Path, originals: Sequence[Path]) -> dict[str, _Wanted]:
    known = _by_stem(folder, originals)
    return {stem: _Wanted(path, stem, _speaker(stem)) for stem, (path,) in known.items()}


def _mapped(folder: Path, originals: Sequence[Path], mapping: Path) -> dict[str, _Wanted]:
    known = _by_any_name(folder, originals)
    wanted: dict[str, _Wanted] = {}
    for line, row in _read_mapping(mapping):
        path = _look_up(known, row["reference"], f"{mapping}, line {line}: reference", folder)
        if path is None:
            raise PairingError(f"{mapping}, line {line}: no reference {row['reference']!r} in {folder}")
        if path.stem in wanted:
            raise PairingError(f"{mapping}, line {line}: a second reference called {path.stem!r}")
        wanted[path.stem] = _Wanted(path, row["estimate"], row.get("speaker") or _speaker(path.stem))
    return wanted


def _by_stem(folder: Path, files: Iterable[Path]) -> Known:
    found: Known = {}
    for path in files:
        if path.stem in found:
            first, second = found[path.stem][0].relative_to(folder), path.relative_to(folder)
            raise PairingError(
                f"{folder}: {first} and {second} have one name; give --pairs with a CSV that tells them apart"
            )
        found[path.stem] = [path]
    return found


def _by_any_name(folder: Path, files: Iterable[Path]) -> Known:
    known: Known = {}
    for path in files:
        below = path.relative_to(folder)
        for name in {below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem}:
            known.setdefault(name, []).append(path)
    return known


def _look_up(known: Known, name: str, what: str, folder: Path) -> Path | None:
    paths = known.get(name, [])
    if len(paths) > 1:
        shown = ", ".join(str(path.relative_to(folder)) for path in paths[:2])
        raise PairingError(f"{what}: {name!r} may be {shown}; write the path below {folder}")
    return paths[0] if paths else None


def _read_mapping(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairingError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not {"reference", "estimate"} <= set(columns):
        raise PairingError(f"{path}: columns reference and estimate are needed, found {', '.join(columns) or 'none'}")
    for line, row in rows:
        if not row["reference"] or not row["estimate"]:
            raise PairingError(f"{path}, line {line}: reference or estimate is empty")
    return rows


def _speaker(stem: str) -> str | None:
    for pattern in SPEAKER_PATTERNS:
        if match := pattern.fullmatch(stem):
            return match[1]
    return None


def _utterance(name: str, wanted: _Wanted) -> Utterance:
    try:
        header = read_header(wanted.reference)
    except AudioError:
        return Utterance(name, wanted.reference, wanted.speaker, 0, 1)  # its scores are failed rows that say why
    return Utterance(name, wanted.reference, wanted.speaker, header.frames, header.sample_rate)
