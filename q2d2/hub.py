"""Checkpoints on a Hugging Face hub: push in one commit, pull of one commit, both compared by hash.

HF_ENDPOINT, HF_TOKEN, HF_HOME (the cache) and HF_HUB_OFFLINE mean what they mean to huggingface_hub, which does the
transfers and is imported only here and only when needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q2d2 import __version__
from q2d2.checkpoints import (
    CONFIG,
    WEIGHTS,
    CheckpointError,
    check_checkpoint,
    file_sha256,
    find_checkpoint,
    place,
    read_description,
    require_same,
    verify_file,
)
from q2d2.errors import UserError
from q2d2.model_card import model_card
from q2d2.published_files import UNUSED

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

CARD = "README.md"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(UserError):
    """A hub that cannot be reached, refuses, or holds something else than expected; one line that says what to do."""


class HubUnreachable(HubError):
    """There is no answer: no network, no such host, or offline mode."""


@dataclass(frozen=True)
class Pushed:
    """A commit on the hub: `url` of the repository, its 40-digit `commit`, `files` compared by hash afterwards."""

    url: str
    commit: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Pulled:
    """A checkpoint from the hub: `folder`, the 40-digit `commit` it is of, SHA-256 of its weights, compared."""

    folder: Path
    commit: str
    weights_sha256: str


def push(source: str | Path, repo: str, *, private: bool = False, revision: str | None = None) -> Pushed:
    """Upload a checkpoint in one commit, and compare what the hub then holds with the files here.

    Args:
        source: a checkpoint folder or the name of one that ships.
        repo: OWNER/NAME; created if it does not exist.
        private: create the repository as a private one; an existing public one is refused.
        revision: branch, created if it does not exist; None: main.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        HubError: no token, no permission, no connection, or the hub holds other bytes than were sent.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    hashes = {WEIGHTS: described["weights_sha256"], **described.get("side_files", {})}
    for name, sha256 in hashes.items():
        verify_file(folder / name, sha256)
    _require_repo(repo)
    api = hub_api()

    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise HubError("no token for the hub: set HF_TOKEN or run `hf auth login`; it needs write permission")
    with one_line(api, repo, revision):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise HubError(f"{repo} exists and is public: make it private first, or leave --private out")
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        present = {each.rfilename for each in api.model_info(repo, revision=revision).siblings or []}
        additions: dict[str, Path | bytes] = {name: folder / name for name in (CONFIG, *hashes)}
        if (folder / CARD).is_file():
            additions[CARD] = folder / CARD
        elif CARD not in present:  # one that is there may have been written by hand
            additions[CARD] = model_card(folder, repo).encode()
        operations: list[Any] = [
            huggingface_hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in additions.items()
        ]
        if UNUSED in present - additions.keys():  # of an older checkpoint
            operations.append(huggingface_hub.CommitOperationDelete(UNUSED))
        done = api.create_commit(
            repo,
            operations,
            commit_message=f"Codec checkpoint {described['weights_sha256'][:12]}",
            revision=revision,
        )
        held = {
            each.rfilename: each for each in api.model_info(repo, revision=done.oid, files_metadata=True).siblings or []
        }
    for name, content in additions.items():
        if name not in held or not _is_same(held[name], content):
            raise HubError(f"{repo} at {done.oid}: {name} is not what was sent; push again")
    return Pushed(f"{api.endpoint}/{repo}", done.oid, tuple(additions))


def pull(repo: str, folder: Path, *, revision: str | None = None, replace: bool = False) -> Pulled:
    """Download a checkpoint of one commit to `folder`, by way of the hub's cache, and compare it with its hashes.

    What is refused leaves nothing behind, neither in `folder` nor in the cache.

    Args:
        repo: OWNER/NAME.
        folder: made if it does not exist.
        revision: branch, tag or commit; None: main.
        replace: whether another checkpoint in `folder` may be overwritten.

    Raises:
        HubError: no such repository or revision, no permission, no connection, or no checkpoint in it.
        CheckpointError: the checkpoint is of another format or damaged, or `folder` holds another one.
    """
    _require_repo(repo)
    with _refused_not_cached(repo):
        pulled = fetch(repo, revision=revision)
        check_checkpoint(pulled.folder)
    described = read_description(pulled.folder)
    if not replace:
        require_same(folder, described)
    place(folder, {name: pulled.folder / name for name in (CONFIG, WEIGHTS, *described.get("side_files", {}))})
    return Pulled(folder, pulled.commit, pulled.weights_sha256)


@contextmanager
def _refused_not_cached(repo: str) -> Iterator[None]:
    """Where the block refuses what a repository holds, the hub's cache is left as it was.

    What an interruption leaves there stays: the next download goes on with it.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache, name = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type="model")
    folders = (cache / name, cache / ".locks" / name)
    before = {path for folder in folders for path in folder.rglob("*")}
    branches = {path: path.read_bytes() for path in before if path.is_file() and "refs" in path.parts}
    try:
        yield
    except HubUnreachable:
        raise
    except UserError:
        added = {path for folder in folders for path in folder.rglob("*")} - before
        for path in sorted(added, reverse=True):  # what is in a folder before the folder
            with suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, content in branches.items():
            path.write_bytes(content)
        for folder in folders:
            with suppress(OSError):  # it is there no longer, or was before
                folder.rmdir()
        raise


def fetch(repo: str, *, revision: str | None = None, cached: bool = False) -> Pulled:
    """A checkpoint of one commit in the hub's cache, downloaded as far as it is not there, compared with its hashes.

    Args:
        repo: OWNER/NAME.
        revision: branch, tag or commit; None: main.
        cached: where the hub cannot be reached, take the commit that the cache last saw, with a warning.

    Raises:
        HubError: no such repository or revision, no permission, no connection, or no checkpoint in it.
        CheckpointError: the checkpoint is of another format, or damaged.
    """
    _require_repo(repo)
    api = hub_api()
    try:
        folder = _fetch_description(api, repo, revision)
    except HubUnreachable as error:
        known = _cached_description(repo, revision) if cached else None
        if known is None:
            raise
        folder = known
        warnings.warn(f"{error}; using commit {folder.name} from the cache", stacklevel=2)
    commit = folder.name
    described = read_description(folder)
    hashes = {WEIGHTS: described["weights_sha256"], **described.get("side_files", {})}
    for name, sha256 in hashes.items():
        with one_line(api, repo, revision):
            api.hf_hub_download(repo, name, revision=commit)
        if file_sha256(folder / name) != sha256:  # the cache may be damaged: once more from the hub itself
            with one_line(api, repo, revision):
                api.hf_hub_download(repo, name, revision=commit, force_download=True)
            verify_file(folder / name, sha256)
    return Pulled(folder, commit, hashes[WEIGHTS])


def locate(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint given as a folder, the name of one that ships, or OWNER/NAME on the hub.

    What is on this machine comes first; with a `revision`, only the hub is asked.

    Raises:
        HubError, CheckpointError: there is none.
    """
    if revision is None:
        try:
            return find_checkpoint(source)
        except CheckpointError:
            if Path(source).is_dir() or not _REPO.fullmatch(str(source)):
                raise
    return fetch(str(source), revision=revision, cached=True).folder


def hub_api() -> HfApi:
    """huggingface_hub's client, at the address that HF_ENDPOINT names now."""
    from huggingface_hub import HfApi

    # Given here, as huggingface_hub reads the variable only when it is imported.
    return HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        library_name="codec-bottlenecks",
        library_version=__version__,
    )


def _require_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo):
        raise HubError(f"repository {repo!r}: expected OWNER/NAME")


def _fetch_description(api: HfApi, repo: str, revision: str | None) -> Path:
    """Bring codec.json into the cache; the folder there, which is called after the commit."""
    with one_line(api, repo, revision):
        if revision is None or not _COMMIT.fullmatch(revision):
            api.model_info(repo, revision=revision)  # without a network this fails at once, the download much later
        return Path(api.hf_hub_download(repo, CONFIG, revision=revision)).parent


def _cached_description(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, CONFIG, revision=revision, local_files_only=True)).parent
    except LocalEntryNotFoundError:
        return None


def _is_same(held: RepoSibling, content: Path | bytes) -> bool:
    """Whether the hub's file has these contents, by SHA-256 where it is a large file, else by git's own hash."""
    if held.lfs is not None:
        own = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)
        return held.lfs.sha256 == own
    data = content if isinstance(content, bytes) else content.read_bytes()
    return held.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def one_line(api: HfApi, repo: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into a HubError of one line."""
    from huggingface_hub import errors

    at = f"{repo} on {api.endpoint}"
    try:
        yield
    except UserError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(f"{at} is gated: ask for access on its page, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"no repository {at}, or it is private: check the name, or run `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{at} has no revision {revision or 'main'!r}") from error
    except errors.RemoteEntryNotFoundError as error:
        name = str(error.response.url).rpartition("/")[2]
        raise HubError(
            f"{at} has no {name}{': it is no checkpoint of this package' if name == CONFIG else ''}"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        denied = "; the token lacks permission, see `hf auth whoami`" if status in (401, 403) else ""
        raise HubError(f"{at} answered with status {status}{denied}: {_first_line(error)}") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.HTTPError, OSError) as error:
        offline = "offline mode is on (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE") else _first_line(error)
        raise HubUnreachable(f"{at} cannot be reached: {offline}") from error
    except (RuntimeError, ValueError) as error:  # of a transfer that broke off, or of a refused README.md
        reason = f" ({_first_line(error.__cause__)})" if error.__cause__ else ""
        raise HubError(f"{at}: {_first_line(error)}{reason}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
