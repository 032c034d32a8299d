"""Tables as CSV that spreadsheets take for text, and reading them back as they were."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

# A cell that begins so is a formula to a spreadsheet, which may call programs; one behind an apostrophe is text. Where
# the name has apostrophes itself, another one goes before them, so that reading can take one away.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_QUOTED_FORMULA = re.compile(r"''*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# What a user names: text even where it looks like a number.
NAMES = ("system", "dataset", "baseline", "id", "label", "series", "family", "claim")


def csv_text(frame: pd.DataFrame, **options: Any) -> str:
    """`frame` as CSV without its index; text that spreadsheets would compute begins with an apostrophe.

    Args:
        frame: any table; numbers stay as they are.
        options: of `DataFrame.to_csv`, such as float_format.
    """
    guarded = _texts_of(frame, lambda text: f"'{text}" if _FORMULA.match(text) else text)
    text = str(guarded.to_csv(index=False, lineterminator="\n", **options))
    if "\r" in text:  # to readers the end of a line, unless quoted, which it is not of itself
        text = str(guarded.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC, **options))
    return text


def read_csv(path: Path) -> pd.DataFrame:
    """A table that `csv_text` wrote, of this version or an earlier one: only an empty cell is a missing one.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))
    return _texts_of(frame, lambda text: text[1:] if _QUOTED_FORMULA.match(text) else text)


def _texts_of(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = [
        key for key in frame if pd.api.types.is_string_dtype(frame[key]) or frame[key].dtype in (object, "category")
    ]
    changed = {
        str(key): [change(value) if isinstance(value, str) else value for value in frame[key].astype(object)]
        for key in texts
    }
    return frame.assign(**changed)
