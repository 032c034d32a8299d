"""An index of files as a corpus: opened at once, however many there are. `evalkit data index` writes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from evalkit.datasets.corpus import Corpus, DatasetError, Utterance
from evalkit.datasets.layout import require_part, root_variable
from q2d2.training.manifest import AudioFile, Manifest, ManifestError


class ManifestUtterances(Sequence[Utterance]):
    """The entries of a manifest, each made an Utterance when it is asked for.

    An id is the entry's number and the file's name without suffix, such as "0000012-1089-134686-0001", so that ids are
    unique and sorted without being looked at, and the same wherever the files lie. Speakers are unknown.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._digits = len(str(len(manifest)))

    def __len__(self) -> int:
        return len(self._manifest)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Utterance, ...]: ...
    def __getitem__(self, index: int | slice) -> Utterance | tuple[Utterance, ...]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return tuple(map(self._utterance, numbers))
        return self._utterance(numbers)

    def __iter__(self) -> Iterator[Utterance]:
        return map(self._utterance, range(len(self)))

    def _utterance(self, number: int) -> Utterance:
        file: AudioFile = self._manifest[number]
        name = f"{number:0{self._digits}}-{file.path.stem}"
        return Utterance(name, file.path, None, file.frames, file.sample_rate)


def open_corpus(root: Path | None, part: str = "all") -> Corpus:
    """Open a manifest; its files are not looked at.

    Args:
        root: the manifest's file.
        part: "all".

    Raises:
        DatasetError: no file is named, it is no manifest or it is damaged, or the part is unknown.
    """
    require_part("manifest", part, {"all": None})
    if root is None:
        raise DatasetError(
            f"manifest: which file? Give it in {root_variable('manifest')}, or as root in the experiment file: "
            "{name: manifest, root: train.arrow}. `evalkit data index` writes one."
        )
    path = root.expanduser().resolve()
    try:
        manifest = Manifest.open(path)
    except ManifestError as error:
        raise DatasetError(f"manifest: {error}") from error
    return Corpus("manifest", part, path, ManifestUtterances(manifest), (), manifest=manifest)
