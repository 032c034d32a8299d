"""The corpus that ships: its samples are those of the manifest, it is small, and its parts share no text."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import soundfile

from evalkit.datasets import check_corpus, load_corpus

RATE = 16_000


def test_samples_are_those_of_the_manifest() -> None:
    folder = Path(str(resources.files("evalkit.datasets") / "sample_corpus"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    listed = {clip["id"]: clip for clip in manifest["clips"]}
    for part in ("train", "test"):
        corpus = load_corpus("sample", part)
        assert not check_corpus(corpus)
        assert not corpus.notes
        for utterance in corpus.utterances:
            clip = listed.pop(utterance.id)
            assert (clip["part"], clip["voice"]) == (part, utterance.speaker)
            samples, rate = soundfile.read(utterance.path, dtype="int16")
            assert rate == RATE
            assert hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest() == clip["sha256"]
    assert not listed


def test_is_small_and_has_several_voices() -> None:
    train, test = load_corpus("sample", "train"), load_corpus("sample", "test")
    folder = train.root.parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000
    assert len(test.speakers) >= 4
    assert 60 <= train.seconds <= 80
    assert len(test.utterances) >= 8
    assert all(2 <= utterance.seconds <= 4 for utterance in test.utterances)
    texts = {"train": set(), "test": set()}
    for clip in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["clips"]:
        texts[clip["part"]].add(clip["text"])
    assert not texts["train"] & texts["test"]
