"""Any tree of audio files as a corpus."""

from __future__ import annotations

from pathlib import Path

from evalkit.datasets.corpus import Corpus, DatasetError, Found, build_corpus, find_audio
from evalkit.datasets.layout import require_root


def open_corpus(root: Path | None, part: str = "all") -> Corpus:
    """Open every audio file below a folder.

    An utterance's id is its path below the opened folder, without suffix, with "/" between folders. Its speaker is the
    first of those folders; None for files that lie in no folder.

    Args:
        root: the folder.
        part: "all" for the whole tree, else a folder below `root`, such as "test" or "english/test".

    Raises:
        DatasetError: as in evalkit.datasets.load_corpus; also if `part` leads out of `root`.
    """
    root = require_root("folder", root, part, fetchable=False)
    folder = root if part == "all" else root / part
    if not folder.is_dir() or ".." in Path(part).parts or Path(part).is_absolute():
        there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "none"
        raise DatasetError(
            f"folder: no folder {part!r} below {root}. Folders there: {there}; `all` takes the whole tree."
        )
    found = []
    for path in find_audio(folder):
        inner = path.relative_to(folder)
        speaker = inner.parts[0] if len(inner.parts) > 1 else None
        found.append(Found(inner.with_suffix("").as_posix(), speaker, path))
    return build_corpus("folder", part, folder, found)
