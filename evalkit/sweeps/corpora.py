"""The corpora of a sweep's trials, opened once before the first of them begins."""

from __future__ import annotations

from collections.abc import Iterable

from evalkit.datasets import load_corpus
from evalkit.sweeps.trials import Trial


def open_corpora(trials: Iterable[Trial]) -> None:
    """Open every corpus that the trials train or test on.

    Raises:
        DatasetError, UnknownName: one is missing: all its trials would fail.
    """
    corpora = {
        (corpus.name, corpus.part, corpus.root)
        for trial in trials
        if trial.experiment is not None
        for corpus in (trial.experiment.data.test, *trial.experiment.data.train)
    }
    for corpus in sorted(corpora, key=str):
        load_corpus(*corpus)
