"""Audio and spectrograms as a page holds them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evalkit.report.sound import HEIGHT, WIDTH, decode_flac, describe_sound, draw_spectrograms
from q2d2.audio import encode_flac


class TestSound:
    RATE = 16_000
    TIME = np.arange(RATE) / RATE

    def pixels(self, image: bytes) -> tuple[np.ndarray, int]:
        picture = Image.open(io.BytesIO(image))
        return np.asarray(picture), int(picture.info["transparency"])

    def test_flac_is_lossless_at_16_bits_and_changes_no_level(self):
        noise = np.random.default_rng(0).uniform(-1.2, 1.2, 4000).astype(np.float32)
        audio, rate = decode_flac(encode_flac(noise, 22_050))
        assert rate == 22_050
        np.testing.assert_allclose(audio, noise.clip(-1, 1), atol=1.01 / 2**15)
        again, _ = decode_flac(encode_flac(audio, rate))
        np.testing.assert_array_equal(again, audio)

    def test_a_tone_is_bright_at_its_frequency(self):
        tone = 0.5 * np.sin(2 * np.pi * 2000 * self.TIME).astype(np.float32)
        drawn = draw_spectrograms({"tone": (tone, self.RATE)})
        pixels, _ = self.pixels(drawn.images["tone"])
        middle = pixels[:, WIDTH // 2].astype(int)
        assert abs(int(middle.argmax()) - HEIGHT * 3 / 4) <= 1, "2 of 8 kHz, the highest on top"
        assert drawn.ceiling_db == pytest.approx(-6, abs=0.1)
        assert (drawn.seconds, drawn.kilohertz) == (1.0, 8.0)

    def test_all_have_one_scale_and_nothing_beyond_their_end_or_rate(self):
        noise = np.random.default_rng(0).normal(0, 0.1, self.RATE).astype(np.float32)
        half = noise[: self.RATE // 2]
        drawn = draw_spectrograms(
            {"whole": (noise, self.RATE), "half": (half, self.RATE), "low": (half, self.RATE // 2)}
        )
        whole, nothing = self.pixels(drawn.images["whole"])
        shorter, _ = self.pixels(drawn.images["half"])
        low, _ = self.pixels(drawn.images["low"])
        assert (shorter[:, WIDTH // 2 + 1 :] == nothing).all()
        assert (shorter[:, 5 : WIDTH // 2 - 5] != nothing).all()
        assert (low[: HEIGHT // 2] == nothing).all()
        assert (low[HEIGHT // 2 :, 10:-10] != nothing).all()
        assert (whole[:, 10:-10] != nothing).all()

    def test_silence_is_drawn_and_described(self):
        silence = np.zeros(self.RATE, np.float32)
        assert describe_sound(silence, self.RATE) == "1.0 s, 0 to 8 kHz, silent"
        assert len(draw_spectrograms({"a": (silence, self.RATE)}).images) == 1

    def test_is_described_in_numbers(self):
        tone = 0.5 * np.sin(2 * np.pi * 2000 * self.TIME).astype(np.float32)
        assert describe_sound(tone, self.RATE) == (
            "1.0 s, 0 to 8 kHz; level -6 dB re a full-scale sine, 99 % of the energy below 2.0 kHz"
        )
