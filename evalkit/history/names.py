"""Names of runs and systems, which can be anything, as names of files, which cannot."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata

MAX_LETTERS = 40
SAFE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@functools.lru_cache(maxsize=100_000)
def slug(*names: str) -> str:
    """A file name for one or several names: their plain ASCII letters and digits, and a digest that tells them apart.

    Never a path separator, a dot or an upper-case letter, never empty, at most 49 characters.
    """
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]
    letters = unicodedata.normalize("NFKD", " ".join(names)).encode("ascii", "ignore").decode().lower()
    words = re.sub("[^a-z0-9]+", "-", letters)[:MAX_LETTERS].strip("-")
    return f"{words}-{digest}" if words else digest


def folder_name(name: str) -> str:
    """As `slug`, but a name that is safe as it is stays: `results/published/tiny` is for people to read, too."""
    return name if len(name) <= MAX_LETTERS and SAFE.fullmatch(name) else slug(name)
