"""Folders of decoded audio for tests of `evalkit score`, and the command on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from evalkit.datasets import load_corpus, read_audio
from tests.command import Outcome, evalkit
from tests.finished_run import rows

RATE = 16_000
FAST = ("--metrics", "stoi,si_sdr", "--workers", "1")


def make_folders(root: Path) -> Path:
    """originals/, good/ and bad/ of the same four names: speech of the bundled sample, 1.5 s each, and noise on it."""
    chosen = load_corpus("sample", "test").utterances[:4]
    for name, level in (("originals", 0.0), ("good", 0.003), ("bad", 0.03)):
        (root / name).mkdir()
        for number, utterance in enumerate(chosen):
            clip = read_audio(utterance.path)[0][: 3 * RATE // 2]
            noisy = clip + level * np.random.default_rng(0).standard_normal(clip.size)
            soundfile.write(root / name / f"clip{number}.wav", noisy.clip(-0.99, 0.99), RATE, subtype="PCM_16")
    return root


def score(folder: Path, *arguments: object, estimates: tuple[str, ...] = ("good", "bad")) -> Outcome:
    return evalkit(
        "score", folder / "originals", *(folder / name for name in estimates), "--out", folder / "run", *FAST,
        *arguments, width=120,
    )  # fmt: skip


def failed(folder: Path) -> dict[tuple[str, str], str]:
    frame = rows(folder / "run", "utterances")
    lost = frame[frame["status"] == "failed"]
    assert lost["value"].isna().all()
    assert frame.loc[frame["status"] == "ok", "value"].notna().all()
    return {(row.system, row.utterance): row.detail for row in lost.itertuples()}
