"""Weights of metrics and whole codecs: absent, fetched, damaged, replaced; against servers on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from baselines.codecs.mimi import Mimi
from baselines.codecs.weights import HubWeights, WeightsMissing
from evalkit.doctor.weights import FetchedWeights, WeightsError, WeightsRow, fetch_weights, list_weights
from evalkit.downloads.transfer import DownloadError, progress_bar
from evalkit.metrics import Unavailable, utmos
from evalkit.metrics.weights import (
    WEIGHTS,
    WeightFile,
    check_weights,
    find_weights,
    require_weights,
    weight_files,
    weights_folder,
)
from q2d2.hub import HubUnreachable
from q2d2.registry import UnknownName
from tests.command import evalkit
from tests.file_server import Server, serving
from tests.hub_server import Hub, Repository, hub_of_this_test

CONTENT = bytes(range(256)) * 64
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"the same weights, differently named"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("first.pt") as running:
        running.content = CONTENT
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def first(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """UTMOS accepts the served file, and another one whose length is not known."""
    file = WeightFile("first.pt", server.url, len(CONTENT), DIGEST, "made here")
    other = WeightFile("second.pt", "http://127.0.0.1:9/", None, hashlib.sha256(OTHER).hexdigest(), "made here")
    monkeypatch.setattr(utmos, "WEIGHT_FILES", (file, other))
    return file


def fetch() -> FetchedWeights:
    return fetch_weights("utmos", pause_seconds=0.0)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_folder_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("EVALKIT_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert weights_folder() == tmp_path / ".cache" / "evalkit" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "evalkit" / "weights"
    monkeypatch.setenv("EVALKIT_WEIGHTS", "~/mine")
    assert weights_folder() == tmp_path / "mine"


def test_published_facts_are_complete() -> None:
    """A digest with a digit lost would reject a good download after a long wait."""
    for name in WEIGHTS.names():
        files = weight_files(name)
        assert files
        assert len({file.file_name for file in files}) == len(files)
        for file in files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.url.startswith("https://")
            assert "/main/" not in file.url  # a branch moves
            assert file.source


def test_absent_weights_name_every_way(first: WeightFile, folder: Path) -> None:
    assert find_weights("utmos") is None
    with pytest.raises(Unavailable) as caught:
        require_weights("utmos")
    for fact in ("evalkit weights fetch utmos", first.url, "16,384 bytes", DIGEST, str(folder / "first.pt")):
        assert fact in str(caught.value)
    assert str(folder / "second.pt") in str(caught.value)


def test_fetch_then_nothing_to_do(first: WeightFile, folder: Path, server: Server) -> None:
    with progress_bar() as progress:
        fetched = fetch_weights("utmos", progress)
    assert not fetched.already_there
    assert fetched.path.read_bytes() == CONTENT
    assert names(folder) == ["first.pt"]
    assert require_weights("utmos") == (folder / "first.pt", first)
    assert fetch().already_there
    assert len(server.requests) == 1


def test_dropped_connection_is_resumed(first: WeightFile, folder: Path, server: Server) -> None:
    server.drops = 1
    fetch()
    assert server.requests == [None, f"bytes={len(CONTENT) // 2}-"]
    assert (folder / "first.pt").read_bytes() == CONTENT


def test_broken_off_download_is_not_taken_for_weights(first: WeightFile, folder: Path, server: Server) -> None:
    server.ranges, server.drops = False, 1000
    with pytest.raises(DownloadError, match="attempts in a row failed"):
        fetch()
    assert find_weights("utmos") is None
    server.ranges, server.drops = True, 0
    fetch()
    assert server.requests[-1] == f"bytes={len(CONTENT) // 2}-"
    assert names(folder) == ["first.pt"]


def test_wrong_file_is_refused_and_deleted(first: WeightFile, folder: Path, server: Server) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match=f"expected {DIGEST}, got {hashlib.sha256(CONTENT[::-1]).hexdigest()}"):
        fetch()
    assert names(folder) == [".fetch"]
    server.content = CONTENT[1:]
    with pytest.raises(DownloadError, match="length: expected 16,384 bytes, got 16,383"):
        fetch()
    server.content = CONTENT
    assert not fetch().already_there


def test_download_finished_before_a_kill_is_verified_and_used(first: WeightFile, folder: Path, server: Server) -> None:
    (folder / ".fetch").mkdir(parents=True)
    (folder / ".fetch" / "first.pt").write_bytes(CONTENT)
    fetch()
    assert not server.requests
    assert names(folder) == ["first.pt"]


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_damaged_file_is_replaced_by_the_published_one(first: WeightFile, folder: Path, damaged: bytes) -> None:
    folder.mkdir()
    (folder / "first.pt").write_bytes(damaged)
    assert not fetch().already_there
    assert (folder / "first.pt").read_bytes() == CONTENT


def test_damaged_file_stays_where_the_download_fails(first: WeightFile, folder: Path, server: Server) -> None:
    folder.mkdir()
    (folder / "first.pt").write_bytes(b"mine")
    server.status = 404
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch()
    assert (folder / "first.pt").read_bytes() == b"mine"


def test_any_accepted_file_will_do(first: WeightFile, folder: Path, server: Server) -> None:
    folder.mkdir()
    (folder / "second.pt").write_bytes(OTHER)
    fetched = fetch()
    assert fetched.already_there
    assert fetched.path == folder / "second.pt"
    assert require_weights("utmos")[0] == folder / "second.pt"
    assert not server.requests


def test_another_length_is_noticed_without_reading(first: WeightFile, folder: Path) -> None:
    folder.mkdir()
    (folder / "first.pt").write_bytes(CONTENT[:100])
    with pytest.raises(Unavailable, match=r"expected 16,384 bytes, got 100\. .*evalkit weights fetch utmos"):
        require_weights("utmos")


def test_another_content_is_noticed_by_reading_and_not_deleted(first: WeightFile, folder: Path) -> None:
    folder.mkdir()
    (folder / "first.pt").write_bytes(CONTENT[::-1])
    path, file = require_weights("utmos")
    with pytest.raises(Unavailable, match=f"expected {DIGEST}, got [0-9a-f]{{64}}. .*evalkit weights fetch utmos"):
        check_weights("utmos", path, file)
    assert path.exists()


def test_list_says_what_is_there(first: WeightFile, folder: Path) -> None:
    def states() -> list[str]:
        return [row.state for row in list_weights() if row.name == "utmos"]

    assert states() == ["absent", "absent"]
    fetch()
    (folder / "second.pt").write_bytes(CONTENT)
    assert states() == ["verified", "present, not the published file"]
    lines = [str(row) for row in list_weights() if row.name == "utmos"]
    assert lines[0] == f"utmos           verified: {folder / 'first.pt'} (16,384 bytes); {first.url}"
    assert lines[1].endswith("; evalkit weights fetch utmos")


def test_list_can_leave_files_unread(first: WeightFile, folder: Path) -> None:
    folder.mkdir()
    (folder / "first.pt").write_bytes(CONTENT[::-1])
    (folder / "second.pt").write_bytes(OTHER)
    assert [row.state for row in list_weights(verify=False) if row.name == "utmos"] == ["present", "present"]
    (folder / "first.pt").write_bytes(CONTENT[:-1])
    assert list_weights(verify=False)[0].state == "present, not the published file"


def test_unknown_names_are_answered_with_close_ones_of_both_kinds() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'utmos'"):
        fetch_weights("utmoss")
    with pytest.raises(UnknownName, match=r"Did you mean 'mimi'.* Known: utmos, encodec, ") as caught:
        fetch_weights("mimii")
    assert "opus" not in str(caught.value)


@pytest.mark.parametrize("name", ["pesq", "opus"])
def test_what_needs_no_weights_says_so(name: str) -> None:
    with pytest.raises(WeightsError, match=f"{name}: there is nothing to fetch"):
        fetch_weights(name)
    assert name not in {row.name for row in list_weights()}


REPO = "me/codec"
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256))}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Mimi's weights are two small files on this hub, at the commit of `Mimi.weights`."""
    with hub_of_this_test(tmp_path, monkeypatch) as running:
        running.repositories[REPO] = Repository(private=False)
        commit = running.repositories[REPO].commit("main", FILES)
        monkeypatch.setattr(Mimi, "weights", HubWeights(REPO, commit, tuple(FILES), "made here, MIT"))
        yield running


def commit_of_mimi() -> str:
    assert isinstance(Mimi.weights, HubWeights)
    assert Mimi.weights.revision is not None
    return Mimi.weights.revision


def row_of(name: str, root: Path | None = None) -> WeightsRow:
    (row,) = [row for row in list_weights(root=root) if row.name == name]
    return row


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class TestCodecs:
    def test_fetch_then_nothing_to_do(self, hub: Hub) -> None:
        fetched = fetch_weights("mimi")
        assert {name: (fetched.path / name).read_bytes() for name in FILES} == FILES
        assert str(fetched) == f"mimi weights are ready: {fetched.path} (commit {commit_of_mimi()}; made here, MIT)"
        hub.requests.clear()
        again = fetch_weights("mimi")
        assert again.already_there
        assert str(again).startswith(f"mimi weights are already there: {fetched.path} (commit ")
        assert hub.requests == []

    def test_a_damaged_file_is_replaced_and_not_said_to_have_been_there(self, hub: Hub) -> None:
        blob = (fetch_weights("mimi").path / "model.safetensors").resolve()
        os.chmod(blob, 0o644)
        blob.write_bytes(bytes(256))
        assert not fetch_weights("mimi").already_there
        assert blob.read_bytes() == FILES["model.safetensors"]

    def test_list(self, hub: Hub) -> None:
        absent = row_of("mimi")
        assert not absent.there
        assert str(absent) == (
            f"mimi            absent: config.json, model.safetensors of {REPO} at {commit_of_mimi()}; "
            "evalkit weights fetch mimi"
        )
        folder = fetch_weights("mimi").path
        assert row_of("mimi").there
        assert str(row_of("mimi")) == (
            f"mimi            present, commit {folder.name}: {folder} (258 bytes); config.json, model.safetensors of "
            f"{REPO} at {commit_of_mimi()}"
        )

    def test_an_unpinned_revision_says_so(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = commit_of_mimi()
        monkeypatch.setattr(Mimi, "weights", HubWeights(REPO, None, tuple(FILES), "made here"))
        assert row_of("mimi").origin.endswith(f"{REPO} at main, not pinned")
        assert fetch_weights("mimi").version == f"commit {commit}"
        assert row_of("mimi").state == f"present, commit {commit}"

    def test_a_root_of_one_s_own(self, hub: Hub, tmp_path: Path) -> None:
        root = tmp_path / "root"
        assert root in fetch_weights("mimi", root=root).path.parents
        assert row_of("mimi", root).there
        assert not row_of("mimi").there
        own = write(root / "mimi")
        hub.requests.clear()
        fetched = fetch_weights("mimi", root=root)
        assert fetched.already_there
        assert (fetched.path, hub.requests) == (own, [])
        assert "your own folder, not compared" in str(fetched)
        assert row_of("mimi", root).state == "present, your own folder"

    def test_half_a_folder_is_neither_used_nor_passed_over(self, hub: Hub, tmp_path: Path) -> None:
        write(tmp_path / "root" / "mimi", {"config.json": b"{}"})
        row = row_of("mimi", tmp_path / "root")
        assert (row.state, row.there) == ("incomplete", False)
        assert "lacks model.safetensors of me/codec" in row.origin
        with pytest.raises(WeightsMissing, match=r"mimi lacks model\.safetensors"):
            fetch_weights("mimi", root=tmp_path / "root")
        assert not [request for request in hub.requests if "resolve" in request]

    def test_files_of_one_s_own_may_be_called_otherwise(self, tmp_path: Path) -> None:
        write(tmp_path / "wavtokenizer-75", {"mine.ckpt": b"12345"})
        row = row_of("wavtokenizer-75", tmp_path)
        assert (row.state, row.size) == ("present, your own folder", 5)
        assert fetch_weights("wavtokenizer-75", root=tmp_path).already_there

    def test_weights_on_no_hub_are_put_there_by_hand(self, tmp_path: Path) -> None:
        row = row_of("q2d2-3k")
        assert row.state == "absent"
        assert row.way.startswith("put *.ckpt of https://")
        with pytest.raises(WeightsMissing, match="q2d2-3k: these weights cannot be fetched"):
            fetch_weights("q2d2-3k")
        write(tmp_path / "q2d2-3k", {"mine.ckpt": b"12345"})
        assert row_of("q2d2-3k", tmp_path).there

    def test_a_class_of_one_s_own(self, hub: Hub) -> None:
        assert fetch_weights("baselines.codecs.mimi:Mimi", trust_code=True).path.name == commit_of_mimi()

    def test_a_package_that_is_not_installed(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        for module in ("mimi", "pretrained"):
            monkeypatch.delitem(sys.modules, f"baselines.codecs.{module}")
        row = row_of("mimi")
        assert str(row) == (
            "mimi            not usable: the package transformers is not installed; "
            "pip install 'codec-bottlenecks[codecs]'"
        )
        assert "pip install 'codec-bottlenecks[codecs]'" in evalkit("weights", "fetch", "mimi").complaint
        assert row_of("bigcodec").state == "absent"

    def test_a_hub_that_is_not_there_and_roots_that_do_not_fit(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(WeightsError, match="file is a file"):
            fetch_weights("mimi", root=tmp_path / "file")
        with pytest.raises(WeightsError, match="nowhere: no such folder"):
            list_weights(root=tmp_path / "nowhere")
        with pytest.raises(WeightsError, match="EVALKIT_WEIGHTS"):
            fetch_weights("utmos", root=tmp_path)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubUnreachable, match="cannot be reached"):
            fetch_weights("mimi")

    def test_from_the_command_line(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        shown = evalkit("weights", "fetch", "mimi", "--weights-root=~/root")
        assert shown.out.startswith(f"mimi weights are ready: {tmp_path}/root/models--me--codec/snapshots/")
        listed = evalkit("weights", "list", "--weights-root", tmp_path / "root").out.splitlines()
        assert [line for line in listed if line.startswith("mimi            present, commit ")]
        assert [line for line in listed if line.startswith("utmos           absent: ")]
        assert "Did you mean 'mimi'" in evalkit("weights", "fetch", "mimy").complaint
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
        assert "cannot be reached" in evalkit("weights", "fetch", "mimi").complaint

    def test_a_bar_of_ours_only_for_our_own_downloads(self, first: WeightFile, folder: Path, hub: Hub) -> None:
        """The hub's library draws one of its own, which a second one on the terminal would break."""
        assert "downloading" in evalkit("weights", "fetch", "utmos").out
        assert evalkit("weights", "fetch", "mimi").out.splitlines()[0].startswith("mimi weights are ready")
