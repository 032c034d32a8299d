"""The corpus that ships with the package: synthetic speech of six voices, for trials and tests without any download.

Made by tools/make_sample_corpus.py with flite; sample_corpus/README.md says how, and under which terms. Synthetic
speech shows that the machinery works. It is no basis for claims about codecs.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from evalkit.datasets.corpus import Corpus, DatasetError, Found, build_corpus
from evalkit.datasets.layout import require_part


def open_corpus(root: Path | None = None, part: str = "test") -> Corpus:
    """Open part "train" or "test" of the shipped corpus (16 kHz mono FLAC; no text is in both parts).

    Args:
        root: a folder of the same layout to open instead, such as a fresh output of the script; normally None.
        part: "train" or "test".

    Raises:
        DatasetError: the part is unknown, or the installation lacks the audio.
    """
    # The package is always unpacked (setuptools, no zip), so that a path can be taken of the resource.
    folder = root if root is not None else Path(str(resources.files("evalkit.datasets") / "sample_corpus"))
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise DatasetError(
            f"sample: {manifest} is missing. Install the package again, or run tools/make_sample_corpus.py."
        )
    clips = json.loads(manifest.read_text(encoding="utf-8"))["clips"]
    parts = {clip["part"]: None for clip in clips}
    require_part("sample", part, parts)
    chosen = [clip for clip in clips if clip["part"] == part]
    found = [Found(clip["id"], clip["voice"], folder / part / f"{clip['id']}.flac") for clip in chosen]
    return build_corpus("sample", part, folder / part, found, expected=len(chosen), native_rate=16_000)
