"""Where the weights of whole codecs come from: a pinned revision on the hub, or a folder of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from q2d2.errors import UserError


class WeightsMissing(UserError, RuntimeError):
    """Weights that are not on this machine; the message says how to get them."""


@dataclass(frozen=True)
class HubWeights:
    """Files of one repository at one revision.

    Attributes:
        repo: "owner/name" on the Hugging Face hub.
        revision: the commit, 40 hexadecimal digits, so that the same files are loaded for ever.
        files: names of the files that are needed, in the order of their digest.
        source: whose weights they are and under which licence, one line.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    source: str

    def find(self, name: str, root: Path | None = None) -> Path:
        """The folder that holds the files of the codec `name`, without any network.

        Looked for in `root`/`name`, in `root` as a cache of the hub, and, where `root` is None, in the hub's cache of
        this machine (HF_HOME, HF_HUB_CACHE).

        Raises:
            WeightsMissing: a file is in none of them.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        if root is not None and self._is_complete(root / name):
            return root / name
        try:
            found = Path(
                snapshot_download(
                    self.repo, revision=self.revision, cache_dir=root, allow_patterns=list(self.files),
                    local_files_only=True,
                )
            )  # fmt: skip
        except LocalEntryNotFoundError:
            found = None
        if found is not None and self._is_complete(found):
            return found
        where = f"{root / name} and the hub's cache layout below {root}" if root is not None else "the hub's cache"
        raise WeightsMissing(
            f"{name}: the weights are missing ({', '.join(self.files)} of {self.repo}, not in {where}). "
            f"Fetch them: evalkit weights fetch {name}. By hand: put these files into DIR/{name} and give "
            "--weights-root DIR"
        )

    def fetch(self, root: Path | None = None) -> Path:
        """Download what is missing into the hub's cache, or into `root` in the same layout; the folder of the files.

        The hub's library compares each file with the hash that the pinned revision lists.

        Raises:
            UserError: the hub cannot be reached or has no such revision or file.
        """
        from q2d2.hub import hub_api, one_line

        api = hub_api()
        with one_line(api, self.repo, self.revision):
            return Path(
                api.snapshot_download(
                    self.repo, revision=self.revision, cache_dir=root, allow_patterns=list(self.files)
                )
            )

    def _is_complete(self, folder: Path) -> bool:
        return all((folder / file).is_file() for file in self.files)


def files_sha256(folder: Path, files: Sequence[str]) -> str:
    """One digest of several files of `folder`, of their names and contents."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode())
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
