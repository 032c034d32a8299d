"""Which files belong together: by equal names, or as the rows of a CSV say (`pair_lists.py`)."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from evalkit.datasets.corpus import find_audio
from evalkit.scoring.protocol import GROUND_TRUTH
from evalkit.text import escaped, is_text, normalized, told_apart
from q2d2.errors import UserError
from q2d2.suffixes import why_unsupported, without_suffix

# Names of these corpora begin with the speaker.
SPEAKER_PATTERNS = (
    re.compile(r"(\d+)-\d+-\d{4,}"),  # LibriSpeech
    re.compile(r"(\d+)_\d+_\d{6}_\d{6}"),  # LibriTTS
    re.compile(r"(p\d{3})_\d{3}"),  # VCTK
)
MAX_NAME_BYTES = 100  # systems name files


class PairingError(UserError, ValueError):
    """Folders that cannot be paired; the message names the folder or file and the way out."""


class Listing(NamedTuple):
    """The audio of a folder: the files that take part, and those that only repeat one in a format nobody reads here."""

    files: list[Path]
    ignored: list[Path]


def list_audio(folder: Path, others: Iterable[Path]) -> Listing:
    """The audio files below `folder`, but for those in one of `others` that lies inside it.

    A file in a format that libsndfile does not read takes part, and fails by name, unless another of its name is there.

    Raises:
        PairingError: the folder is missing, cannot be read or holds no audio that can be; a name is no UTF-8; two files
            have one name in two spellings.
    """
    if not folder.is_dir():
        raise PairingError(f"{folder}: no such folder")
    here = Path(os.path.realpath(folder))
    inside = [
        other for each in others if (other := Path(os.path.realpath(each))) != here and other.is_relative_to(here)
    ]
    try:
        found = list(find_audio(folder))
    except OSError as error:
        raise PairingError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if inside:
        places = ((path, Path(os.path.realpath(path))) for path in found)
        found = [path for path, place in places if not any(place.is_relative_to(other) for other in inside)]
    if not found:
        raise PairingError(f"{folder}: no audio files in it")
    for path in found:
        if not is_text(str(path)):
            raise PairingError(f"{escaped(str(folder))}: the file name {escaped(path.name)} is no UTF-8; rename it")
    reasons = {path: reason for path in found if (reason := why_unsupported(path))}
    if len(reasons) == len(found):
        several = f"none of its {len(found):,} audio files can be read" if len(found) > 1 else f"{found[0].name}"
        raise PairingError(f"{folder}: {several}: {'; '.join(dict.fromkeys(reasons.values()))}")
    readable = {_inner(folder, path) for path in found if path not in reasons}
    ignored = [path for path in reasons if _inner(folder, path) in readable]
    files = [path for path in found if path not in set(ignored)]
    spelled: dict[str, Path] = {}
    for path in files:
        other = spelled.setdefault(normalized(path.relative_to(folder).as_posix()), path)
        if other != path:
            first, second = told_apart(str(other.relative_to(folder)), str(path.relative_to(folder)))
            raise PairingError(f"{folder}: {first} and {second} are one name in two spellings; rename one of them")
    return Listing(files, ignored)


def _inner(folder: Path, path: Path) -> str:
    """The path below a folder without suffix, as it is compared."""
    return normalized(path.relative_to(folder).with_suffix("").as_posix())


def named_folders(estimates: Sequence[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for given in estimates:
        name, equals, folder = given.partition("=")
        if equals and "/" not in name and not Path(given).is_dir():  # a folder may be called "lr=0.001"
            path = Path(folder)
        else:
            name, path, folder = os.path.basename(os.path.realpath(given)), Path(given), given
        name = normalized(name)
        if not name or not folder or len(name.encode()) > MAX_NAME_BYTES:
            raise PairingError(f"{given}: expected DIR or NAME=DIR, NAME of at most {MAX_NAME_BYTES} bytes")
        if name == GROUND_TRUTH:
            raise PairingError(f"{given}: {name} is what the references are called; give it as NAME={path}")
        if name in named:
            raise PairingError(f"{named[name]} and {path} are both called {name}; give one as NAME={path}")
        named[name] = path
    return named


class Wanted(NamedTuple):
    """What belongs to an utterance: its original, its speaker if known, and of --pairs the estimates' name and line.

    The original of a row may be missing: reading it fails and says so.
    """

    reference: Path
    speaker: str | None
    estimate: str = ""
    line: int = 0


class Catalogue:
    """The files of a folder by the names that they may be given."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.by_path: dict[str, list[Path]] = {}
        self.by_stem: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for path in files:
            inner = _inner(folder, path)
            self.by_path.setdefault(inner, []).append(path)
            self.by_stem.setdefault(posixpath.basename(inner), []).append(path)
            below = normalized(path.relative_to(folder).as_posix())
            for name in {below, inner, posixpath.basename(below), posixpath.basename(inner)}:
                self._by_name.setdefault(name, []).append(path)

    @cached_property
    def _by_place(self) -> dict[str, list[Path]]:
        """By absolute paths: as the folder was given, and with links followed; with suffix and without."""
        places: dict[str, list[Path]] = {}
        for paths in self.by_path.values():
            for path in paths:
                for place in {os.path.abspath(path), os.path.realpath(path)}:
                    for name in {normalized(place), normalized(without_suffix(place))}:
                        places.setdefault(name, []).append(path)
        return places

    def name_of(self, path: Path) -> str:
        """What an utterance is called after its file: its stem, where another has that too its path in the folder."""
        inner = _inner(self.folder, path)
        stem = posixpath.basename(inner)
        return stem if len(self.by_stem[stem]) == 1 else inner

    def ambiguous(self, paths: Sequence[Path]) -> PairingError:
        first, second = told_apart(*(str(path.relative_to(self.folder)) for path in paths[:2]))
        return PairingError(
            f"{self.folder}: {first} and {second} have one name; give --pairs with a CSV that tells them apart"
        )

    def find(self, name: str, what: str, beside: Path | None = None) -> Path | None:
        """The file that is called `name`: a path below the folder, below `beside` or absolute, a file name, a stem.

        Raises:
            PairingError: it may be either of two; `what` is said before.
        """
        name = normalized(name)
        if os.path.isabs(name):
            found = self._placed(name)
        else:
            found = self._below(posixpath.normpath(name))
            if not found and "\\" in name:  # written on Windows
                found = self._below(posixpath.normpath(name.replace("\\", "/")))
            if beside is not None:
                found = list(dict.fromkeys([*found, *self._placed(os.path.join(os.path.abspath(beside), name))]))
        if len(found) > 1:
            shown = " or ".join(told_apart(*(str(path.relative_to(self.folder)) for path in found[:2])))
            raise PairingError(f"{what}: {name!r} may be {shown}; write the path below {self.folder}")
        return found[0] if found else None

    def _below(self, name: str) -> list[Path]:
        paths = self._by_name.get(name, [])
        exact = [path for path in paths if normalized(path.relative_to(self.folder).as_posix()) == name]
        return exact or paths

    def _placed(self, place: str) -> list[Path]:
        place = os.path.normpath(place)
        return self._by_place.get(normalized(place)) or self._by_place.get(normalized(os.path.realpath(place)), [])


def by_equal_names(originals: Catalogue) -> dict[str, Wanted]:
    """The originals by their names."""
    for paths in originals.by_path.values():
        if len(paths) > 1:
            raise originals.ambiguous(paths)
    paths = [path for (path,) in originals.by_path.values()]
    return {originals.name_of(path): Wanted(path, speaker_of(path.stem)) for path in paths}


def find_by_names(originals: Catalogue, wanted: Mapping[str, Wanted], estimates: Catalogue) -> dict[str, Path]:
    """The estimates of utterances: in trees that mirror each other by path, else by a name that only one file has."""
    places = {name: _inner(originals.folder, entry.reference) for name, entry in wanted.items()}

    def refuse(stem: str) -> PairingError:
        return originals.ambiguous(originals.by_stem[stem])

    return _find(places, estimates, refuse)


def find_by_ids(stems: Mapping[str, str], estimates: Catalogue) -> dict[str, Path]:
    """As `find_by_names`, of the utterances of a corpus: id -> name of the file without suffix.

    Raises:
        PairingError: a name is that of several utterances or files.
    """
    places = {name: name if posixpath.basename(name) == normalized(stem) else stem for name, stem in stems.items()}

    def refuse(stem: str) -> PairingError:
        first, second = [name for name, place in places.items() if posixpath.basename(place) == stem][:2]
        file = estimates.by_stem[stem][0]
        return PairingError(f"{file} may belong to {first} or {second}: put it into a folder of that path")

    return _find({name: normalized(place) for name, place in places.items()}, estimates, refuse)


def _find(places: Mapping[str, str], estimates: Catalogue, refuse: Callable[[str], PairingError]) -> dict[str, Path]:
    """`places`: where the original of an utterance lies, without suffix; `refuse` is asked about a stem of several."""
    found: dict[str, Path] = {}
    for name, place in places.items():
        if same := estimates.by_path.get(place):
            if len(same) > 1:
                raise estimates.ambiguous(same)
            found[name] = same[0]
    stems = Counter(map(posixpath.basename, places.values()))
    mirrored = {posixpath.basename(places[name]) for name in found}
    for name, place in places.items():
        stem = posixpath.basename(place)
        files = estimates.by_stem.get(stem, [])
        if name in found or not files or stem in mirrored:
            continue
        if stems[stem] > 1:
            raise refuse(stem)
        if len(files) > 1:
            raise estimates.ambiguous(files)
        found[name] = files[0]
    return found


def speaker_of(stem: str) -> str | None:
    """The speaker, of files named as in a known corpus."""
    for pattern in SPEAKER_PATTERNS:
        if match := pattern.fullmatch(stem):
            return match[1]
    return None


# What LibriSpeech and LibriTTS have beside their recordings.
_TRANSCRIPTS = re.compile(r"\d+-\d+\.trans\.txt|\d+_\d+\.trans\.tsv|\d+_\d+_\d+_\d+\.(original|normalized)\.txt")
_ORIGINALS = {"original", "originals", "reference", "references", "groundtruth"}
_DECODED = {"decoded", "reconstructed", "reconstruction", "reconstructions", "estimate", "estimates"}
_OF_A_RUN = ("run.json", "journal.jsonl")


def why_exchanged(references: Path, estimates: Sequence[Path], out: Path | None = None) -> str:
    """A clause that says which two folders seem to be exchanged; "" where nothing says so.

    Nothing is concluded from rates, bandwidth or depth: a codec may raise or lower them, and people sort as they like.

    Args:
        references: what was given as originals.
        estimates: what was given as decoded audio.
        out: the folder of the run, which may be around all of it.
    """
    if (run := _run_around(references, out)) and not any(_run_around(each, out) for each in estimates):
        return f"{references} holds the audio of the run {run}, and is given as the originals"
    if any(map(_transcript, estimates)) and _transcript(references) is None:
        corpus = next(each for each in estimates if _transcript(each))
        return f"{corpus} holds a corpus ({_transcript(corpus)}) and is given as decoded audio, {references} does not"
    for estimate in estimates:
        ours, theirs = _own_parts(references, estimate)
        if ours & _DECODED and not ours & _ORIGINALS and theirs & _ORIGINALS and not theirs & _DECODED:
            return f"{references} is given as the originals and {estimate} as decoded"
    return ""


def _transcript(folder: Path) -> str | None:
    """The name of a corpus's transcript below a folder."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    return next((name for name in names if _TRANSCRIPTS.fullmatch(name)), None)


def _run_around(folder: Path, out: Path | None) -> Path | None:
    """The run whose folder, or whose kept audio, this is."""
    for candidate in _likely_runs(folder):
        own = out is not None and os.path.realpath(candidate) == os.path.realpath(out)
        if not own and all((candidate / name).is_file() for name in _OF_A_RUN):
            return candidate
    return None


def _likely_runs(folder: Path) -> Iterator[Path]:
    yield folder
    place = Path(os.path.realpath(folder))
    yield from (parent.parent for parent in (place, *place.parents) if parent.name == "audio")


def _own_parts(first: Path, second: Path) -> tuple[set[str], set[str]]:
    """The names of two folders and of those around only one of them, without signs."""
    paths = [os.path.realpath(folder) for folder in (first, second)]
    shared = len(Path(os.path.commonpath(paths)).parts)
    ours, theirs = ({re.sub(r"[\W_]", "", part.lower()) for part in Path(path).parts[shared:]} for path in paths)
    return ours, theirs
