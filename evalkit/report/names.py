"""Names that a user gave, where HTML has no element to keep them apart from what stands around them."""

from __future__ import annotations

import unicodedata

from evalkit.escaping import FIRST_STRONG_ISOLATE, POP_ISOLATE, printable


def plain(name: str) -> str:
    """`name` on one line, with control characters and marks of direction as escapes: they would reach beyond it."""
    return printable(" ".join(name.split())) or "(no name)"


def isolated(name: str) -> str:
    """`name` for running text that holds no markup, such as a tip: its direction does not reach its neighbours."""
    return f"{FIRST_STRONG_ISOLATE}{plain(name)}{POP_ISOLATE}"


def shortened(name: str, length: int) -> str:
    """`isolated`, its middle left out beyond the width of `length` letters: names often differ at their ends."""
    text = plain(name)
    if _width(text) > length:
        kept = length - 1
        text = f"{_start(text, kept - kept // 2)}…{_start(text[::-1], kept // 2)[::-1]}"
    return f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"


def _width(text: str) -> int:
    """In letters; characters of East Asian scripts and emoji are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _start(text: str, width: int) -> str:
    """As much of `text` as fits into `width`."""
    return next(text[:end] for end in range(len(text), -1, -1) if _width(text[:end]) <= width)


def first_sentence(reason: str) -> str:
    """Why something is missing, without what can be done about it, which stands in full under the comparison."""
    return plain(reason).partition(". ")[0]
