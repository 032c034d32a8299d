"""Damaged manifests: named in one line, and never followed to where a damaged number leads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from q2d2.training import columns
from q2d2.training.manifest import AudioFile, Manifest, ManifestError, write_manifest


def some_files(count: int) -> list[AudioFile]:
    return [AudioFile(Path(f"/audio/{number % 7}/{number}.flac"), 8000 + number, 16_000) for number in range(count)]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 16)


def test_what_is_no_manifest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pytest.raises(ManifestError, match=r"x\.arrow: there is no such manifest"):
        Manifest.open(path)
    with pytest.raises(ManifestError, match="directory"):
        Manifest.open(tmp_path)
    for content in (b"", b"ARROW1\0\0", b"path,frames\n" * 100, b"\0" * 5000):
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=r"x\.arrow is no manifest, or is cut off"):
            Manifest.open(path)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = change(pa.ipc.open_file(path.read_bytes()).read_all())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def describe(path: Path, **changes: object) -> None:
    def change(table: pa.Table) -> pa.Table:
        ((key, value),) = table.schema.metadata.items()
        return table.replace_schema_metadata({key: json.dumps(json.loads(value) | changes)})

    rewrite(path, change)


def test_other_arrow_files_versions_and_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    cases: list[tuple[Callable[[], None], str]] = [
        (
            lambda: rewrite(path, lambda table: table.replace_schema_metadata(None)),
            "no manifest: `evalkit data",
        ),
        (lambda: describe(path, version=2), "a manifest of version 2, not 1"),
        (lambda: describe(path, more=2), "description cannot be read"),
        (lambda: rewrite(path, lambda table: table.drop_columns(["end"])), "columns are path binary, frames"),
        (lambda: describe(path, count=2**15), "1 batches cannot be its"),
        (lambda: describe(path, count=0), "1 batches cannot be its"),
    ]
    for damage, words in cases:
        write_manifest(path, some_files(40))
        damage()
        with pytest.raises(ManifestError, match=words) as caught:
            Manifest.open(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    write_manifest(path, some_files(40))
    describe(path, count=41)
    with pytest.raises(ManifestError, match="damaged in its batch 0: 40 rows instead of 41"):
        Manifest.open(path)[0]


@pytest.mark.usefixtures("small_batches")
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_manifest(path, some_files(40))
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ManifestError, match=r"x\.arrow"):
            Manifest.open(path)


@pytest.mark.parametrize("offset", [-1, 10**6])
def test_a_path_that_lies_outside_is_not_followed(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "x.arrow"
    files = [AudioFile(Path(f"/{number:03}.wav"), 8000, 8000) for number in range(10)]
    write_manifest(path, files)
    whole, offsets = path.read_bytes(), np.arange(0, 88, 8, np.int32)
    assert whole.count(offsets.tobytes()) == 1
    damaged = offsets.copy()
    damaged[5] = offset
    path.write_bytes(whole.replace(offsets.tobytes(), damaged.tobytes()))
    manifest = Manifest.open(path)
    assert [manifest[index] for index in (*range(4), *range(6, 10))] == files[:4] + files[6:]
    for index in (4, 5):
        with pytest.raises(ManifestError, match=r"x\.arrow is damaged in its batch 0: no path"):
            manifest[index]


@pytest.mark.usefixtures("small_batches")
def test_a_flipped_byte_is_an_error_or_a_wrong_entry_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_manifest(path, some_files(40))
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            manifest = Manifest.open(path)
            for index in range(len(manifest)):
                assert manifest[index].frames > 0
            for part in range(50):
                manifest.at(part / 50 * manifest.seconds)
        except ManifestError as error:
            refused += str(path) in str(error)
    assert refused > len(whole) / 5 / 4
