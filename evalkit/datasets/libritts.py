"""LibriTTS: 585 hours of read English at 24 kHz, split at sentences (Zen et al., Interspeech 2019; CC BY 4.0).

https://www.openslr.org/60. The official parts, complete or partial.
Utterance counts: the TensorFlow Datasets catalogue, entry `libritts`.
MD5: published beside the archives (openslr.org/resources/60, md5sum.txt).
Sizes: public recipes that check them before unpacking. SHA-256: torchaudio's.
"""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.datasets.corpus import Corpus
from evalkit.datasets.layout import Archive, open_speaker_tree

# part, utterances, bytes of the archive, MD5, SHA-256
_PUBLISHED = (
    (
        "test-clean",
        4_837,
        1_230_670_113,
        "7bed3bdb047c4c197f1ad3bc412db59f",
        "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
    ),
    (
        "test-other",
        5_120,
        964_502_297,
        "ae3258249472a13b5abef2a816f733e4",
        "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d",
    ),
    (
        "dev-clean",
        5_736,
        1_291_469_655,
        "0c3076c1e5245bb3f0af7d82087ee207",
        "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
    ),
    (
        "dev-other",
        4_613,
        924_804_676,
        "815555d8d75995782ac3ccd7f047213d",
        "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c",
    ),
    (
        "train-clean-100",
        33_236,
        7_723_686_890,
        "4a8c202b78fe1bc0c47916a98f3a2ea8",
        "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
    ),
    (
        "train-clean-360",
        116_500,
        27_504_073_644,
        "a84ef10ddade5fd25df69596a2767b2d",
        "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
    ),
    (
        "train-other-500",
        205_044,
        44_565_031_479,
        "7b181dd5ace343a5f38427999684aa6f",
        "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
    ),
)
ARCHIVES = {
    part: Archive(
        f"https://www.openslr.org/resources/60/{part}.tar.gz", f"LibriTTS/{part}", utterances, size, md5, sha256
    )
    for part, utterances, size, md5, sha256 in _PUBLISHED
}


def open_corpus(root: Path | None, part: str = "test-clean") -> Corpus:
    """Open ROOT/[LibriTTS/]PART/SPEAKER/CHAPTER/SPEAKER_CHAPTER_NNNNNN_NNNNNN.wav; FLAC and WAV alike.

    Args:
        root: the folder that holds LibriTTS, or LibriTTS itself.
        part: a key of ARCHIVES.

    Raises:
        DatasetError: as in evalkit.datasets.load_corpus.
    """
    return open_speaker_tree(
        "libritts",
        root,
        part,
        corpus_folder="LibriTTS",
        archives=ARCHIVES,
        id_pattern=re.compile(r"(\d+)_(\d+)_\d{6}_\d{6}"),
        native_rate=24_000,
    )
