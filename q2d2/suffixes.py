"""Which files are audio by their names, and how those that libsndfile does not read become files that it reads."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = frozenset({
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".bwf", ".wavex",
})  # fmt: skip
_FFMPEG = (
    ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".wma", ".amr", ".3gp", ".ape", ".wv", ".tta", ".spx", ".shn", ".webm",
    ".weba", ".mka",
)  # fmt: skip
_WAYS_OUT = {
    **{suffix: f"ffmpeg -i FILE{suffix} FILE.flac" for suffix in _FFMPEG},
    ".sph": "sph2pipe -f wav FILE.sph FILE.wav, or sox FILE.sph FILE.wav",
    **{
        suffix: f"sox -t raw -r RATE -e signed -b 16 -c 1 FILE{suffix} FILE.wav, as its rate and format are not in it"
        for suffix in (".raw", ".pcm")
    },
}
AUDIO_SUFFIXES = SUFFIXES | _WAYS_OUT.keys()
_SPHERE, _SPHERE_HEADER = b"NIST_1A", 1024


def why_unsupported(path: str | os.PathLike[str]) -> str:
    """Why libsndfile cannot read a file of this name, with the command that converts it; "" where it can be tried."""
    suffix = Path(path).suffix.lower()
    if suffix not in _WAYS_OUT or (suffix == ".sph" and _is_plain_sphere(path)):
        return ""
    return f"libsndfile cannot read {suffix} files; convert it: {_WAYS_OUT[suffix]}"


def without_suffix(name: str) -> str:
    """A name without the suffix of audio, where it has one."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in AUDIO_SUFFIXES else name


def _is_plain_sphere(path: str | os.PathLike[str]) -> bool:
    """Whether a SPHERE file holds samples as they are; LDC's are often compressed by shorten."""
    try:
        with open(path, "rb") as file:
            header = file.read(_SPHERE_HEADER)
    except OSError:
        return True  # reading it says what is wrong
    return header.startswith(_SPHERE) and b"shorten" not in header
