"""LibriSpeech: 1,000 hours of read English at 16 kHz (Panayotov et al., ICASSP 2015; CC BY 4.0).

https://www.openslr.org/12. The official parts, complete or partial.
Utterance counts: the dataset card openslr/librispeech_asr.
MD5: published beside the archives (openslr.org/resources/12, md5sum.txt).
Sizes: Kaldi's recipe. SHA-256: torchaudio's.
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
        2_620,
        346_663_984,
        "32fa31d27d2e1cad72775fee3f4849a9",
        "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    ),
    (
        "test-other",
        2_939,
        328_757_843,
        "fb5a50374b501bb3bac4815ee91d3135",
        "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    ),
    (
        "dev-clean",
        2_703,
        337_926_286,
        "42e2234ba48799c1f50f24a7926300a1",
        "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    ),
    (
        "dev-other",
        2_864,
        314_305_928,
        "c8d0bcc9cca99d4f8b62fcc847357931",
        "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    ),
    (
        "train-clean-100",
        28_539,
        6_387_309_499,
        "2a93770f6d5c6c964bc36631d331a522",
        "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    ),
    (
        "train-clean-360",
        104_014,
        23_049_477_885,
        "c0e676e450a7ff2f54aeade5171606fa",
        "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    ),
    (
        "train-other-500",
        148_688,
        30_593_501_606,
        "d1a0fd59409feb2c614ce4d30c387708",
        "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    ),
)
ARCHIVES = {
    part: Archive(
        f"https://www.openslr.org/resources/12/{part}.tar.gz", f"LibriSpeech/{part}", utterances, size, md5, sha256
    )
    for part, utterances, size, md5, sha256 in _PUBLISHED
}


def open_corpus(root: Path | None, part: str = "test-clean") -> Corpus:
    """Open ROOT/[LibriSpeech/]PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac; FLAC and WAV alike.

    Args:
        root: the folder that holds LibriSpeech, or LibriSpeech itself.
        part: a key of ARCHIVES.

    Raises:
        DatasetError: as in evalkit.datasets.load_corpus.
    """
    return open_speaker_tree(
        "librispeech",
        root,
        part,
        corpus_folder="LibriSpeech",
        archives=ARCHIVES,
        id_pattern=re.compile(r"(\d+)-(\d+)-\d{4}"),
        native_rate=16_000,
    )
