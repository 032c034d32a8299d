"""What a dataset's module says of a published archive, so that evalkit.datasets.fetch can get it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One published archive, and what is in it.

    Attributes:
        url: where it is published.
        folder: the folder it unpacks to, relative to the destination, such as "LibriSpeech/test-clean".
        utterances: how many utterances the part has, as published.
        size: length of the archive in bytes.
        md5, sha256: hexadecimal digests; those that are given must all match.
    """

    url: str
    folder: str
    utterances: int
    size: int
    md5: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not (self.md5 or self.sha256):
            raise ValueError(f"{self.url}: an archive needs a checksum")

    @property
    def checksums(self) -> dict[str, str]:
        """Algorithm (a hashlib name) -> expected hexadecimal digest."""
        return {name: digest for name, digest in (("md5", self.md5), ("sha256", self.sha256)) if digest}
