"""The forms in which a verdict is written, by the name that --format takes."""

from __future__ import annotations

from collections.abc import Callable

from evalkit.gate.as_json import to_json
from evalkit.gate.as_junit import to_junit
from evalkit.gate.as_markdown import to_markdown
from evalkit.gate.as_text import to_text
from evalkit.gate.verdict import Verdict

FORMATS: dict[str, Callable[[Verdict], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "junit": to_junit,
}
