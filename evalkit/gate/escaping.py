"""Text of strangers (names of systems and utterances, messages) made safe to show in each format."""

from __future__ import annotations

import re
import unicodedata

# Marks that reorder the text around them.
DIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
# What GitHub still finds once markup is read: "@name", "#1" and "GH-1". An invisible space behind it, and it is text.
REFERENCES = re.compile(r"&#64;|&#35;|\bGH-", re.IGNORECASE)
ADDRESS = re.compile(r"www\.", re.IGNORECASE)  # becomes a link without any markup
HARMLESS = re.compile(r"[A-Za-z0-9 .,/=%()+\-\u0080-\U0010ffff]")


def printable(text: str) -> str:
    r"""`text` on one line, with control characters, marks of direction and what XML forbids as \x1b or \u202e."""
    return "".join(
        character.encode("unicode_escape").decode() if _is_hidden(character) else character for character in text
    )


def _is_hidden(character: str) -> bool:
    code = ord(character)
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return unicodedata.category(character) in HIDDEN or character in DIRECTIONAL or no_character


def markdown_text(text: str) -> str:
    """`text` as plain text in GitHub's Markdown: no markup, no HTML, no link, no cell's end, nobody mentioned.

    Everything that may mean something is an entity, which is never markup; so is a first character that could start a
    list.
    """
    shown = printable(text)
    escaped = "".join(
        c if HARMLESS.fullmatch(c) and (place or c.isalpha()) else f"&#{ord(c)};" for place, c in enumerate(shown)
    )
    return ADDRESS.sub(lambda found: f"{found[0][:-1]}&#46;", REFERENCES.sub(r"\g<0>&#8203;", escaped))


def markdown_code(text: str) -> str:
    """`text` as a name in the typewriter font, in GitHub's Markdown."""
    return f"<code>{markdown_text(text)}</code>"
