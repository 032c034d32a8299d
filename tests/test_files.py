"""Files are written whole or not at all, follow no link, and errors name them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from q2d2.files import open_own, remove_leftovers, whole, write_atomically

KILLED = (
    "import os, signal, sys; from pathlib import Path; from q2d2.files import whole\n"
    "with whole(Path(sys.argv[1])) as part:\n"
    "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old\r\n")

    def fail(part: Path) -> None:
        part.write_text("new")
        raise KeyError

    with pytest.raises(KeyError), whole(path) as part:
        fail(part)
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_bytes() == b"old\r\n"


def test_two_writers_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with whole(path) as one, whole(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert one != other
    assert path.read_text() == "one"


def test_a_link_is_replaced_and_its_target_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file").symlink_to("victim")
    write_atomically(tmp_path / "file", "ours")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "ours"


@pytest.mark.parametrize("mode", ["a", "ab", "w", "wb"])
def test_files_written_bit_by_bit_follow_no_link(tmp_path: Path, mode: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log").symlink_to("victim")
    with pytest.raises(OSError, match="a symbolic link is where a file of ours belongs") as caught:
        open_own(tmp_path / "log", mode)
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(tmp_path / "log"))
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError, match="a folder is where this file belongs") as caught:
        write_atomically(tmp_path / "file", "")
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_none_is_named_by_the_file(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"No such file|Not a directory") as caught:
        write_atomically(tmp_path / folder / "x.txt", "")
    assert caught.value.filename == str(tmp_path / folder / "x.txt")


def test_full_disk_names_the_file(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as writers do, which know no name

    path = tmp_path / "rows.parquet"
    with pytest.raises(OSError, match="No space left") as caught, whole(path) as part:
        fail(part)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="elsewhere") as caught, whole(path):
        raise FileNotFoundError(errno.ENOENT, "elsewhere", "other.wav")
    assert caught.value.filename == "other.wav"


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    os.symlink("nowhere", tmp_path / ".link.0.part")
    with whole(path) as part:
        part.write_text("whole")
        remove_leftovers(tmp_path)
        assert not left.exists()
    assert path.read_text() == "whole"
