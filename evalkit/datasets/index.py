"""Writing a manifest: the files of datasets, folders and lists, each looked into once."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from evalkit.datasets import DATASETS, load_corpus
from evalkit.datasets.corpus import (
    DatasetError,
    Problem,
    find_audio,
    header_or_problem,
    map_in_threads,
    watching_headers,
)
from q2d2.audio import SHORTEST_SECONDS
from q2d2.training.manifest import AudioFile, Manifest, write_manifest

# Called with (source, files looked into, files in all or None where that is not known).
Progress = Callable[[str, int, int | None], None]

# A folder is given by its path alone, and is then read file by file instead of being held in memory.
_BY_PATH = {"folder"}
_NAMED = re.compile(r"(?P<name>[\w-]+)(?::(?P<part>[^@]*))?(?:@(?P<root>.+))?")
_MAX_FRAMES, _MAX_RATE = 2**62, 2**31
_SHOWN_EVERY = 64


class _Entry(NamedTuple):
    """A file of a list: what the list says of its length, or None."""

    path: Path
    length: tuple[int, int] | None


def index_files(
    target: Path, sources: Sequence[str], left_out: Callable[[Problem], None], progress: Progress
) -> Manifest:
    """Write a manifest of all usable files of `sources`, in their order.

    A source is NAME[:PART][@ROOT] of a registered dataset, the path of a folder, or that of a CSV with the column path
    and perhaps frames and sample_rate: where it gives both, the file is not looked into. Paths in a CSV are relative
    to its folder.

    Args:
        target: file to write.
        sources: see above.
        left_out: called with each file that cannot be used.
        progress: called for each file looked into.

    Raises:
        DatasetError: a source does not exist or is not valid.
        ManifestError: no file is usable.
        OSError: `target` cannot be written.
    """
    for source in sources:
        if _named(source) is None and not Path(source).exists():
            raise DatasetError(
                f"there is no {source!r}. A source is a dataset (NAME, NAME:PART or NAME:PART@ROOT, with NAME one of "
                f"{', '.join(name for name in DATASETS.names() if name not in _BY_PATH)}), a folder or a CSV file."
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_manifest(target, (file for each in sources for file in _files(each, left_out, progress)))


def _named(source: str) -> re.Match[str] | None:
    match = _NAMED.fullmatch(source)
    return match if match and match["name"] in set(DATASETS.names()) - _BY_PATH else None


def _files(source: str, left_out: Callable[[Problem], None], progress: Progress) -> Iterator[AudioFile]:
    if (match := _named(source)) is not None:
        with watching_headers(lambda done, total: progress(source, done, total)):
            corpus = load_corpus(match["name"], match["part"] or None, Path(match["root"]) if match["root"] else None)
        for problem in corpus.problems:
            left_out(problem)
        for done, utterance in enumerate(corpus.utterances, start=1):
            if corpus.manifest is not None:  # no header was read
                progress(source, done, len(corpus.utterances))
            yield AudioFile(utterance.path, utterance.frames, utterance.sample_rate)
        return
    path = Path(source)
    entries = (_Entry(each, None) for each in find_audio(path)) if path.is_dir() else _listed(path)
    done = 0
    for outcome in map_in_threads(_look_into, entries):
        done += 1
        progress(source, done, None)
        if isinstance(outcome, Problem):
            left_out(outcome)
        else:
            yield outcome
    progress(source, done, done)


def _look_into(entry: _Entry) -> AudioFile | Problem:
    if entry.length is None:
        header = header_or_problem(entry.path)
        return header if isinstance(header, Problem) else AudioFile(entry.path, header.frames, header.sample_rate)
    frames, rate = entry.length
    if frames < SHORTEST_SECONDS * rate:
        return Problem(entry.path, f"too short: {frames} frames at {rate} Hz, at least {SHORTEST_SECONDS} s needed")
    return AudioFile(entry.path, frames, rate)


def _listed(path: Path) -> Iterator[_Entry]:
    """The rows of a CSV."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            columns = rows.fieldnames or []
            if "path" not in columns:
                raise DatasetError(
                    f"{path}: expected a CSV file with the column path and, if known, frames and sample_rate, "
                    f"found {', '.join(columns) or 'nothing'}"
                )
            for row in rows:
                name = row["path"]
                if not name or "\0" in name:
                    raise DatasetError(f"{path}: line {rows.line_num} has no path")
                yield _Entry(path.parent / name, _length(row, f"{path}: line {rows.line_num}"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error


def _length(row: dict[str, str | None], where: str) -> tuple[int, int] | None:
    frames, rate = row.get("frames"), row.get("sample_rate")
    if not frames or not rate:
        return None
    try:
        length = int(frames), int(rate)
    except ValueError:
        length = 0, 0
    if not (0 < length[0] < _MAX_FRAMES and 0 < length[1] < _MAX_RATE):
        raise DatasetError(f"{where}: frames {frames!r} and sample_rate {rate!r}: expected whole numbers above 0")
    return length


@contextmanager
def index_bar() -> Iterator[tuple[Callable[[Problem], None], Progress]]:
    """A progress bar for `index_files`, above which every file left out is named: its `left_out` and `progress`."""
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} files"))
    with Bar(*columns, TimeElapsedColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def left_out(problem: Problem) -> None:
            bar.console.print(f"left out: {problem}", markup=False, highlight=False, soft_wrap=True)

        def progress(source: str, done: int, total: int | None) -> None:
            if source not in tasks:
                tasks[source] = bar.add_task(source.replace("[", r"\["), total=total)
            if done % _SHOWN_EVERY == 0 or done == total:
                bar.update(tasks[source], completed=done, total=total)

        yield left_out, progress
