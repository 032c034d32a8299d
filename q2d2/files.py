"""Files written whole or not at all, and what is in them."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a kill at any moment leaves the old or the new one, never a part."""
    # A name of its own: several machines may write the same file at once.
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
