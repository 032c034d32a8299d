"""Many files: what becomes of what, batches of equal length, reading ahead, failures by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.tokens.file_jobs import FileJobs, Job, JobError, Work, ahead, batches, plan_jobs
from q2d2.errors import UserError


def work(name: str, seconds: float, group: int | None) -> Work:
    return Work(Job(Path(name), Path("out") / name), seconds, group)


class Ears:
    """Notes what a progress bar would show."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.files = 0
        self.failures: list[str] = []

    def start(self, seconds: float, files: int) -> None:
        self.total = (seconds, files)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def finish_file(self) -> None:
        self.files += 1

    def fail(self, reason: str) -> None:
        self.failures.append(reason)


class Copying:
    """Writes names; those that begin with what a step dislikes fail there."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def plan(self, job: Job) -> Work | None:
        self.refuse("plan", job)
        return None if job.source.name.startswith("done") else Work(job, 1.0, len(job.source.name))

    def read(self, work: Work) -> str:
        self.refuse("read", work.job)
        return work.job.source.name

    def do(self, works: Sequence[Work], contents: Sequence[str], advance: Callable[[float], None]) -> None:
        self.refuse("do", works[0].job)
        self.together.append(len(works))
        for one, content in zip(works, contents, strict=True):
            one.job.target.write_text(content)
            advance(one.seconds)

    def refuse(self, step: str, job: Job) -> None:
        if job.source.name.startswith(step):
            raise UserError(f"{job.source.name}: fails in {step}")


class TestPlan:
    def test_a_folder_keeps_its_tree_and_files_their_names(self, tmp_path: Path) -> None:
        for name in ("a/b/x.1.wav", "a/y.wav", "z.wav"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        jobs = plan_jobs([tmp_path / "a", tmp_path / "z.wav"], Path("out"), ".npz", find, "audio")
        assert {str(job.target) for job in jobs} == {"out/b/x.1.npz", "out/y.npz", "out/z.npz"}

    def test_two_files_never_become_one(self, tmp_path: Path) -> None:
        for name in ("a/x.wav", "b/x.flac"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(JobError, match=r"a/x\.wav and .*b/x\.flac would both become out/x\.npz"):
            plan_jobs([tmp_path / "a", tmp_path / "b/x.flac"], Path("out"), ".npz", find, "audio")
        # The same file twice is no collision.
        assert len(plan_jobs([tmp_path / "a", tmp_path / "a/x.wav"], Path("out"), ".npz", find, "audio")) == 1

    def test_what_lies_in_the_output_is_no_input(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x.wav").touch()
        with pytest.raises(JobError, match="no audio in this folder"):
            plan_jobs([tmp_path], tmp_path / "out", ".npz", find, "audio")
        with pytest.raises(JobError, match=r"gone\.wav: no such file or folder"):
            plan_jobs([tmp_path / "gone.wav"], tmp_path / "out", ".npz", find, "audio")


@given(
    works=st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=30),
    seconds=st.floats(0, 20),
)
def test_batches_hold_equal_lengths_within_the_budget(works: list[tuple[int, bool]], seconds: float) -> None:
    given_works = [work(str(n), length, None if alone else length) for n, (length, alone) in enumerate(works)]
    found = list(batches(given_works, seconds))
    assert sorted(w.job.source for batch in found for w in batch) == sorted(w.job.source for w in given_works)
    for batch in found:
        assert len({w.group for w in batch}) == 1
        assert len(batch) == 1 or (batch[0].group is not None and sum(w.seconds for w in batch) <= seconds)
    # No two batches could have been one.
    for length in range(1, 6):
        sizes = [len(batch) for batch in found if batch[0].group == length]
        assert all(size == max(1, int(seconds / length)) for size in sizes[:-1])


class TestAhead:
    def test_the_next_item_is_computed_while_one_is_in_use(self) -> None:
        reached = threading.Event()

        def items() -> Iterator[int]:
            yield 1
            reached.set()
            yield 2

        found = ahead(items())
        assert next(found) == 1
        assert reached.wait(10)
        assert list(found) == [2]

    def test_an_error_comes_in_its_place(self) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise KeyError("two")

        found = ahead(items())
        assert next(found) == 1
        with pytest.raises(KeyError, match="two"):
            next(found)
        assert list(ahead([])) == []


class TestRun:
    def test_what_fails_is_named_and_the_others_go_on(self, tmp_path: Path) -> None:
        names = ["a1", "plan1", "read1", "do1", "done1", "b1", "c22"]
        worker, ears = Copying(), Ears()
        jobs = [Job(Path(name), tmp_path / "new" / name) for name in names]
        summary = FileJobs(worker, 0.0, ears).run(jobs)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a1", "b1", "c22"]
        assert summary.failures == ears.failures
        assert sorted(ears.failures) == ["do1: fails in do", "plan1: fails in plan", "read1: fails in read"]
        assert (summary.done, summary.skipped, summary.audio_seconds) == (3, 1, 3.0)
        assert (ears.seconds, ears.files, ears.total) == (3.0, 3, (5.0, 5))

    def test_equal_lengths_go_together(self, tmp_path: Path) -> None:
        worker = Copying()
        jobs = [Job(Path(name), tmp_path / name) for name in ("a1", "b1", "c1", "d22", "read1")]
        assert FileJobs(worker, 2.0, Ears()).run(jobs).done == 4
        assert sorted(worker.together) == [1, 1, 2]

    def test_too_little_memory_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fill(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        monkeypatch.setattr(Copying, "do", fill)
        with pytest.raises(JobError, match="for 1 s of audio at once: lower --batch-seconds"):
            FileJobs(Copying(), 0.0, Ears()).run([Job(Path("a"), tmp_path / "a")])


def find(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())
