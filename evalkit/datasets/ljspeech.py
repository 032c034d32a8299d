"""LJSpeech 1.1: 24 hours of one reader at 22.05 kHz (Ito and Johnson, 2017; public domain).

https://keithito.com/LJ-Speech-Dataset/. There is no official split: the one part is `all`, 13,100 clips as that page
says. SHA-256 and size: torchaudio's record of the archive; MD5: NVIDIA's Tacotron 2 recipe.
"""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.datasets.corpus import Corpus, DatasetError, Found, Problem, build_corpus, find_audio
from evalkit.datasets.layout import Archive, require_part, require_root

ARCHIVES = {
    "all": Archive(
        "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        "LJSpeech-1.1",
        utterances=13_100,
        size=2_748_572_632,
        md5="c4763be9595ddfa79c2fc6eaeb3b6c8e",
        sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
    )
}
_CLIP = re.compile(r"LJ\d{3}-\d{4}")


def open_corpus(root: Path | None, part: str = "all") -> Corpus:
    """Open ROOT/[LJSpeech-1.1/ or LJSpeech/]wavs/LJNNN-NNNN.wav; FLAC and WAV alike. The one speaker is "LJ".

    Args:
        root: the folder that holds LJSpeech-1.1 or LJSpeech, or that folder itself.
        part: "all".

    Raises:
        DatasetError: as in evalkit.datasets.load_corpus.
    """
    require_part("ljspeech", part, ARCHIVES)
    root = require_root("ljspeech", root, part, fetchable=True)
    bases = (root / "LJSpeech-1.1", root / "LJSpeech", root)
    folder = next((base / "wavs" for base in bases if (base / "wavs").is_dir()), None)
    if folder is None:
        raise DatasetError(
            f"ljspeech: no wavs/ in {root}, {bases[0].name} or {bases[1].name}. "
            "To fetch it: evalkit data fetch ljspeech --part all"
        )
    found, misplaced = [], []
    for path in find_audio(folder):
        if _CLIP.fullmatch(path.stem) and path.parent == folder:
            found.append(Found(path.stem, "LJ", path))
        else:
            misplaced.append(Problem(path, "does not follow ljspeech's layout wavs/LJNNN-NNNN"))
    return build_corpus(
        "ljspeech", part, folder, found, expected=ARCHIVES[part].utterances, native_rate=22_050, problems=misplaced
    )
