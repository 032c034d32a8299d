"""Static pages that need nothing but themselves: Jinja templates, styles and scripts inlined under a strict policy.

A page extends `pages/base.html.j2`, whose blocks are `intro` (under the title), `main` and `footer`. What it can use:

- `<table data-sortable id=...>`: sorting, a text filter, hiding of columns (`table.js` tells the attributes);
- `[data-tip]` inside `[data-tips]`: a text on hover, focus and tap; arrow keys go from one to the next (`tips.js`);
- the variables of `style.css` (--ink, --paper, --better ...), which follow light and dark.

No `style=` attributes and no `on...=` attributes: the policy forbids them. Data for scripts goes into
`<script type="application/json">{{ data | tojson }}</script>`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evalkit.text import shown_value

STYLES = ("pages/style.css",)
SCRIPTS = ("pages/theme.js", "pages/tips.js", "pages/table.js")


def render(template: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **context: object) -> str:
    """A page as HTML text.

    Args:
        template: path within the package evalkit, "report/page.html.j2"; values are escaped wherever they are put.
        styles, scripts: files of the page's own, by path within the package, put after the shared ones.
        context: the template's variables; base.html.j2 needs `title`.

    Raises:
        jinja2.UndefinedError: the template uses a variable that is not given.
    """
    inlined_styles = [_asset(name) for name in (*STYLES, *styles)]
    inlined_scripts = [_asset(name) for name in (*SCRIPTS, *scripts)]
    return (
        _environment()
        .get_template(template)
        .render(
            context
            | {"styles": inlined_styles, "scripts": inlined_scripts, "policy": _policy(inlined_styles, inlined_scripts)}
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("evalkit", ""),
        auto_reload=False,  # a site renders thousands of pages
        autoescape=True,  # select_autoescape would go by the suffix, which is .j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown_value,
    )
    environment.policies["json.dumps_function"] = lambda data, **options: json.dumps(_all_shown(data), **options)
    return environment


def _all_shown(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _all_shown(value) for key, value in data.items()}
    return [_all_shown(each) for each in data] if isinstance(data, list | tuple) else shown_value(data)


@cache
def _asset(name: str) -> Markup:
    # Ours, not the user's: inlined as it is.
    text = (files("evalkit") / name).read_text(encoding="utf-8").strip()
    if "</" in text:
        raise ValueError(f"{name}: '</' could end the element that it is inlined in")
    return Markup(text)


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: only these styles and scripts, images and sound within the page, no network."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(_hash(text) for text in scripts)}",
            f"style-src {' '.join(_hash(text) for text in styles)}",
            "img-src data:",
            "media-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
