"""A run's folder survives kills, full disks and second runs, and gives back exactly what was put in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evalkit.run.frames import read_parquet, write_parquet
from evalkit.run.store import RunStore, StoreError, UtteranceRecord
from evalkit.scoring.pair import Score
from tests.obstacles import full_disk, held


def record(utterance: str = "u1", value: float | None = 0.1 + 0.2, detail: str = "", key: str = "k") -> UtteranceRecord:
    scores = (
        Score("stoi", value, "ok" if value is not None else "failed", detail, 0.5, "pystoi 1"),
        Score("pesq", 4.5, "ok", "", 1.0, "pesq 2"),
    )
    codes = np.random.default_rng(0).integers(0, 4096, (2, 300))
    return UtteranceRecord("vq", key, utterance, scores, codes)


def same(one: UtteranceRecord | None, other: UtteranceRecord) -> bool:
    return one is not None and json.dumps(one.to_json()) == json.dumps(other.to_json())


class TestRecords:
    def test_come_back_equal(self, tmp_path: Path) -> None:
        odd = record("ü/\u2028x", None, 'line\nbreak "quoted" \u2028 \x85')
        with RunStore(tmp_path) as store:
            store.append(record())
            store.append(odd)
            assert same(store.record("vq", "k", "u1"), record())
        with RunStore(tmp_path) as store:
            back = store.record("vq", "k", "u1")
            assert back is not None
            assert back.codes is not None
            assert back.codes.dtype == np.int64
            assert same(back, record())
            assert back.scores[0].value == 0.1 + 0.2
            assert same(store.record("vq", "k", odd.utterance), odd)

    def test_without_codes(self, tmp_path: Path) -> None:
        bare = UtteranceRecord("ground-truth", "k", "u1", record().scores, None)
        with RunStore(tmp_path) as store:
            store.append(bare)
        with RunStore(tmp_path) as store:
            assert same(store.record("ground-truth", "k", "u1"), bare)

    def test_of_another_key_are_not_reused(self, tmp_path: Path) -> None:
        with RunStore(tmp_path) as store:
            store.append(record(key="old"))
            assert store.record("vq", "new", "u1") is None
            assert store.record("fsq", "old", "u1") is None

    def test_the_last_one_counts(self, tmp_path: Path) -> None:
        with RunStore(tmp_path) as store:
            store.append(record(value=None, detail="no speech"))
            store.append(record())
        with RunStore(tmp_path) as store:
            assert same(store.record("vq", "k", "u1"), record())

    def test_numbers_are_those_of_the_versions_asked_for(self) -> None:
        asked = {"stoi": "pystoi 1", "pesq": "pesq 2", "utmos": "3"}
        assert set(record().numbers(asked)) == {"stoi", "pesq"}
        assert set(record(value=None).numbers(asked)) == {"pesq"}
        assert set(record().numbers(asked | {"pesq": "pesq 3"})) == {"stoi"}
        assert record().numbers({}) == {}

    def test_speed(self, tmp_path: Path) -> None:
        with RunStore(tmp_path) as store:
            store.append_speed("vq", "k", {"rtf_encode": 0.1})
        with RunStore(tmp_path) as store:
            assert store.speed("vq", "k") == {"rtf_encode": 0.1}
            assert store.speed("vq", "other") is None


class TestDamage:
    def test_torn_last_line_costs_that_line_only(self, tmp_path: Path) -> None:
        with RunStore(tmp_path) as store:
            store.append(record("u1"))
            store.append(record("u2"))
        journal = tmp_path / "journal.jsonl"
        whole = journal.read_bytes()
        last = whole.rstrip(b"\n").rfind(b"\n") + 1
        for cut in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
            journal.write_bytes(whole[:cut])
            with RunStore(tmp_path) as store:
                assert same(store.record("vq", "k", "u1"), record("u1"))
                assert store.record("vq", "k", "u2") is None
                store.append(record("u2"))
            assert journal.read_bytes() == whole

    @pytest.mark.parametrize("left", [b"", b'{"schema'])
    def test_kill_within_the_first_line(self, tmp_path: Path, left: bytes) -> None:
        (tmp_path / "journal.jsonl").write_bytes(left)
        for _ in range(2):
            with RunStore(tmp_path) as store:
                store.append(record())
        with RunStore(tmp_path) as store:
            assert same(store.record("vq", "k", "u1"), record())

    @pytest.mark.parametrize(
        "line", ["{", "[]", '{"utterance_record": {}}', '{"utterance_record": 3}', "\x00" * 9, "[" * 9999]
    )
    def test_damaged_line_is_left_out_once(self, tmp_path: Path, line: str) -> None:
        with RunStore(tmp_path) as store:
            store.append(record())
        journal = tmp_path / "journal.jsonl"
        whole = journal.read_bytes()
        with journal.open("a") as file:
            file.write(line + "\n")
        os.utime(journal, (7, 7))
        with RunStore(tmp_path) as store:
            assert store.damage == f"{journal}: 1 line was damaged on the disk; what is missing is scored again"
            assert same(store.record("vq", "k", "u1"), record())
        assert journal.read_bytes() == whole
        assert journal.stat().st_mtime == 7
        with RunStore(tmp_path) as store:
            assert store.damage == ""

    def test_no_flipped_bit_changes_a_record(self, tmp_path: Path) -> None:
        written = {name: record(name) for name in ("u1", "u2", "u3")}
        with RunStore(tmp_path) as store:
            for each in written.values():
                store.append(each)
            store.append_speed("vq", "k", {"rtf_encode": 0.1})
        journal = tmp_path / "journal.jsonl"
        whole = journal.read_bytes()
        places = np.random.default_rng(0).integers(0, 8 * len(whole), 150)
        for place in [*places.tolist(), *range(8 * 40)]:  # the first line as well
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            journal.write_bytes(damaged)
            with RunStore(tmp_path) as store:
                found = {name: store.record("vq", "k", name) for name in written}
                assert sum(each is None for each in found.values()) <= 2, "two where their lines were joined"
                assert all(each is None or same(each, written[name]) for name, each in found.items())
                assert store.speed("vq", "k") in (None, {"rtf_encode": 0.1})
                assert len(store._records) + sum(each is None for each in found.values()) == 3

    def test_journal_of_an_earlier_version_is_read_and_continued(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal.jsonl"
        old = [{"schema_version": 2}, {"utterance_record": record("u1").to_json()}]
        journal.write_text("".join(json.dumps(entry) + "\n" for entry in old))
        with RunStore(tmp_path) as store:
            assert same(store.record("vq", "k", "u1"), record("u1"))
            store.append(record("u2"))
        with journal.open("a") as file:  # what no version writes: a digest was lost
            file.write(json.dumps({"utterance_record": record("u3").to_json()}) + "\n")
        with RunStore(tmp_path) as store:
            assert store.damaged == 1
            assert [store.record("vq", "k", name) is not None for name in ("u1", "u2", "u3")] == [True, True, False]

    def test_damaged_page_of_a_frame_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "frame.parquet"
        write_parquet(pd.DataFrame({"value": np.random.default_rng(0).normal(size=1000)}), path)
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        with pytest.raises(OSError, match="could not verify page integrity"):
            read_parquet(path)

    def test_another_schema_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "journal.jsonl").write_text('{"schema_version": 99}\n')
        with pytest.raises(StoreError, match="schema version 99, this version reads 2; move that file away"):
            RunStore(tmp_path)

    def test_full_disk_loses_only_the_record_in_hand(self, tmp_path: Path) -> None:
        kept = 0

        def fill() -> None:
            nonlocal kept
            with RunStore(tmp_path) as store:
                while True:
                    store.append(record(f"u{kept}"))
                    kept += 1

        with full_disk(20_000), pytest.raises(OSError, match=r"File too large.*journal\.jsonl"):
            fill()
        assert kept > 3
        with RunStore(tmp_path) as store:
            assert all(same(store.record("vq", "k", f"u{number}"), record(f"u{number}")) for number in range(kept))
            assert store.record("vq", "k", f"u{kept}") is None
            store.append(record(f"u{kept}"))
        with RunStore(tmp_path) as store:
            assert same(store.record("vq", "k", f"u{kept}"), record(f"u{kept}"))


@pytest.mark.parametrize("name", [".lock", "journal.jsonl"])
def test_planted_link_is_refused(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(victim)
    with pytest.raises(OSError, match=f"symbolic link.*{name}"):
        RunStore(tmp_path / "run")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["run.json", "utterances.parquet"])
def test_planted_link_is_replaced(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(victim)
    with RunStore(tmp_path / "run") as store:
        store.write_run({"seed": 1})
        store.write_frame(pd.DataFrame({"value": [1.0]}), "utterances")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "run" / name).is_symlink()


class TestLock:
    def test_folder_in_use_is_refused_at_once_and_free_afterwards(self, tmp_path: Path) -> None:
        with held(tmp_path), pytest.raises(StoreError, match=r"in use by another run.*--out"):
            RunStore(tmp_path)
        with RunStore(tmp_path):
            pass

    def test_forked_children_do_not_hold_it(self, tmp_path: Path) -> None:
        """Processes that read audio ahead outlive a killed run by seconds."""
        code = (
            "import os, pathlib, sys, time\n"
            "from evalkit.run.store import RunStore\n"
            "store = RunStore(pathlib.Path(sys.argv[1]))\n"
            "child = os.fork()\n"
            "if child: print(child, flush=True); os._exit(0)\n"
            "time.sleep(30)\n"
        )
        killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        killed.wait()
        try:
            with RunStore(tmp_path):
                pass
        finally:
            subprocess.run(["kill", "-9", str(child)], check=True)
            killed.stdout.close()

    def test_folder_below_a_file_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(NotADirectoryError):
            RunStore(tmp_path / "file" / "run")


def test_rows_that_change_without_a_new_record_are_of_now(tmp_path: Path) -> None:
    def told() -> tuple[str, int]:
        values = json.loads((tmp_path / "run.json").read_text())
        return values["finished"][:4], values["seed"]

    with RunStore(tmp_path) as store:
        os.utime(tmp_path / "journal.jsonl", (0, 0))
        store.write_run({"seed": 7})
        for _ in range(2):
            store.write_frame(pd.DataFrame({"value": [1.0]}), "utterances")
            assert told() == ("1970", 7), "the same rows are as old as they were"
        store.write_frame(pd.DataFrame({"value": [2.0]}), "utterances")
        year, seed = told()
        assert (year != "1970", seed) == (True, 7)


def test_frames_and_description_are_replaced_whole(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        for value in (1, 2):
            path = store.write_frame(pd.DataFrame({"sizes": [[value, 3], None]}), "systems")
            store.write_run({"seed": value, "text": "ü"})
    assert pd.read_parquet(path)["sizes"].iloc[0].tolist() == [2, 3]
    written = json.loads((tmp_path / "run.json").read_text())
    last = datetime.fromisoformat(written.pop("finished")).timestamp()
    assert last == int((tmp_path / "journal.jsonl").stat().st_mtime)
    assert written == {"schema_version": 2, "seed": 2, "text": "ü"}
    assert not list(tmp_path.glob(".*.part"))
