"""Names that a user gave, where HTML has no element to keep them apart from what stands around them."""

from __future__ import annotations

import re

# Controls, and marks that change the direction of what follows: they would reach beyond the name.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"


def plain(name: str) -> str:
    """`name` on one line, without control characters and marks of direction."""
    return " ".join(_CONTROLS.sub(" ", name).split()) or "(no name)"


def isolated(name: str) -> str:
    """`name` for running text that holds no markup, such as a tip: its direction does not reach its neighbours."""
    return f"{FIRST_STRONG_ISOLATE}{plain(name)}{POP_ISOLATE}"


def shortened(name: str, length: int) -> str:
    """`isolated`, its middle left out beyond `length` characters: names often differ at their ends."""
    text = plain(name)
    if len(text) > length:
        kept = length - 1
        text = f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"
    return f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"


def first_sentence(reason: str) -> str:
    """Why something is missing, without what can be done about it, which stands in full under the comparison."""
    return plain(reason).partition(". ")[0]
