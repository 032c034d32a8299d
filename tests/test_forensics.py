"""Traps of the published code: figures against known values, the command, and the page that quotes them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evalkit.datasets import load_corpus, read_audio
from evalkit.metrics.pitch import VuvF1
from evalkit.scoring.protocol import PROTOCOLS
from q2d2.audio import AudioError
from q2d2.quantizer import Q2D2
from studies.forensics import __main__ as command
from studies.forensics.audio import audio_traps
from studies.forensics.averages import change_of_mean, published_f1, published_pesq
from studies.forensics.decoded_audio import PublishedError, read_published
from studies.forensics.geometry import second_moment
from studies.forensics.quantizer import decoded_index, gradient_factors
from studies.forensics.report import figures
from studies.forensics.speed import flattery
from studies.forensics.trap import Figure, Trap
from studies.forensics.usage import published_rhombic_size, set_entropy
from tests.one_pair import score_pair

PAGE = Path(__file__).resolve().parent.parent / "docs" / "published-protocol.md"
RATE = 24_000
WRONG_BY = 0.25


@pytest.fixture(scope="module")
def traps() -> list[Trap]:
    return command.measure_without_audio()


@pytest.fixture(scope="module")
def measured(traps: list[Trap]) -> dict[str, Figure]:
    return figures(traps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three utterances of one system: 48 samples short, 72 too long, and too short a clip for PESQ and STOI."""
    root = tmp_path_factory.mktemp("published")
    rows = []
    for number, utterance in enumerate(load_corpus("sample", "test").utterances[:3]):
        clip, rate = read_audio(utterance.path)
        original = PROTOCOLS["paper"].resampler(clip, rate, RATE)[: RATE // 5 if number == 2 else 3 * RATE // 2]
        noisy = original + 0.01 * np.random.default_rng(number).standard_normal(original.size).astype(np.float32)
        estimate = (noisy[:-48], np.pad(noisy, (0, 72)), noisy)[number]
        for system, signal in (("gt", original), ("noisy", estimate)):
            path = root / "sample" / system / f"{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, signal.clip(-1, 1), RATE, subtype="PCM_16")
            rows.append({"dataset": "sample", "system": system, "utterance": str(number), "pesq_wb": 1, "stoi": 1})
    write_scores(root, rows)
    for file, row in zip(read_published(root), rows[1::2], strict=True):
        pesq, stoi = score_pair(file.pair, ["pesq", "stoi"], PROTOCOLS["paper"])
        row |= {"pesq_wb": (pesq.value or 0) - WRONG_BY, "stoi": stoi.value or 0}
    write_scores(root, rows)
    return root


def write_scores(root: Path, rows: list[dict[str, object]]) -> None:
    with (root / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def with_audio(folder: Path) -> list[Trap]:
    return audio_traps(read_published(folder))


def test_second_moments_are_those_of_the_lattices(measured: dict[str, Figure]) -> None:
    # The published cell has the corners (±1/2, ±3/8) and (0, ±5/8): area 1, polar moment 7/96 + 17/192.
    a2 = 5 / (36 * math.sqrt(3))
    exact_moments = {"rectangular": 1 / 12, "rhombic": 1 / 12, "hexagonal": 31 / 384, "hexagonal-regular": a2}
    for name, exact in exact_moments.items():
        assert second_moment(name) == pytest.approx(exact, abs=5e-6)
    assert measured["grid.hexagon.published"].value == pytest.approx(0.0808, abs=1e-4)
    assert measured["grid.hexagon.gain_published"].value < measured["grid.hexagon.gain_a2"].value


def test_shape_of_the_published_grids(measured: dict[str, Figure]) -> None:
    expected = {
        "grid.off_centre.mean_7": 0.25 / 7,
        "grid.off_centre.mean_9": 0.25 / 9,
        "grid.off_centre.nearest_7": 0.25,
        "grid.off_centre.nearest_a2_7": 0,
        "grid.second_level.built_7x5": 49,
        "grid.second_level.asked_7x5": 35,
        "grid.second_level.unreachable_7x5": 100 * 14 / 49,  # two of seven rows
        "grid.second_level.beyond_5x7": 100 / 6,
        "grid.even_levels.reach_8": 0.875,
        "grid.even_levels.ours_8": 1,
    }
    for name, value in expected.items():
        assert measured[name].value == pytest.approx(value, abs=1e-6), name


def test_equal_levels_are_not_equal_rates(measured: dict[str, Figure]) -> None:
    rhombic, rectangular = math.log2(145 * 85 * 85), math.log2(81 * 49 * 49)
    assert measured["grid.unequal_rates.rhombic"].value == pytest.approx(rhombic)
    assert measured["grid.unequal_rates.rectangular"].value == pytest.approx(rectangular)
    assert measured["grid.unequal_rates.more_percent"].value == pytest.approx(100 * (rhombic / rectangular - 1))
    assert measured["grid.unequal_rates.kbps_rhombic"].value == pytest.approx(1.067, abs=5e-4)
    # Half the area a point: half the squared error. Against a pitch of 1/4: (1/16) / (1/18) in area.
    assert measured["grid.unequal_rates.gain_equal_levels"].value == pytest.approx(10 * math.log10(2), abs=0.01)
    assert measured["grid.unequal_rates.gain_equal_bits"].value == pytest.approx(10 * math.log10(18 / 16), abs=0.01)


def test_factors_of_the_gradient() -> None:
    levels = (9, 9, 7, 7, 5, 3)
    assert gradient_factors(levels, "published").tolist() == pytest.approx([1 / (n // 2) for n in levels], rel=1e-4)
    assert gradient_factors(levels, "unit").tolist() == pytest.approx([1.001] * 6, rel=1e-4)


def test_frame_indices_in_32_bits(measured: dict[str, Figure]) -> None:
    quantizer = Q2D2(8, "rhombic", (7,) * 10)
    codes = torch.tensor([[0, 84, 3], [0, 84, 1], [0, 84, 4], [0, 84, 1], [0, 84, 5]])
    index = quantizer.frame_index(codes[None])[0]
    assert torch.equal(decoded_index(index, quantizer.codebook_sizes), codes)
    wrapped = decoded_index(index.to(torch.int32).long(), quantizer.codebook_sizes)
    assert (wrapped == codes).all(0).tolist() == [True, False, True]
    assert measured["quantizer.overflow.pairs"].value == 5
    assert measured["quantizer.overflow.codes_per_index"].value == pytest.approx(85**6 / 2**32)
    # All that stay right are those whose index fits (0.57 %) and a few that wrap onto themselves.
    assert 98.5 < measured["quantizer.overflow.wrong"].value < 100 - 100 * 2**31 / 85**6 + 0.1


def test_all_distances_take_longer_and_more_memory(measured: dict[str, Figure]) -> None:
    for name in ("rectangular", "rhombic", "hexagonal"):
        assert measured[f"quantizer.all_distances.published_{name}"].value > 3
    assert measured["quantizer.all_distances.bytes"].value == 85 * 4
    assert measured["quantizer.all_distances.bytes_result"].value == 16


def test_entropy_over_a_set_is_that_of_a_uniform_source(measured: dict[str, Figure]) -> None:
    skewed = np.array([5] * 1000 + [0, 2, 7])
    assert set_entropy(skewed) == 2
    assert measured["usage.entropy.published_zipf"].value == pytest.approx(100)
    p = 1 / np.arange(1, 86) / sum(1 / np.arange(1, 86))
    true = 100 * float(-(p * np.log2(p)).sum()) / math.log2(85)
    assert measured["usage.entropy.true_zipf"].value == pytest.approx(true, abs=0.3)


def test_table_of_grid_sizes_is_one_level_off(measured: dict[str, Figure]) -> None:
    assert [published_rhombic_size(level) for level in (3, 5, 7, 8, 9, 10)] == [5, 25, 61, 85, 113, 145]
    sizes = [measured[f"usage.grid_table.{key}"].value for key in ("table_7", "grid_7", "table_9", "grid_9")]
    assert sizes == [61, 85, 113, 145]
    assert measured["usage.grid_table.wrong"].value > 98
    assert measured["usage.grid_table.published_50"].value == 100
    assert measured["usage.grid_table.true_25"].value == pytest.approx(100 * np.mean([36 / 145, 21 / 85, 21 / 85]))


def test_pesq_errors_are_numbers(measured: dict[str, Figure]) -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32)
    assert published_pesq(noise, noise) == pytest.approx(4.64, abs=0.01)
    assert measured["scores.pesq_errors.no_speech"].value < 0
    assert measured["scores.pesq_errors.too_short"].value < 0
    assert measured["scores.pesq_errors.refused"].value == 3
    assert change_of_mean(3.0, 0.01, -1.0) == pytest.approx(np.mean([3.0] * 99 + [-1.0]) - 3.0)
    assert measured["scores.pesq_errors.shift_documented"].value == pytest.approx(-0.0436)


def test_f1_is_dropped_where_nothing_hits(measured: dict[str, Figure]) -> None:
    assert math.isnan(published_f1(0, 10, 10))
    assert math.isnan(published_f1(0, 0, 10))
    tracks = [{"periodicity": np.array(track, np.float32)} for track in ([0.5, 0.5, 0.5, 0.1], [0.5, 0.1, 0.5, 0.5])]
    assert published_f1(2, 3, 3) == pytest.approx(VuvF1().compare(*tracks))
    assert measured["scores.dropped_f1.dropped"].value == 10
    published = measured["scores.dropped_f1.published"].value
    assert measured["scores.dropped_f1.counted"].value == pytest.approx(0.99 * published)


def test_runs_appended_to_one_table(measured: dict[str, Figure]) -> None:
    keys = ("rows", "gap", "mixed", "order")
    rows, gap, mixed, order = (measured[f"scores.appended_runs.{key}"].value for key in keys)
    assert (rows, mixed) == (102, pytest.approx(gap / 2))
    assert order < 1e-13


def test_real_time_factor_at_the_original_rate() -> None:
    assert flattery(16_000) == pytest.approx(1.5)
    assert flattery(22_050) == pytest.approx(24_000 / 22_050)
    assert flattery(24_000) == 1


def test_traps_on_decoded_audio(with_audio: list[Trap]) -> None:
    found = figures(with_audio)
    assert found["audio.agreement.pesq"].value == pytest.approx(WRONG_BY)
    assert found["audio.agreement.stoi"].value == 0
    assert found["audio.lengths.shorter"].value == 48
    assert found["audio.lengths.longer"].value == 72
    assert found["audio.lengths.differ"].value == 2
    # Files of 16 bits: the protocols agree. Floats beside them: nearly.
    assert found["audio.protocols.pesq"].value == 0
    assert 0 < found["audio.sixteen_bits.pesq"].value < 0.05
    assert found["audio.delay.si_sdr_mean"].value < -5
    assert found["audio.delay.found"].value == 3
    assert found["audio.delay.aligned"].value < 0.5
    assert found["audio.failed_clip.published"].value < found["audio.failed_clip.mean"].value - 2
    assert 0 < found["audio.resampler.pesq_largest"].value < 0.5
    assert all(trap.n == 3 for trap in with_audio)
    # The clip that is too short has no PESQ: said, not averaged.
    told = {trap.name: trap.missing for trap in with_audio}
    assert "scores failed, the first: sample/noisy/2, pesq: too short" in told["audio.agreement"]
    assert told["audio.lengths"] == ""


def test_command_without_audio(
    traps: list[Trap], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(command.VARIABLE, raising=False)
    monkeypatch.setattr(command, "measure_without_audio", lambda: traps)
    command.main(["--json", str(tmp_path / "traps.json")])
    lines = capsys.readouterr().out.splitlines()
    assert "--published DIR, or set EVALKIT_PUBLISHED" in " ".join(" ".join(lines).split())
    printed = [line.split() for line in lines if line.startswith("figure ")]
    assert lines[-len(printed) :] == [" ".join(words) for words in printed]
    known = figures(traps)
    assert [name for _, name, _ in printed] == list(known)
    assert ["figure", "speed.original_rate.librispeech", "1.5"] in printed

    report = json.loads((tmp_path / "traps.json").read_text())
    assert [trap["name"] for trap in report["traps"]] == [*(trap.name for trap in traps), "audio"]
    kept = {name: figure["value"] for trap in report["traps"] for name, figure in trap["figures"].items()}
    assert kept["scores.pesq_errors.silent"] is None
    assert kept["grid.hexagon.published"] == known["grid.hexagon.published"].value
    assert report["hardware"]["cores"] >= 1


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^studies.forensics: .*nowhere: no scores.csv in it"):
        command.main(["--published", str(tmp_path / "nowhere")])
    header = "dataset,system,utterance,pesq_wb,stoi\n"
    for text, error, reason in (
        ("dataset,system,utterance,stoi\n", PublishedError, "no column pesq_wb"),
        (f"{header}a,gt,1,4.6,1\n", PublishedError, "no row of a decoded file"),
        (f"{header}a,b,1,good,1\n", PublishedError, "line 2: pesq_wb is 'good', expected a number"),
        (f"{header}a,,1,2.0,1\n", PublishedError, "line 2: dataset, system or utterance is empty"),
        (f"{header}a,b,1,2.0,1\n", AudioError, "no such file"),
    ):
        (tmp_path / "scores.csv").write_text(text)
        with pytest.raises(error, match=reason):
            read_published(tmp_path)


def quoted() -> dict[str, str]:
    """Figure -> the number that the page has in the cell before it."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for before, cell in itertools.pairwise(cells):
            if re.fullmatch(r"`[a-z]+\.[a-z_0-9]+\.\w+`", cell):
                number = re.search(r"-?\d+(\.\d+)?", before)
                assert number, line
                found[cell.strip("`")] = number[0]
    return found


def assert_quoted_rightly(measured: dict[str, Figure], section: str) -> None:
    page = {name: number for name, number in quoted().items() if name.startswith("audio.") == (section == "audio")}
    assert len(page) > 20
    assert page.keys() <= measured.keys()
    for name, number in page.items():
        decimals = len(number.partition(".")[2])
        if not measured[name].timed:
            assert float(number) == pytest.approx(measured[name].value, abs=0.501 * 10**-decimals), name


def test_the_page_quotes_what_the_command_prints(traps: list[Trap], measured: dict[str, Figure]) -> None:
    assert_quoted_rightly(measured, "without audio")
    assert {name.rpartition(".")[0] for name in quoted()} >= {trap.name for trap in traps}


def test_the_page_names_figures_of_decoded_audio(with_audio: list[Trap]) -> None:
    page = {name for name in quoted() if name.startswith("audio.")}
    assert page <= figures(with_audio).keys()
    assert {name.rpartition(".")[0] for name in page} == {trap.name for trap in with_audio}


def test_the_page_quotes_the_published_audio() -> None:
    root = os.environ.get("EVALKIT_PUBLISHED")
    if not root:
        pytest.skip("EVALKIT_PUBLISHED is not set: no decoded audio of published codecs")
    assert_quoted_rightly(figures(audio_traps(read_published(Path(root)))), "audio")
