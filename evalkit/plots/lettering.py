"""Names in figures as text: no mathematics, a font for each script that is installed, an escape where there is none."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from evalkit.text import JOINERS, printable, visible

BASE = "DejaVu Sans"  # comes with matplotlib
CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")


def lettered(text: str) -> str:
    """`text` on one line, with what is not seen, and what no installed font can draw, as escapes."""
    return "".join(c if c in JOINERS or _family(c) else visible(c) for c in printable(text))


def legible(figure: Figure) -> Figure:
    """Every text of `figure` made fit to draw. To be called before anything is drawn, and again for later texts."""
    families: set[str] = set()
    for text in figure.findobj(Text):
        if text.get_text().isascii() and text.get_text().isprintable():
            continue
        text.set_text("\n".join(map(lettered, text.get_text().split("\n"))))
        if others := {family for c in text.get_text() if (family := _family(c)) not in (BASE, None)}:
            text.set_fontfamily([BASE, *sorted(others)])
            if not all(map(_has_bold, others)):
                text.set_fontweight("normal")
            families |= others
    if families:  # ticks are made and lettered when they are drawn
        for axes in figure.axes:
            axes.tick_params(labelfontfamily=[BASE, *sorted(families)])
    return figure


def add_legend(figure: Figure, handles: Sequence[Line2D | Patch], **options: Any) -> Legend:
    """The figure's legend with all of `handles`: matplotlib leaves out those whose label begins with an underscore."""
    labels = [str(handle.get_label()) for handle in handles]
    legend = figure.legend(handles=handles, labels=["x"] * len(labels), **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(lettered(label))
    return legend


@functools.cache
def _family(character: str) -> str | None:
    """The family of an installed font that has the character: matplotlib's own where it can, else the likeliest."""
    code = ord(character)
    if code in _characters(findfont(FontProperties(family=BASE))):
        return BASE
    return next((font.name for font in _likely_fonts(character) if code in _characters(font.fname)), None)


def _likely_fonts(character: str) -> Iterator[FontEntry]:
    """Installed fonts, those named after the script first: opening all of them takes a second."""
    word = unicodedata.name(character, "?").split()[0].split("-")[0]
    script = "cjk" if word in CJK else word.lower()
    fonts = [font for font in fontManager.ttflist if "last resort" not in font.name.lower()]
    yield from sorted(fonts, key=lambda font: (script not in font.name.lower(), *_plainness(font), font.fname))


def _plainness(font: FontEntry) -> tuple[bool, bool, bool]:
    return "Sans" not in font.name, font.style != "normal", font.weight != 400


@functools.cache
def _has_bold(family: str) -> bool:
    return any(font.name == family and font.weight == 700 for font in fontManager.ttflist)


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """What a font can draw; nothing where matplotlib cannot read it, or it has pictures in place of outlines."""
    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
