"""Speech corpora under one interface: a dataset is one module here, or in another package, and one line below.

corpus = load_corpus("librispeech", "test-clean", root=Path("/data"))
for utterance in corpus.utterances:
    samples, rate = read_audio(utterance.path)
"""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.datasets.corpus import Corpus, DatasetError, Problem, Utterance, check_corpus
from evalkit.datasets.layout import root_variable
from q2d2.audio import AudioError, read_audio
from q2d2.registry import Registry

__all__ = [
    "DATASETS",
    "AudioError",
    "Corpus",
    "DatasetError",
    "Problem",
    "Utterance",
    "check_corpus",
    "load_corpus",
    "read_audio",
]

# Each entry is open_corpus(root: Path | None, part: str = <default>) -> Corpus.
DATASETS = Registry(
    "dataset",
    group="evalkit.datasets",
    entries={
        "sample": "evalkit.datasets.sample:open_corpus",
        "librispeech": "evalkit.datasets.librispeech:open_corpus",
        "libritts": "evalkit.datasets.libritts:open_corpus",
        "ljspeech": "evalkit.datasets.ljspeech:open_corpus",
        "folder": "evalkit.datasets.folder:open_corpus",
        "manifest": "evalkit.datasets.manifest:open_corpus",
    },
)


def load_corpus(name: str, part: str | None = None, root: Path | None = None) -> Corpus:
    """Open one part of a dataset: list its files and read their headers.

    Args:
        name: a name in DATASETS.
        part: such as "test-clean"; None for the dataset's default.
        root: the folder that holds the corpus, or the corpus folder itself, or a manifest's file; None for the
            environment variable EVALKIT_<NAME>_ROOT. The `sample` corpus needs neither.

    Raises:
        UnknownName: no such dataset.
        DatasetError: no root is known, it does not exist, the part is unknown or not there, two files share an id,
            or no file is usable.
    """
    opener = DATASETS.resolve(name)
    if root is None and (variable := os.environ.get(root_variable(name))):
        root = Path(variable)
    corpus: Corpus = opener(root) if part is None else opener(root, part)
    return corpus
