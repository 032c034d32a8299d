"""Names as they are compared: Unicode has several spellings of one name, and file systems differ in which they keep."""

from __future__ import annotations

import unicodedata


def normalized(name: str) -> str:
    """The composed form (NFC), so that "cafe" with a combining accent is the "café" of another machine."""
    return unicodedata.normalize("NFC", name)


def escaped(name: str) -> str:
    """With an escape for every character beyond ASCII: tells names apart that look alike, and shows what is no text."""
    return name.encode("ascii", "backslashreplace").decode()


def told_apart(first: str, second: str) -> tuple[str, str]:
    """Two names for a message: as they are, or escaped where they are one name in two spellings."""
    alike = first != second and normalized(first) == normalized(second)
    return (escaped(first), escaped(second)) if alike else (first, second)


def is_text(name: str) -> bool:
    """Whether a file's name is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
