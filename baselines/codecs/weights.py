"""Where the weights of whole codecs come from: a revision on the hub, or a folder of one's own; how either is found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from q2d2.errors import UserError

_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsMissing(UserError, RuntimeError):
    """Weights that are not on this machine; the message says how to get them."""


class WeightsDamaged(UserError, RuntimeError):
    """Weights that are not what the hub published; the message names the file and says how to mend it."""


class Weights(Protocol):
    """Where the weights of a codec come from.

    Attributes:
        files: names of the files that are needed, or patterns of them such as *.ckpt.
        source: whose weights they are and under which licence, one line.
    """

    @property
    def files(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> str: ...

    def find(self, name: str, root: Path | None = None) -> Path:
        """The folder that holds the files of the codec `name`, without any network. Raises WeightsMissing."""

    def fetch(self, root: Path | None = None) -> Path:
        """Download what is missing; the folder of the files. Raises UserError where that cannot be done."""


@dataclass(frozen=True)
class HubWeights:
    """Files of one repository at one revision.

    Attributes:
        repo: "owner/name" on the Hugging Face hub.
        revision: the commit, 40 hexadecimal digits, so that the same files are loaded for ever. None where no commit
            is known: then it is the one that main was when it was fetched (the cache keeps it as refs/main), and
            only the digest of the loaded files says which weights a result is of.
        files: names of the files that are needed, in the order of their digest.
        source: whose weights they are and under which licence, one line.
        own_files: patterns, such as *.ckpt, for the files of a folder of one's own, where these may be called
            otherwise than on the hub; None: they are called as `files` says.
    """

    repo: str
    revision: str | None
    files: tuple[str, ...]
    source: str
    own_files: tuple[str, ...] | None = None

    def find(self, name: str, root: Path | None = None) -> Path:
        """The folder that holds the files of the codec `name`, without any network.

        Looked for in `root`/`name`, in `root` as a cache of the hub, and in the hub's cache of this machine (HF_HOME,
        HF_HUB_CACHE).

        Raises:
            WeightsMissing: a file is in none of them, or `root`/`name` holds only some of them.
        """
        if root is not None and (root / name).is_dir():
            if lacking := _lacking(root / name, self.own_files or self.files):
                raise WeightsMissing(
                    f"{name}: {root / name} lacks {', '.join(lacking)} of {self.repo}. Put it there, or remove the "
                    f"folder and fetch the weights: evalkit weights fetch {name}"
                )
            return root / name
        for cache in dict.fromkeys((root, None)):
            if (found := self._cached(cache)) is not None:
                return found
        where = "the hub's cache" if root is None else f"{root / name}, {root} as a hub's cache, or the hub's cache"
        raise WeightsMissing(
            f"{name}: the weights are missing ({', '.join(self.files)} of {self.repo}, not in {where}). "
            f"Fetch them: evalkit weights fetch {name}. By hand: put these files into DIR/{name} and give "
            "--weights-root DIR"
        )

    def fetch(self, root: Path | None = None) -> Path:
        """Download what is missing into the hub's cache, or into `root` in the same layout; the folder of the files.

        What is there is read whole and compared with the hash that the hub gave it; with all files there and right,
        no network is needed, and an unpinned revision stays the one that was fetched first.

        Raises:
            UserError: the hub cannot be reached, has no such revision or file, or sends other bytes than it lists.
        """
        folder = self._cached(root)
        if folder is not None:
            try:
                files_sha256(folder, self.files)
            except WeightsDamaged:
                return self._download(root, force=True)
            return folder
        return self._download(root)

    def _download(self, root: Path | None, *, force: bool = False) -> Path:
        from q2d2.hub import hub_api, one_line

        api = hub_api()
        with one_line(api, self.repo, self.revision):
            # Without a network this fails at once, the download much later.
            commit = api.model_info(self.repo, revision=self.revision).sha
            for file in self.files:
                api.hf_hub_download(self.repo, file, revision=self.revision, cache_dir=root, force_download=force)
        folder = self._cached(root)
        if folder is None or folder.name != commit:
            raise UserError(f"{self.repo} changed on the hub while it was fetched; fetch it again")
        files_sha256(folder, self.files)
        return folder

    def _cached(self, cache: Path | None) -> Path | None:
        """The folder of this revision in a cache of the hub (None: this machine's), if all files are in it."""
        from huggingface_hub import try_to_load_from_cache

        folders = set()
        for file in self.files:
            path = try_to_load_from_cache(self.repo, file, cache_dir=cache, revision=self.revision)
            if not isinstance(path, str):  # None, or a mark that the repository has no such file
                return None
            folders.add(Path(path.removesuffix(file)))
        return folders.pop() if len(folders) == 1 else None


@dataclass(frozen=True)
class LocalWeights:
    """Files that no hub is known to hold: whoever has them puts them into a folder.

    Attributes:
        page: address of the page of their authors.
        files: patterns, such as *.ckpt, each of which a file has to match.
        source: whose weights they are and under which licence, one line.
    """

    page: str
    files: tuple[str, ...]
    source: str

    def find(self, name: str, root: Path | None = None) -> Path:
        """The folder `root`/`name`.

        Raises:
            WeightsMissing: there is none, or it lacks a file.
        """
        if root is not None and (root / name).is_dir() and not _lacking(root / name, self.files):
            return root / name
        where = "" if root is None else f" from {root / name}"
        raise WeightsMissing(f"{name}: the weights are missing{where}: {self._by_hand(name)}")

    def fetch(self, root: Path | None = None) -> NoReturn:
        """There is nowhere to fetch them from.

        Raises:
            WeightsMissing: always; the message says where their authors are found, and where to put the files.
        """
        raise WeightsMissing(f"these weights cannot be fetched: {self._by_hand('NAME')}")

    def _by_hand(self, name: str) -> str:
        files = ", ".join(self.files)
        return (
            f"{files}, on no hub known here; their authors' page is {self.page}. "
            f"By hand: get {files} from its authors, put it into DIR/{name} and give --weights-root DIR"
        )


def _lacking(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Those of `patterns` that no file of `folder` matches."""
    return [pattern for pattern in patterns if not any(path.is_file() for path in folder.glob(pattern))]


def files_sha256(folder: Path, files: Sequence[str]) -> str:
    """One digest of several files of `folder`, of their names and contents.

    Raises:
        WeightsDamaged: a file that a cache of the hub keeps under its SHA-256 has another one.
    """
    digest = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            contents = hashlib.file_digest(file, "sha256")
        # The hub's cache links a file to a blob that is called after the hash the hub lists: of large files, SHA-256.
        published = (folder / name).resolve().name
        if _SHA256.fullmatch(published) and published != contents.hexdigest():
            raise WeightsDamaged(
                f"{folder / name} is damaged: sha256 {contents.hexdigest()}, the hub lists {published}. "
                "Fetch the weights again: evalkit weights fetch"
            )
        digest.update(name.encode())
        digest.update(contents.digest())
    return digest.hexdigest()
