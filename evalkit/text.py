"""Names and messages as text: compared in one form of Unicode, and made safe to show in each format."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Marks that reorder the text around them.
DIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Of other categories, and yet nothing to see: fillers and joiners of scripts.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
# Of the category of format characters, and yet seen: signs that stand over numbers or words.
SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"
ISOLATED = re.compile(f"{FIRST_STRONG_ISOLATE}([^\x00-\x1f\x7f-\x9f{''.join(sorted(DIRECTIONAL))}]*){POP_ISOLATE}")
JOINERS = "\u200c\u200d"
LATIN_END = "\u0250"  # scripts and emoji whose shapes need joiners come after it
# What GitHub still finds once markup is read: "@name", "#1" and "GH-1". An invisible space behind it, and it is text.
REFERENCES = re.compile(r"&#64;|&#35;|\bGH-", re.IGNORECASE)
ADDRESS = re.compile(r"www\.", re.IGNORECASE)  # becomes a link without any markup
# The reports are read as they are, too, in logs: only what would mean something is escaped. A colon does in addresses
# and in names of emoji, an underscore at the edge of a word.
HARMLESS = re.compile(
    r"[A-Za-z0-9 .,/=%()+\->;?!'\"\u0080-\U0010ffff]|:(?!//|[\w+-]+:)|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])"
)


def printable(text: str) -> str:
    r"""`text` on one line, with control characters, marks of direction and all else that is not seen as \x1b or \u202e.

    Joiners stay between letters of scripts that need them, and in emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        visible(character) if _is_hidden(character) and not _joins(text, place) else character
        for place, character in enumerate(text)
    )


def shown(text: str) -> str:
    """`text` of several lines with each of them `printable`; isolates of ours, which hold nothing hidden, stay."""
    if text.isascii() and text.isprintable():
        return text
    parts = ISOLATED.split(text)  # every second one is isolated
    parts[1::2] = [f"{FIRST_STRONG_ISOLATE}{inside}{POP_ISOLATE}" for inside in parts[1::2]]
    parts[::2] = ["\n".join(map(printable, part.split("\n"))) for part in parts[::2]]
    return "".join(parts)


def shown_value(value: Any) -> Any:
    """`value`, if it is text and no markup of ours, as `shown`."""
    return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def visible(character: str) -> str:
    r"""`character` as \x1b, \u65e5 or \U0001f600."""
    return character.encode("unicode_escape").decode()


def _is_hidden(character: str) -> bool:
    code = ord(character)
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    hidden = unicodedata.category(character) in HIDDEN and character not in SEEN
    return hidden or character in DIRECTIONAL or character in INVISIBLE or no_character


def _joins(text: str, place: int) -> bool:
    around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
    return text[place] in JOINERS and len(around) == 2 and min(around) >= LATIN_END and not any(map(_is_hidden, around))


def markdown_text(text: str) -> str:
    """`text` as plain text in GitHub's Markdown: no markup, no HTML, no link, no cell's end, nobody mentioned.

    Everything that may mean something is an entity, which is never markup; so is a first character that could start a
    list.
    """
    shown = printable(text)
    escaped = "".join(
        c if HARMLESS.match(shown, place) and (place or c.isalpha()) else f"&#{ord(c)};"
        for place, c in enumerate(shown)
    )
    return ADDRESS.sub(lambda found: f"{found[0][:-1]}&#46;", REFERENCES.sub(r"\g<0>&#8203;", escaped))


def markdown_code(text: str) -> str:
    """`text` as a name in the typewriter font, in GitHub's Markdown."""
    return f"<code>{markdown_text(text)}</code>"


def normalized(name: str) -> str:
    """The form (NFC) in which names are compared: file systems differ in which they keep of one name's spellings."""
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
