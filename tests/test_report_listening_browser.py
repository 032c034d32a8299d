"""The listening panel in a real browser: what sounds, from where, by mouse and keyboard, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evalkit.report.page import report_page
from evalkit.run.saved_run import SavedRun, load_run
from evalkit.run.store import example_path
from evalkit.text import printable
from q2d2.audio import encode_flac
from tests.browser import Browser, Opened, start_browser
from tests.report_runs import HOSTILE, MARKED_NAMES, write_hostile_run, write_run

SECONDS = 6.0
SHORT_SECONDS = 0.4
PANEL = "#listening-panel"
LOWEST = "utterance-11"  # beta failed there, and alpha is worst
# System -> frequency of its tone and sample rate, in Hz.
TONES = {"ground-truth": (440, 16_000), "alpha": (880, 24_000), "beta": (1760, 8_000), "gamma": (3000, 16_000)}
# What is played: the moment, the place in the sound, that shown, and when it ends; and the loudest frequency in Hz.
LISTEN = """() => {
  window.played = [];
  const node = AudioBufferSourceNode.prototype;
  const { start, stop } = node;
  node.start = function (when, offset) {
    const shown = Number(document.getElementById("listening-panel").dataset.position);
    window.played.push((this.told = { when, offset, shown, stop: null, duration: this.buffer.duration }));
    return start.call(this, when, offset);
  };
  node.stop = function (when) {
    this.told.stop = when;
    return stop.call(this, when);
  };
  const { connect } = AudioNode.prototype;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      window.analyser ??= new AnalyserNode(to.context, { fftSize: 4096, smoothingTimeConstant: 0 });
      connect.call(this, window.analyser);
    }
    return connect.call(this, to, ...rest);
  };
  window.loudest = () => {
    const levels = new Float32Array(window.analyser.frequencyBinCount);
    window.analyser.getFloatFrequencyData(levels);
    const bin = levels.indexOf(Math.max(...levels));
    return levels[bin] < -60 ? 0 : (bin * window.analyser.context.sampleRate) / 4096;
  };
}"""

browser = pytest.fixture(scope="module")(start_browser)


def write_tone(path: Path, frequency: float, rate: int, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    path.write_bytes(encode_flac(tone.astype(np.float32), rate))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three utterances with audio, the second without beta's, the third short; of others there are scores only."""
    folder = write_run(tmp_path_factory.mktemp("listening") / "run", systems=("alpha", "beta", "gamma"))
    rows = pd.read_parquet(folder / "utterances.parquet")
    rows.loc[(rows["utterance"] == LOWEST) & (rows["system"] == "alpha") & (rows["metric"] == "pesq"), "value"] = 1.01
    rows.to_parquet(folder / "utterances.parquet")
    for number, seconds in enumerate((SECONDS, SECONDS, SHORT_SECONDS)):
        for system, (frequency, rate) in TONES.items():
            if (number, system) != (1, "beta"):
                write_tone(example_path(folder, f"utterance-{number:02}", system), frequency, rate, seconds)
    return written(load_run(folder), folder)


def written(run: SavedRun, folder: Path, choose: int = 6) -> Path:
    page = folder / "report.html"
    page.write_text(report_page([run], choose), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def shared(browser: Browser, path: Path) -> Opened:
    return browser.open(path)


@pytest.fixture
def opened(shared: Opened, path: Path) -> Iterator[Opened]:
    """The page as it is when opened; to load it anew takes a quarter of the time of a context of its own."""
    shared.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    shared.page.set_viewport_size({"width": 1280, "height": 900})
    shared.page.goto(path.resolve().as_uri())
    shared.page.evaluate(LISTEN)
    yield shared
    try:
        shared.assert_quiet()
    finally:
        shared.requests.clear()
        shared.errors.clear()


def part(opened: Opened, name: str) -> Any:
    return opened.page.locator(f"#listening-panel [data-part='{name}']")


def choose(opened: Opened, utterance: str) -> None:
    part(opened, "utterance").select_option(label=f"\u2068{utterance}\u2069")


def state(opened: Opened, name: str) -> str:
    return opened.page.evaluate(f"document.getElementById('listening-panel').dataset['{name}']")


def position(opened: Opened) -> float:
    return float(state(opened, "position"))


def row(opened: Opened, number: int) -> Any:
    return opened.page.locator(".listening-row").nth(number)


def wait(opened: Opened, condition: str) -> None:
    """Until an expression is true; `wait_for_function` needs what the page's policy forbids."""
    for _ in range(250):
        if opened.page.evaluate(condition):
            return
        opened.page.wait_for_timeout(20)
    raise AssertionError(f"not within 5 s: {condition}")


def said(opened: Opened) -> str:
    return part(opened, "said").inner_text()


def played(opened: Opened, count: int) -> list[dict[str, float]]:
    """What has been started, once it is `count` sounds."""
    wait(opened, f"window.played.length >= {count}")
    found = opened.page.evaluate("window.played")
    assert len(found) == count
    return found


def focus(opened: Opened) -> None:
    opened.page.locator("#listening-panel").focus()


def press(opened: Opened, *keys: str) -> None:
    for key in keys:
        opened.page.keyboard.press(key)


class TestPlaying:
    def test_what_sounds_is_the_system_at_its_rate(self, opened):
        for number, (frequency, _) in enumerate(TONES.values()):
            row(opened, number).get_by_role("button").click()
            wait(opened, f"Math.abs(window.loudest() - {frequency}) < 15")
        assert {round(each["duration"], 2) for each in opened.page.evaluate("window.played")} == {SECONDS}

    def test_switching_goes_on_at_the_same_position_without_a_gap(self, opened):
        part(opened, "play").click()
        for number in (1, 2, 3):
            played(opened, number)
            wait(opened, f"document.getElementById('listening-panel').dataset.position > {number / 4}")
            press(opened, "ArrowDown")
        sounds = played(opened, 4)
        assert sounds[0]["offset"] == 0
        for before, after in pairwise(sounds):
            assert after["offset"] - before["offset"] == pytest.approx(after["when"] - before["when"], abs=1e-4)
            assert before["stop"] == pytest.approx(after["when"] + 0.01, abs=1e-4), "they overlap while fading"
        assert sounds[3]["offset"] > 0.7
        assert state(opened, "system") == "gamma"
        assert sounds[3]["shown"] == pytest.approx(sounds[3]["offset"], abs=0.1)

    def test_pause_keeps_the_position_and_silences(self, opened):
        part(opened, "play").click()
        wait(opened, "document.getElementById('listening-panel').dataset.position > 0.3")
        part(opened, "play").click()
        assert state(opened, "playing") == "false"
        at = position(opened)
        assert f"{at:.1f} s" in said(opened)
        wait(opened, "window.loudest() === 0")
        assert position(opened) == at
        part(opened, "play").click()
        assert played(opened, 2)[1]["offset"] == pytest.approx(at, abs=1e-3)

    def test_at_the_end_it_stops_and_begins_anew(self, opened):
        choose(opened, "utterance-02")
        part(opened, "play").click()
        wait(opened, "document.getElementById('listening-panel').dataset.playing === 'false'")
        assert position(opened) == pytest.approx(SHORT_SECONDS, abs=1e-3)
        assert said(opened) == "The end."
        part(opened, "play").click()
        assert played(opened, 2)[1]["offset"] == 0

    def test_an_utterance_chosen_while_playing_plays_from_its_start(self, opened):
        part(opened, "play").click()
        wait(opened, "document.getElementById('listening-panel').dataset.position > 0.3")
        part(opened, "next").click()
        sounds = played(opened, 2)
        assert sounds[1]["offset"] == 0
        assert sounds[0]["stop"] is not None
        assert (state(opened, "playing"), state(opened, "utterance")) == ("true", "utterance-01")

    def test_says_what_plays_and_what_the_browser_cannot(self, opened):
        row(opened, 1).get_by_role("button", name="Play alpha").click()
        wait(opened, "window.played.length === 1")
        assert "Playing \u2068alpha\u2069" in part(opened, "said").text_content()
        assert row(opened, 1).get_by_role("button", name="Pause alpha").is_visible()
        refuse = "void (AudioContext.prototype.decodeAudioData = async () => { throw new Error('no such codec'); })"
        opened.page.evaluate(refuse)
        part(opened, "next").click()
        opened.page.get_by_text("no such codec").wait_for()
        assert state(opened, "playing") == "false"


class TestSeeking:
    def test_by_a_click_into_a_spectrogram(self, opened):
        picture = row(opened, 2).locator(".listening-picture")
        box = picture.bounding_box()
        picture.click(position={"x": box["width"] * 0.75, "y": 20})
        assert played(opened, 1)[0]["offset"] == pytest.approx(0.75 * SECONDS, abs=0.05)
        assert state(opened, "system") == "beta"
        cursor = row(opened, 0).locator(".listening-cursor").bounding_box()
        frame = row(opened, 0).locator(".listening-picture").bounding_box()
        assert (cursor["x"] - frame["x"]) / frame["width"] == pytest.approx(0.75, abs=0.1)

    def test_by_the_slider(self, opened):
        slider = part(opened, "position")
        slider.fill("2.5")
        assert position(opened) == 2.5
        assert slider.get_attribute("aria-valuetext") == "2.5 of 6.0 seconds"
        slider.focus()
        press(opened, "ArrowRight")
        assert position(opened) == 3.5
        press(opened, "End")
        assert position(opened) == SECONDS

    def test_the_cursor_moves_in_steps_where_motion_is_unwelcome(self, opened):
        count = """() => new Promise((done) => {
          let changes = 0;
          const panel = document.getElementById("listening-panel");
          const count = (all) => { changes += all.length; };
          new MutationObserver(count).observe(panel, { attributeFilter: ["data-position"] });
          setTimeout(() => done(changes), 1000);
        })"""
        part(opened, "play").click()
        played(opened, 1)
        assert opened.page.evaluate(count) <= 5
        opened.page.emulate_media(reduced_motion="no-preference")
        opened.page.wait_for_timeout(300)  # the step that is under way ends first
        assert opened.page.evaluate(count) > 5


class TestKeyboard:
    def test_everything_without_a_mouse(self, opened):
        focus(opened)
        press(opened, "3")
        assert (state(opened, "system"), state(opened, "playing")) == ("beta", "false")
        press(opened, "ArrowUp")
        assert state(opened, "system") == "alpha"
        press(opened, "ArrowRight", "ArrowRight", "ArrowLeft")
        assert position(opened) == 1
        press(opened, "ArrowLeft", "ArrowLeft")
        assert position(opened) == 0
        press(opened, " ")
        assert state(opened, "playing") == "true"
        press(opened, " ")
        assert state(opened, "playing") == "false"
        press(opened, "]")
        assert (state(opened, "utterance"), state(opened, "system")) == ("utterance-01", "alpha")
        press(opened, "[", "[")
        assert state(opened, "utterance") == "utterance-00"
        assert said(opened) == "This is the first utterance."
        assert (
            opened.page.evaluate("scrollY") == 0
            or opened.page.evaluate("document.activeElement.id") == "listening-panel"
        )

    def test_the_focus_stays_when_rows_are_made_anew(self, opened):
        row(opened, 1).get_by_role("button").focus()
        press(opened, "]")
        assert opened.page.evaluate("document.activeElement.id") == "listening-panel"
        press(opened, "ArrowDown")
        assert state(opened, "system") == "alpha"

    def test_space_on_a_button_is_the_buttons(self, opened):
        part(opened, "next").focus()
        press(opened, " ")
        assert (state(opened, "utterance"), state(opened, "playing")) == ("utterance-01", "false")

    def test_acts_only_inside_and_not_in_a_field(self, opened):
        part(opened, "utterance").focus()
        press(opened, "3")
        assert state(opened, "system") == "ground-truth"
        opened.page.get_by_label("Filter systems").fill("")
        opened.page.get_by_label("Filter systems").press("3")
        opened.page.evaluate("document.activeElement.blur()")
        press(opened, "3", " ")
        assert (state(opened, "system"), state(opened, "playing")) == ("ground-truth", "false")
        focus(opened)
        press(opened, "Control+3")
        assert state(opened, "system") == "ground-truth"

    def test_passes_over_what_has_no_audio(self, opened):
        focus(opened)
        press(opened, "]", "2", "ArrowDown")
        assert (state(opened, "utterance"), state(opened, "system")) == ("utterance-01", "gamma")
        press(opened, "3")
        assert state(opened, "system") == "gamma"
        assert "no checkpoint" in said(opened)
        assert "no checkpoint" in row(opened, 2).inner_text()


class TestExtremes:
    def test_one_click_loads_utterance_and_system(self, opened):
        part(opened, "of").select_option(label="\u2068gamma\u2069")
        button = part(opened, "ends").get_by_role("button", name="Worst PESQ of \u2068gamma\u2069")
        wanted = button.inner_text()
        button.click()
        assert state(opened, "system") == "gamma"
        assert state(opened, "utterance") in wanted
        assert row(opened, 3).locator(".listening-scores .chosen").inner_text().startswith("PESQ")
        assert opened.page.evaluate("document.activeElement.closest('#listening-panel') !== null")

    def test_without_audio_the_scores_and_the_reason_are_there(self, opened):
        choose(opened, LOWEST)
        why = part(opened, "why").inner_text()
        assert why.startswith("Scores only: ")
        assert "no checkpoints" in why
        assert not part(opened, "transport").is_visible()
        assert "STOI ↑ 0.830" in row(opened, 3).inner_text()
        focus(opened)
        press(opened, " ", "2")
        assert (state(opened, "playing"), state(opened, "system")) == ("false", "alpha")

    def test_a_failure_is_told(self, opened):
        choose(opened, LOWEST)
        assert f"failed: no speech was found in {LOWEST}" in row(opened, 2).inner_text()


class TestBlind:
    def test_hides_what_would_tell_and_reveals_it(self, opened):
        part(opened, "blind").click()
        assert row(opened, 0).get_attribute("aria-current") == "true", "not the one that was chosen by its name"
        rows = opened.page.locator(".listening-rows")
        assert rows.inner_text().count("System ") == 4
        assert not any(system in rows.inner_html() for system in TONES)
        assert rows.locator("img").count() == 0
        assert not part(opened, "extremes").is_visible()
        row(opened, 2).get_by_role("button").click()
        (sound,) = played(opened, 1)
        wait(opened, "document.querySelector(\"[data-part='said']\").textContent.includes('System 3')")
        assert sound["offset"] == 0
        chosen = state(opened, "system")
        part(opened, "blind").click()
        assert chosen in said(opened)
        assert rows.locator("img").count() == 4
        assert [row(opened, number).get_by_role("button").inner_text().split()[-1] for number in range(4)] == list(
            TONES
        )


class TestLooks:
    def test_axe_finds_nothing_serious(self, opened):
        assert opened.violations(PANEL) == []
        opened.page.emulate_media(color_scheme="dark")
        assert opened.violations(PANEL) == []
        choose(opened, LOWEST)
        assert opened.violations(PANEL) == []

    def test_nothing_is_wider_than_a_phone(self, opened):
        opened.page.set_viewport_size({"width": 360, "height": 740})
        assert opened.overflow() == 0
        box = row(opened, 1).locator(".listening-picture").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360

    def test_spectrograms_have_a_text(self, opened):
        text = row(opened, 1).locator("img").get_attribute("alt")
        assert "alpha" in text
        assert "6.0 s, 0 to 12 kHz" in text
        assert "below 0.9 kHz" in text
        assert opened.page.evaluate("document.querySelector('.listening-row img').naturalWidth") == 400


class TestHostileNames:
    class Kept(SavedRun):
        """A run whose names no file could have; audio of two utterances was kept."""

        sound: Path

        def examples(self) -> dict[str, dict[str, Path]]:
            return {name: dict.fromkeys(self.systems["system"], self.sound) for name in MARKED_NAMES[:2]}

    def test_run_no_script_and_are_shown(self, browser, tmp_path):
        folder = write_hostile_run(tmp_path / "run")
        run = load_run(folder)
        kept = self.Kept(*(getattr(run, each.name) for each in fields(run)))
        kept.sound = tmp_path / "tone.flac"  # type: ignore[misc]
        write_tone(kept.sound, 440, 16_000, 1.0)
        opened = browser.open(written(kept, folder, len(MARKED_NAMES)), width=360, height=740)
        assert opened.overflow() == 0
        for _ in MARKED_NAMES[1:]:
            part(opened, "next").click()
        names = opened.page.locator(".listening-name bdi")
        assert names.all_text_contents() == ["ground-truth", *(printable(name) for name in HOSTILE)]
        for system in part(opened, "of").locator("option").all():
            part(opened, "of").select_option(value=system.get_attribute("value"))
            part(opened, "ends").get_by_role("button").first.click()
        assert state(opened, "system") == printable(HOSTILE[-1])
        part(opened, "utterance").select_option(index=0)
        assert names.all_text_contents() == ["ground-truth", *(printable(name) for name in HOSTILE)]
        row(opened, 1).get_by_role("button").click()
        wait(opened, "document.getElementById('listening-panel').dataset.position > 0.1")
        assert opened.page.evaluate("window.attacked") is None
        assert opened.overflow() == 0
        assert opened.violations(PANEL) == []
        opened.assert_quiet()
