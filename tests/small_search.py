"""A search so small that a trial of it takes about a second, and what its tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.datasets import load_corpus
from evalkit.sweeps.work import Settings
from evalkit.tuning.search import Searched, search_once
from evalkit.tuning.settings import Tuning, prepare
from evalkit.tuning.study import SearchStudy
from tests.command import write_experiment

FAMILIES = ("rhombic", "a2", "d4")
_made: dict[str, Path] = {}


def recordings(factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of six voices, a folder a voice; the same in every test."""
    if "recordings" not in _made:
        root = factory.mktemp("recordings")
        for utterance in load_corpus("sample", "test").utterances:
            assert utterance.speaker is not None
            (root / utterance.speaker).mkdir(exist_ok=True)
            (root / utterance.speaker / utterance.path.name).symlink_to(utterance.path)
        _made["recordings"] = root
    return _made["recordings"]


def experiment(factory: pytest.TempPathFactory) -> Path:
    """A tiny experiment file; the same in every test."""
    if "experiment" not in _made:
        _made["experiment"] = write_experiment(factory.mktemp("experiment") / "base.yaml")
    return _made["experiment"]


def small_search(folder: Path, factory: pytest.TempPathFactory) -> Tuning:
    """Six points at 8 bits per frame, 8 steps each, one utterance scored; its folder is written."""
    search = prepare(
        folder,
        8,
        experiment=str(experiment(factory)),
        overrides=("train.steps=8", "train.log_every=1", "train.num_workers=0"),
        audio=recordings(factory),
        families=FAMILIES,
        limit=1,
    )
    search.write()
    return search


def settings_of(tuning: Tuning) -> Settings:
    return Settings(tuning.folder, "cpu", use_cache=False)


def search_all(tuning: Tuning, trials: int) -> list[Searched]:
    """The whole search in this process."""
    SearchStudy(tuning).begin()
    found = iter(lambda: search_once(tuning, settings_of(tuning), trials, 0), None)
    return [each for each in found if each is not None]
