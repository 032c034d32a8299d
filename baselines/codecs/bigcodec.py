"""BigCodec (Xin et al., arXiv 2409.05377): one code of 8192 per frame at 80 frames/s, for speech at 16 kHz.

The published file, bigcodec.pt of 637 937 326 bytes, has the SHA-256
1fba3806e87cc01c1a65bea22fa1becefbbf46881e4219593c4d9f3cf56206b9.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.codecs import WholeCodec
from baselines.codecs.bigcodec_file import load_network
from baselines.codecs.bigcodec_model import BigCodecSizes
from baselines.codecs.weights import HubWeights, files_sha256
from q2d2.borders import check_audio, check_length

FILE = "bigcodec.pt"


class BigCodec(WholeCodec):
    """The published codec; `num_parameters` are those that run, without the gains of weight normalization.

    Audio is framed as the authors' inference.py frames it: 1 to 200 zeros are appended, also to audio that fills its
    frames, so there are samples // 200 + 1 frames.

    Args:
        folder: holds bigcodec.pt.

    Raises:
        CodecError: the file is not the published network's; see `load_network`.
    """

    weights = HubWeights(
        repo="Alethia/BigCodec",
        revision="c6548832eda95a09dcc3485d9b8ef097ce15f387",
        files=(FILE,),
        source="BigCodec by Detai Xin and others (arXiv 2409.05377); weights CC BY-SA 4.0",
    )
    sizes: ClassVar[BigCodecSizes] = BigCodecSizes()

    def __init__(self, folder: Path) -> None:
        self.network = load_network(folder / FILE, self.sizes)
        self.module = self.network
        self.hop_length = self.sizes.hop_length
        self.sample_rate = 16000
        self.frame_rate = self.sample_rate / self.hop_length
        self.codebook_sizes = (self.sizes.codebook_size,)
        self.tokens_per_frame = 1
        self.weights_sha256 = files_sha256(folder, (FILE,))

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] at 16 kHz -> codes (batch, 1, samples // 200 + 1) int64.

        Raises:
            ValueError: audio is not (batch, samples) or is empty.
        """
        check_audio(audio)
        return self.network.encode(F.pad(audio, (0, self.hop_length - audio.shape[-1] % self.hop_length)))

    @torch.no_grad()
    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Codes (batch, 1, frames) -> audio (batch, length) in (-1, 1), by default frames * 200 samples.

        Raises:
            ValueError: codes have another shape or lie outside the codebook, or `length` is below 1 or more than they
                hold.
        """
        if codes.dim() != 3 or codes.shape[1] != 1 or codes.shape[2] == 0:
            raise ValueError(f"codes of shape {tuple(codes.shape)}: expected (batch, 1, frames) with frames > 0")
        if codes.min() < 0 or codes.max() >= self.sizes.codebook_size:
            raise ValueError(
                f"codes from {int(codes.min())} to {int(codes.max())}: expected 0 to {self.sizes.codebook_size - 1}"
            )
        check_length(length, codes.shape[-1] * self.hop_length)
        return self.network.decode(codes)[:, :length]
