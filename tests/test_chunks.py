"""Any length in bounded memory: encoding in pieces is encoding the whole; decoding in windows joins them smoothly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, CodecConfig
from q2d2.codec.chunks import (
    Chunking,
    decode_blocks,
    encode_blocks,
    latents_of_blocks,
    reach,
    window_starts,
)

RATE = 4800
BOTTLENECKS = {
    "q2d2": {"levels": (7, 7, 5, 5)},
    "fsq": {"levels": (5, 5)},
    "vq": {"codebook_size": 16},
    "rvq": {"codebook_size": 8, "num_quantizers": 2},
}


def codec_with(ratios: tuple[int, ...] = (3, 4), bottleneck: str = "q2d2") -> Codec:
    torch.manual_seed(0)
    config = CodecConfig(
        sample_rate=RATE, ratios=ratios, num_filters=4, dimension=8, lstm_layers=2, decoder_dim=64,
        decoder_intermediate=16, decoder_layers=2,
    )  # fmt: skip
    codec = Codec(config, build_bottleneck(bottleneck, 8, **BOTTLENECKS[bottleneck]))
    codec.bottleneck(codec.latents(torch.randn(1, 100 * codec.hop_length)))  # codebooks start at their first batch
    return codec.eval()


def cut(signal: Tensor, size: int) -> Iterator[Tensor]:
    """(..., samples) in pieces of `size`."""
    yield from signal.split(size, dim=-1)


class TestEncoding:
    @settings(max_examples=40)
    @given(
        ratios=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        samples=st.integers(1, 900),
        block=st.integers(1, 400),
        frames=st.integers(1, 40),
    )
    def test_latents_in_pieces_are_those_of_the_whole(
        self, ratios: list[int], samples: int, block: int, frames: int
    ) -> None:
        codec = codec_with(tuple(ratios))
        audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
        with torch.inference_mode():
            whole = codec.latents(audio)
            pieces = list(latents_of_blocks(codec.encoder, cut(audio, block), codec.hop_length, frames))
        assert all(piece.shape[-1] == frames for piece in pieces[:-1])
        torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("bottleneck", BOTTLENECKS)
    @pytest.mark.parametrize("samples", [1, 11, 12, 13, 1199, 1200, 1201, 5000])
    def test_codes_in_pieces_are_those_of_the_whole(self, bottleneck: str, samples: int) -> None:
        codec = codec_with(bottleneck=bottleneck)
        audio = torch.randn(1, samples)
        codes = encode_blocks(codec, cut(audio, 500), seconds=0.3)
        assert codes.dtype == torch.int64
        assert torch.equal(codes, codec.encode(audio))

    @pytest.mark.parametrize("ratios", [(3, 4), (2, 2, 5), (8,), (1, 1), (7, 1, 2)])
    def test_reach_is_what_a_change_of_one_sample_can_alter(self, ratios: tuple[int, ...]) -> None:
        codec = codec_with(ratios)
        layers, hop = codec.encoder.model[:-3], codec.hop_length
        measured = 0
        # In the middle, and near both ends, where reflection brings samples in once more.
        for changed in (0, 1, hop, 60 * hop, 120 * hop - 2, 120 * hop - 1):
            audio = torch.randn(1, 1, 120 * hop)
            other = audio.clone()
            other[..., changed] += 1.0
            with torch.inference_mode():
                differing = (layers(audio) != layers(other)).any(dim=1).flatten().nonzero().flatten()
            starts = differing * hop
            measured = max(measured, int((starts - changed).max()), int((changed - (starts + hop - 1)).max()))
        assert measured <= reach(layers) <= measured + 3 * hop + 3

    def test_no_audio_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no audio to encode"):
            encode_blocks(codec_with(), iter([]))

    def test_blocks_are_taken_as_they_are_needed(self) -> None:
        """Memory is bounded only if pieces come out while blocks are still to be read."""
        codec = codec_with()
        read = 0

        def blocks() -> Iterator[Tensor]:
            nonlocal read
            for _ in range(100):
                read += 1
                yield torch.randn(1, 10 * codec.hop_length)

        with torch.inference_mode():
            pieces = latents_of_blocks(codec.encoder, blocks(), codec.hop_length, 20)
            behind = [read * 10 - 20 * count for count, _ in enumerate(pieces, start=1)]
        assert max(behind) < 50


class TestDecoding:
    CHUNKING = Chunking(whole_seconds=1.0, window_seconds=0.9, overlap_seconds=0.2, fade_seconds=0.1)

    def test_up_to_the_stated_length_a_clip_is_decoded_whole(self) -> None:
        codec = codec_with()
        codes = codec.encode(torch.randn(1, RATE))
        for length in (RATE, RATE - 7):
            (audio,) = decode_blocks(codec, codes[0], length, self.CHUNKING)
            assert torch.equal(audio, codec.decode(codes, length)[0])

    @settings(max_examples=20)
    @given(samples=st.integers(RATE + 1, 6 * RATE), batch=st.integers(1, 4))
    def test_length_is_exact_and_batches_change_nothing(self, samples: int, batch: int) -> None:
        codec = codec_with()
        codes = codec.encode(torch.randn(1, samples, generator=torch.Generator().manual_seed(samples)))[0]
        audio = torch.cat(list(decode_blocks(codec, codes, samples, self.CHUNKING, batch)))
        assert audio.shape == (samples,)
        single = torch.cat(list(decode_blocks(codec, codes, samples, self.CHUNKING)))
        torch.testing.assert_close(audio, single, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("fade", [0.0, 0.1, 0.2])
    def test_a_decoder_of_finite_reach_gives_what_it_gives_of_the_whole(self, fade: float) -> None:
        """Without attention and normalization over the clip, windows with enough context lose nothing."""
        codec = codec_with()
        codec.decoder.pos_net = torch.nn.Identity()  # type: ignore[assignment]
        samples = 9 * RATE // 2 - 7  # three windows that share no more than they must
        codes = codec.encode(torch.randn(1, samples))
        whole = codec.decode(codes, samples)[0]
        chunking = Chunking(whole_seconds=2.0, window_seconds=1.8, overlap_seconds=0.45, fade_seconds=fade)
        audio = torch.cat(list(decode_blocks(codec, codes[0], samples, chunking)))
        torch.testing.assert_close(audio, whole, atol=1e-5, rtol=1e-4)

    def test_a_difference_between_windows_is_faded(self) -> None:
        """Windows that decode to constants of different level meet in a ramp without a step."""
        codec = codec_with()
        levels = itertools.count()
        codec.decode = lambda codes: torch.ones(1, codes.shape[-1] * codec.hop_length) * next(levels)  # type: ignore
        audio = torch.cat(
            list(decode_blocks(codec, torch.zeros(1, 2 * RATE // 12, dtype=torch.int64), 2 * RATE, self.CHUNKING))
        )
        fade = round(0.1 * RATE / codec.hop_length) * codec.hop_length
        steps = audio.diff()
        assert (steps >= 0).all()
        assert audio[0] == 0
        assert audio[-1] == audio.max() == next(levels) - 1
        assert steps.max() < 2 / fade
        assert (steps > 0).sum() == pytest.approx(fade * float(audio[-1]), abs=3 * float(audio[-1]))

    @given(frames=st.integers(10, 3000), window=st.integers(10, 500), overlap=st.integers(0, 160))
    def test_windows_cover_everything_and_overlap_enough(self, frames: int, window: int, overlap: int) -> None:
        if frames < window or overlap >= window:
            with pytest.raises(ValueError, match="do not fit"):
                window_starts(frames, window, overlap)
            return
        starts = window_starts(frames, window, overlap)
        assert starts[0] == 0
        assert starts[-1] + window == frames
        for start, following in itertools.pairwise(starts):
            assert start < following <= start + window - overlap
        assert len(starts) == 1 or (len(starts) - 2) * (window - overlap) + window < frames

    def test_a_length_that_does_not_fit_the_codes_is_named(self) -> None:
        codec = codec_with()
        with pytest.raises(ValueError, match="length 100 asked of 8 frames of 12 samples"):
            next(decode_blocks(codec, torch.zeros(2, 8, dtype=torch.int64), 100))

    def test_lengths_that_do_not_fit_into_one_another_are_refused(self) -> None:
        for changes in ({"overlap_seconds": 20}, {"fade_seconds": 3}, {"window_seconds": 70}, {"fade_seconds": -1}):
            with pytest.raises(ValueError, match="expected 0 <= fade <= overlap"):
                Chunking(**changes)
