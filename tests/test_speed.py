"""Real-time factors under a clock the test moves by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.speed import Rtf, _cpu_model, hardware_fingerprint, measure_rtf


class Clock:
    """Seconds that pass only when told to; keeps what was called."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        self.calls.append("clock")
        return self.now

    def work(self, name: str, *durations: float) -> Callable[[], None]:
        remaining = list(durations)

        def call() -> None:
            self.calls.append(name)
            self.now += remaining.pop(0)

        return call


def test_medians_per_second_of_audio_without_the_warm_up() -> None:
    clock = Clock()
    encode = clock.work("encode", 50.0, 1.0, 9.0, 2.0)  # first call: warm-up
    decode = clock.work("decode", 70.0, 4.0, 3.0, 30.0)
    rtf = measure_rtf(encode, decode, 4.0, repeats=3, warmup=1, clock=clock)
    assert (rtf.encode, rtf.decode) == (0.5, 1.0)
    assert rtf.encode_seconds == (1.0, 9.0, 2.0)
    assert rtf.decode_seconds == (4.0, 3.0, 30.0)
    assert rtf.repeats == 3


def test_queued_work_is_waited_for_before_and_after_each_reading() -> None:
    """On a GPU the call returns at once and the time passes in synchronize."""
    clock = Clock()
    queue: list[float] = []

    def synchronize() -> None:
        clock.now += sum(queue)
        queue.clear()

    rtf = measure_rtf(lambda: queue.append(2.0), lambda: queue.append(6.0), 2.0, 3, 2, synchronize, clock=clock)
    assert rtf.encode_seconds == (2.0,) * 3
    assert (rtf.encode, rtf.decode) == (1.0, 3.0)


def test_encode_and_decode_take_turns() -> None:
    clock = Clock()
    measure_rtf(clock.work("encode", 1, 1, 1), clock.work("decode", 1, 1, 1), 1.0, 2, 1, clock=clock)
    assert [call for call in clock.calls if call != "clock"] == ["encode", "decode"] * 3


@pytest.mark.parametrize("wrong", [{"audio_seconds": 0.0}, {"repeats": 0}, {"warmup": -1}, {"batch": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need audio_seconds > 0"):
        measure_rtf(lambda: None, lambda: None, **{"audio_seconds": 1.0, **wrong})  # type: ignore[arg-type]


def test_detail_says_what_the_number_holds_for() -> None:
    hardware = {"cpu": "Some CPU", "cores": 2, "threads": 1, "gpu": "Some GPU", "gpus": 1, "ram_gib": 8.0}
    rtf = Rtf(20.0, (1.0,) * 5, (1.0,) * 5, 1, 4, "cpu", hardware)
    assert rtf.detail == "batch 4 x 5.00 s, median of 5 after 1 warm-up, Some CPU, 1 thread"
    on_gpu = Rtf(20.0, (1.0,) * 5, (1.0,) * 5, 1, 4, "cuda:0", hardware)
    assert on_gpu.detail.endswith("warm-up, Some GPU")


def test_fingerprint_is_complete_stable_and_fits_json() -> None:
    first = hardware_fingerprint()
    assert set(first) == {"cpu", "cores", "threads", "gpu", "gpus", "ram_gib"}
    assert json.loads(json.dumps(first)) == hardware_fingerprint()
    assert first["cpu"]
    assert first["cores"] >= 1
    assert first["threads"] >= 1
    assert first["ram_gib"] > 0
    assert (first["gpu"] is None) == (first["gpus"] == 0)


def test_cpu_model_is_read_or_falls_back(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert _cpu_model(cpuinfo) == "Some CPU @ 2 GHz"
    assert _cpu_model(tmp_path / "missing")
