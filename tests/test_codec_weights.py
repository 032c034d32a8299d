"""Weights of whole codecs: found without a network, fetched from a hub on this machine, damaged, missing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from baselines.codecs.weights import HubWeights, WeightsDamaged, WeightsMissing, files_sha256
from q2d2.errors import UserError
from q2d2.hub import HubError, HubUnreachable
from tests.hub_server import Hub, Repository, hub_of_this_test

REPO = "me/codec"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256))}
OTHER = FILES | {"model.safetensors": bytes(256)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_of_this_test(tmp_path, monkeypatch) as running:
        running.repositories[REPO] = Repository(private=False)
        yield running


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(revision: str | None = COMMIT) -> HubWeights:
    return HubWeights(REPO, revision, tuple(FILES), "made here")


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def snapshot(cache: Path, commit: str = COMMIT) -> Path:
    return cache / "models--me--codec" / "snapshots" / commit


def published(hub: Hub, files: dict[str, bytes] = FILES) -> str:
    return hub.repositories[REPO].commit("main", files)


def is_one_line(error: BaseException) -> bool:
    return "\n" not in str(error)


class TestFind:
    def test_a_folder_of_one_s_own_comes_first(self, tmp_path: Path, empty_cache: Path) -> None:
        own = write(tmp_path / "root" / "mine")
        write(snapshot(tmp_path / "root"))
        write(snapshot(empty_cache))
        assert weights().find("mine", tmp_path / "root") == own

    def test_then_the_root_as_a_cache_then_the_hub_s_own(self, tmp_path: Path, empty_cache: Path) -> None:
        machine = write(snapshot(empty_cache))
        assert weights().find("mine") == machine
        assert weights().find("mine", tmp_path / "root") == machine
        own = write(snapshot(tmp_path / "root"))
        assert weights().find("mine", tmp_path / "root") == own

    def test_a_pinned_revision_is_no_other(self, empty_cache: Path) -> None:
        write(snapshot(empty_cache, COMMIT[::-1]))
        refs = empty_cache / "models--me--codec" / "refs"
        refs.mkdir()
        (refs / "main").write_text(COMMIT[::-1])
        with pytest.raises(WeightsMissing):
            weights().find("mine")
        assert weights(None).find("mine") == snapshot(empty_cache, COMMIT[::-1])

    def test_an_unpinned_one_needs_the_cache_s_record(self, empty_cache: Path) -> None:
        write(snapshot(empty_cache))
        with pytest.raises(WeightsMissing):
            weights(None).find("mine")

    def test_missing(self, tmp_path: Path, empty_cache: Path) -> None:
        with pytest.raises(WeightsMissing) as caught:
            weights().find("mine")
        for words in ("mine: the weights are missing", REPO, *FILES, "evalkit weights fetch mine", "--weights-root"):
            assert words in str(caught.value)
        assert is_one_line(caught.value)
        with pytest.raises(WeightsMissing, match=re.escape(str(tmp_path / "root" / "mine"))):
            weights().find("mine", tmp_path / "root")
        partial = snapshot(empty_cache)
        write(partial, {"config.json": b"{}"})
        with pytest.raises(WeightsMissing, match="the weights are missing"):
            weights().find("mine")

    def test_half_a_folder_is_not_passed_over(self, tmp_path: Path, empty_cache: Path) -> None:
        write(snapshot(empty_cache))
        write(tmp_path / "root" / "mine", {"config.json": b"{}"})
        with pytest.raises(WeightsMissing, match=r"mine lacks model\.safetensors of me/codec") as caught:
            weights().find("mine", tmp_path / "root")
        assert is_one_line(caught.value)


class TestFetch:
    def test_what_is_fetched_is_found(self, hub: Hub, tmp_path: Path) -> None:
        commit = published(hub)
        published(hub, OTHER)
        folder = weights(commit).fetch()
        assert folder == weights(commit).find("mine")
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES
        assert sorted(os.listdir(folder)) == sorted(FILES)
        assert weights(commit).fetch(tmp_path / "root") == weights(commit).find("mine", tmp_path / "root")
        assert (tmp_path / "root") in weights(commit).find("mine", tmp_path / "root").parents

    @pytest.mark.parametrize("pinned", [True, False])
    def test_what_is_there_needs_no_network(self, hub: Hub, pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = published(hub)
        revision = commit if pinned else None
        folder = weights(revision).fetch()
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        hub.requests.clear()
        assert weights(revision).fetch() == folder
        assert weights(revision).find("mine") == folder
        assert hub.requests == []

    def test_an_unpinned_one_stays_what_was_fetched_first(self, hub: Hub, empty_cache: Path) -> None:
        first = published(hub)
        folder = weights(None).fetch()
        assert folder.name == first
        assert (empty_cache / "models--me--codec" / "refs" / "main").read_text() == first
        published(hub, OTHER)
        assert weights(None).fetch() == weights(None).find("mine") == folder
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]

    def test_only_what_is_missing_is_fetched(self, hub: Hub) -> None:
        commit = published(hub)
        folder = weights(commit).fetch()
        (folder / "config.json").unlink()
        hub.requests.clear()
        weights(commit).fetch()
        assert not [request for request in hub.requests if request.startswith("GET") and "safetensors" in request]

    def test_a_damaged_cache_is_noticed_and_mended(self, hub: Hub) -> None:
        commit = published(hub)
        folder = weights(commit).fetch()
        good = files_sha256(folder, tuple(FILES))
        blob = (folder / "model.safetensors").resolve()
        os.chmod(blob, 0o644)
        blob.write_bytes(OTHER["model.safetensors"])
        with pytest.raises(
            WeightsDamaged, match=rf"model\.safetensors is damaged: sha256 \w+, the hub lists {blob.name}"
        ):
            files_sha256(weights(commit).find("mine"), tuple(FILES))
        weights(commit).fetch()
        assert files_sha256(folder, tuple(FILES)) == good

    def test_a_hub_that_is_not_there(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        for revision in (COMMIT, None):
            with pytest.raises(HubUnreachable, match=f"{REPO} on http://127.0.0.1:9 cannot be reached: ") as caught:
                weights(revision).fetch()
            assert is_one_line(caught.value)

    def test_a_hub_that_lacks_something(self, hub: Hub) -> None:
        with pytest.raises(HubError, match=f"has no revision '{COMMIT}'"):
            weights().fetch()
        commit = published(hub, {"config.json": b"{}"})
        with pytest.raises(HubError, match=r"has no model\.safetensors") as caught:
            weights(commit).fetch()
        assert is_one_line(caught.value)
        del hub.repositories[REPO]
        with pytest.raises(UserError, match=f"no repository {REPO}"):
            weights(commit).fetch()
        with pytest.raises(WeightsMissing):
            weights(commit).find("mine")


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    first = files_sha256(write(tmp_path / "a"), tuple(FILES))
    assert files_sha256(Path(shutil.copytree(tmp_path / "a", tmp_path / "b")), tuple(FILES)) == first
    assert files_sha256(write(tmp_path / "c", OTHER), tuple(FILES)) != first
    assert files_sha256(tmp_path / "a", tuple(reversed(FILES))) != first
