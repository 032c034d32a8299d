"""Weights of metrics: absent, fetched, damaged, replaced; against a server on this machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.download import DownloadError, progress_bar
from evalkit.metrics import Unavailable, utmos
from evalkit.weights import (
    WEIGHTS,
    FetchedWeights,
    WeightFile,
    check_weights,
    fetch_weights,
    find_weights,
    list_weights,
    require_weights,
    weight_files,
    weights_folder,
)
from q2d2.registry import UnknownName
from tests.file_server import Server, serving

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
    assert lines[0] == f"utmos        verified: {folder / 'first.pt'} (16,384 bytes)"


def test_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'utmos'"):
        fetch_weights("utmoss")
