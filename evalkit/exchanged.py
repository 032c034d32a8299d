"""Whether originals and decoded audio were given in each other's places, as far as that can be known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

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
