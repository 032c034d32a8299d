"""Fetching against a server on this machine: drops, no ranges, wrong files, hostile archives, repeats."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evalkit.datasets import DatasetError, librispeech, load_corpus
from evalkit.datasets import fetch as fetching
from evalkit.datasets.fetch import fetch
from evalkit.datasets.layout import Archive
from evalkit.downloads.transfer import DownloadError, mismatches, progress_bar, verify
from tests.file_server import Server, serving

IDS = ("61-70968-0000", "61-70968-0001", "1089-134686-0000")
FOLDER = "LibriSpeech/test-clean"

Publish = Callable[..., None]


def packed(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def corpus_files() -> dict[str, bytes]:
    rng, files = np.random.default_rng(0), {"LibriSpeech/SPEAKERS.TXT": b"who speaks"}
    for name in IDS:
        clip = io.BytesIO()
        soundfile.write(clip, rng.uniform(-0.5, 0.5, 8000), 16_000, format="FLAC")
        speaker, chapter, _ = name.split("-")
        files[f"{FOLDER}/{speaker}/{chapter}/{name}.flac"] = clip.getvalue()
    return files


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("test-clean.tar.gz") as running:
        yield running


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Publish bytes as LibriSpeech test-clean, with their right size and checksums unless told otherwise."""

    def publish(content: bytes, **changes: object) -> None:
        server.content = content
        facts: dict = {
            "size": len(content),
            "md5": hashlib.md5(content).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        archive = Archive(server.url, FOLDER, len(IDS), **(facts | changes))
        monkeypatch.setitem(librispeech.ARCHIVES, "test-clean", archive)

    return publish


def get(destination: Path, **options: object) -> fetching.Fetched:
    return fetch("librispeech", "test-clean", destination, pause_seconds=0.0, **options)


def leftovers(destination: Path) -> list[str]:
    return sorted(path.relative_to(destination).as_posix() for path in destination.rglob("*") if path.is_file())


def test_fetch_then_load_then_nothing_to_do(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    stages: list[str] = []
    first = get(tmp_path, progress=lambda stage, done, total: stages.append(stage))
    assert not first.already_there
    assert list(dict.fromkeys(stages)) == ["downloading", "checking", "unpacking"]
    corpus = load_corpus("librispeech", "test-clean", first.root)
    assert corpus.coverage == "3 of 3 utterances (complete)"
    assert leftovers(tmp_path) == sorted(corpus_files())

    again = get(tmp_path)
    assert again.already_there
    assert "already there" in str(again)
    assert len(server.requests) == 1


def test_progress_bar_takes_all_stages(publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    with progress_bar() as progress:
        assert not get(tmp_path, progress=progress).already_there


def test_dropped_connection_is_resumed(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    server.drops = 2
    get(tmp_path)
    size = len(server.content)
    half = size // 2
    assert server.requests == [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]


def test_server_without_ranges_is_started_again(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    server.ranges, server.drops = False, 1
    get(tmp_path)
    assert len(server.requests) == 2
    assert load_corpus("librispeech", "test-clean", tmp_path).coverage.endswith("(complete)")


def test_endless_drops_come_to_an_end_and_keep_the_part(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    server.ranges, server.drops = False, 1000
    with pytest.raises(DownloadError, match=r"attempts in a row failed.*\.part"):
        get(tmp_path)
    assert leftovers(tmp_path) == [".fetch/librispeech-test-clean.tar.gz.part"]
    server.ranges, server.drops = True, 0
    get(tmp_path)
    assert server.requests[-1] == f"bytes={len(server.content) // 2}-"


def test_whole_part_left_by_a_kill_is_used(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    (tmp_path / ".fetch").mkdir()
    (tmp_path / ".fetch" / "librispeech-test-clean.tar.gz.part").write_bytes(server.content)
    get(tmp_path)
    assert len(server.requests) == 1  # answered by 416: nothing was sent


def test_part_longer_than_the_file_is_dropped(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    (tmp_path / ".fetch").mkdir()
    (tmp_path / ".fetch" / "librispeech-test-clean.tar.gz.part").write_bytes(b"?" * (len(server.content) + 9))
    assert not get(tmp_path).already_there


def test_refusal_is_not_repeated(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    server.status = 404
    with pytest.raises(DownloadError, match="the server answers 404"):
        get(tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"md5": "0" * 32}, "md5: expected 0{32}, got [0-9a-f]{32}"),
        ({"sha256": "0" * 64}, "sha256: expected 0{64}, got [0-9a-f]{64}"),
        ({"size": 12345}, "length: expected 12,345 bytes, got"),
    ],
)
def test_wrong_file_is_refused_and_deleted(publish: Publish, tmp_path: Path, wrong: dict, message: str) -> None:
    publish(packed(corpus_files()), **wrong)
    with pytest.raises(DownloadError, match=message):
        get(tmp_path)
    assert leftovers(tmp_path) == []
    publish(packed(corpus_files()))
    assert not get(tmp_path).already_there


def hostile(kind: str) -> tuple[dict[str, bytes], list[tarfile.TarInfo]]:
    inner = f"{FOLDER}/link"
    if kind == "parent":
        return {"../escaped.txt": b"x"}, []
    if kind == "deep parent":
        return {f"{FOLDER}/../../../escaped.txt": b"x"}, []
    link = tarfile.TarInfo(inner)
    link.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[kind]
    link.linkname = "../../../.."
    return {}, [link]


@pytest.mark.parametrize("kind", ["parent", "deep parent", "symlink", "hardlink", "device"])
def test_hostile_archive_is_refused(publish: Publish, tmp_path: Path, kind: str) -> None:
    bad, members = hostile(kind)
    publish(packed(corpus_files() | bad, *members))
    destination = tmp_path / "data"
    with pytest.raises(DatasetError, match="unsafe and was not unpacked"):
        get(destination)
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not (destination / "LibriSpeech").exists()


def blocks(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of headers as they are given, whatever they claim."""
    raw = b"".join(member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512) for member, data in members)
    return gzip.compress(raw + bytes(1024))


def claiming(name: str, size: int, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for key, value in more.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: blocks((claiming("bomb", 2**22), bytes(2**22))), "claims far more than it can hold"),
        (lambda: blocks((claiming("a", 7 * 2**30), b"")), "claims far more than it can hold"),
        (lambda: blocks(*[(claiming(f"{n}", 0), b"") for n in range(20)]), "claims too many files"),
        (lambda: blocks((claiming("a", 2**21, tarfile.XHDTYPE), bytes(2**21))), "a header of 2,097,152 bytes"),
        (lambda: blocks((claiming("a", 2**21, tarfile.GNUTYPE_LONGNAME), b"x" * 2**21)), "a header of 2,097,152 bytes"),
        (lambda: blocks((claiming("a", 512, tarfile.GNUTYPE_SPARSE), bytes(512))), "a file with holes"),
        (lambda: blocks((claiming("fifo", 0, tarfile.FIFOTYPE), b"")), "unsafe and was not unpacked"),
        (lambda: lzma.compress(b"text" * 999)[:-20], "cannot be unpacked"),
        (lambda: b"BZh9" + bytes(99), "cannot be unpacked"),
        (lambda: bytes(5000), "cannot be unpacked|holds no folder"),
    ],
)  # fmt: skip
def test_bombs_and_lies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], bytes], reason: str
) -> None:
    monkeypatch.setattr(fetching, "_SPARE_BYTES", 2**20)
    monkeypatch.setattr(fetching, "_SPARE_MEMBERS", 9)
    (tmp_path / "x.tar.gz").write_bytes(content())
    with pytest.raises(DatasetError, match=reason) as caught:
        fetching.unpack(tmp_path / "x.tar.gz", tmp_path / "scratch", tmp_path / "data", FOLDER)
    assert "x.tar.gz" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == ["x.tar.gz"]


def test_absolute_member_stays_inside(publish: Publish, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    publish(packed(corpus_files() | {str(outside): b"x"}))
    get(tmp_path / "data")
    assert not outside.exists()


def test_damaged_archive_leaves_nothing_unpacked(publish: Publish, tmp_path: Path) -> None:
    whole = packed(corpus_files())
    publish(whole[: len(whole) // 2])  # its checksum is right: cut before it was published
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        get(tmp_path)
    assert leftovers(tmp_path) == [".fetch/librispeech-test-clean.tar.gz"]


def test_interrupted_unpacking_starts_clean(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(packed(corpus_files()))
    scratch = tmp_path / ".fetch" / "librispeech-test-clean.unpacking"
    (scratch / FOLDER).mkdir(parents=True)
    (scratch / FOLDER / "half-written.flac").write_bytes(b"of a run that was killed")
    get(tmp_path)
    assert leftovers(tmp_path) == sorted(corpus_files())


def test_incomplete_folder_in_the_way(publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()))
    mine = tmp_path / FOLDER / "61" / "70968" / "61-70968-0000.flac"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DatasetError, match="with 1 of 3 utterances"):
        get(tmp_path)
    assert mine.read_bytes() == b"mine"


def test_full_disk_is_noticed_before_the_download(server: Server, publish: Publish, tmp_path: Path) -> None:
    publish(packed(corpus_files()), size=10**18)
    with pytest.raises(DatasetError, match="GB free"):
        get(tmp_path)
    assert not server.requests


def test_datasets_and_parts_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing to fetch"):
        fetch("folder", None, tmp_path)
    with pytest.raises(DatasetError, match="which part"):
        fetch("librispeech", None, tmp_path)
    with pytest.raises(DatasetError, match="Did you mean 'test-clean'"):
        fetch("librispeech", "test-claen", tmp_path)
    with pytest.raises(ValueError, match="needs a checksum"):
        Archive("https://example.org/x.tar.gz", "x", 1, 1)


def test_length_may_be_unknown_but_the_digest_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"as published")
    right = {"sha256": hashlib.sha256(b"as published").hexdigest()}
    assert mismatches(file, None, right) == []
    assert mismatches(file, 12, right) == []
    assert mismatches(file, 13, right) == ["length: expected 13 bytes, got 12"]
    with pytest.raises(DownloadError, match=f"sha256: expected {'0' * 64}, got {right['sha256']}"):
        verify(file, None, {"sha256": "0" * 64})
    assert not file.exists()
