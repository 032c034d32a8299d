"""Finding a corpus below the root a user gives: the questions all folder layouts share, and their error messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.datasets.corpus import Corpus, DatasetError, Found, Problem, build_corpus, find_audio
from q2d2.errors import did_you_mean


@dataclass(frozen=True)
class Archive:
    """One published archive, and what is in it.

    Attributes:
        url: where it is published.
        folder: the folder it unpacks to, relative to the destination, such as "LibriSpeech/test-clean".
        utterances: how many utterances the part has, as published.
        size: length of the archive in bytes.
        md5, sha256: hexadecimal digests; those that are given must all match.
    """

    url: str
    folder: str
    utterances: int
    size: int
    md5: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.md5 or self.sha256):
            raise ValueError(f"{self.url}: an archive needs a checksum")

    @property
    def checksums(self) -> dict[str, str]:
        """Algorithm (a hashlib name) -> expected hexadecimal digest."""
        return {name: digest for name, digest in (("md5", self.md5), ("sha256", self.sha256)) if digest}


def root_variable(name: str) -> str:
    """The environment variable that gives the root of dataset `name`, such as EVALKIT_LIBRISPEECH_ROOT."""
    return f"EVALKIT_{name.upper().replace('-', '_')}_ROOT"


def require_root(name: str, root: Path | None, part: str, *, fetchable: bool) -> Path:
    """Return `root`, made absolute, if it is a folder.

    Raises:
        DatasetError: there is none; the message names every way to give one, and the way to fetch the data.
    """
    ways = (
        f"Give the folder in {root_variable(name)}, as the corpus's root in the experiment file, or with "
        "--set data.test.root=PATH (--set data.train.0.root=PATH for the first one trained on; --root PATH with "
        "`evalkit data check`)"
    )
    if fetchable:
        ways += f"; or fetch the data: evalkit data fetch {name} --part {part} --to FOLDER"
    if root is None:
        raise DatasetError(f"{name}: where is the corpus? {ways}.")
    if not root.expanduser().is_dir():
        raise DatasetError(f"{name}: {root} is not a folder. {ways}.")
    return root.expanduser().resolve()


def require_part(name: str, part: str, parts: Mapping[str, object]) -> None:
    """Check that `part` is one of the dataset's parts.

    Raises:
        DatasetError: it is not; the message suggests the closest and lists all.
    """
    if part not in parts:
        raise DatasetError(f"{name} has no part {part!r}.{did_you_mean(part, parts)} Parts: {', '.join(parts)}.")


def locate_part(name: str, root: Path, corpus_folder: str, part: str, parts: Mapping[str, object]) -> Path:
    """Find the folder of `part`, where `root` holds the corpus folder, or is the corpus folder.

    Raises:
        DatasetError: it is in neither place; the message says which parts are there.
    """
    bases = (root / corpus_folder, root)
    for base in bases:
        if (base / part).is_dir():
            return base / part
    there = [other for other in parts if any((base / other).is_dir() for base in bases)]
    raise DatasetError(
        f"{name}: no {part} in {root}, neither as {corpus_folder}/{part} nor as {part}. "
        f"Parts there: {', '.join(there) or 'none'}. To fetch it: evalkit data fetch {name} --part {part}"
    )


def open_speaker_tree(
    name: str,
    root: Path | None,
    part: str,
    *,
    corpus_folder: str,
    archives: Mapping[str, Archive],
    id_pattern: re.Pattern[str],
    native_rate: int,
) -> Corpus:
    """Open PART/SPEAKER/CHAPTER/ID.suffix, the layout LibriSpeech and its descendants share.

    Args:
        id_pattern: matches the whole of an id; its first two groups are speaker and chapter, as in the folders.

    Raises:
        DatasetError: as in load_corpus.
    """
    require_part(name, part, archives)
    folder = locate_part(name, require_root(name, root, part, fetchable=True), corpus_folder, part, archives)
    found, misplaced = [], []
    for path in find_audio(folder):
        match = id_pattern.fullmatch(path.stem)
        if match and path.relative_to(folder).parts[:-1] == match.group(1, 2):
            found.append(Found(path.stem, match[1], path))
        else:
            misplaced.append(Problem(path, f"does not follow {name}'s layout SPEAKER/CHAPTER/{id_pattern.pattern}"))
    return build_corpus(
        name,
        part,
        folder,
        found,
        expected=archives[part].utterances,
        native_rate=native_rate,
        problems=misplaced,
    )
