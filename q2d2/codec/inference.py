"""A codec made ready to encode and decode fast. What makes it so, and how fast it is: docs/speed.md."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn

from q2d2.bfloat16 import check_bfloat16
from q2d2.codec.codec import Codec, CodecOutput
from q2d2.codec.encoder import Encoder, PaddedConv1d
from q2d2.codec.packed import PackedDecoder, PackedEncoder, can_pack, packed_head

DTYPES = (torch.float32, torch.bfloat16)


class InferenceCodec(Codec):
    """A codec in evaluation without gradients; see `prepare_for_inference`.

    Methods, shapes and errors are those of Codec. It stays on its device and cannot be trained, moved or saved: the
    codec it was made from is there for that.

    Attributes:
        dtype: in which convolutions, linear layers, attention and LSTM are computed.
        packed: whether the layers are those of `q2d2.codec.packed`, rather than Codec's own with weight norm folded.
    """

    def __init__(self, codec: Codec, dtype: torch.dtype, compile: bool) -> None:
        nn.Module.__init__(self)
        device = next(codec.encoder.parameters()).device
        self.config, self.dtype = codec.config, dtype
        self.packed = not compile and can_pack(device, dtype)
        self.bottleneck = copy.deepcopy(codec.bottleneck)
        if self.packed:
            self.encoder = cast(Encoder, PackedEncoder(codec.encoder, codec.config, dtype))
            self.decoder = PackedDecoder(codec.decoder, dtype)  # type: ignore[assignment]
            self.head = packed_head(codec.head)
        else:
            self.encoder = folded(codec.encoder)
            self.decoder, self.head = copy.deepcopy(codec.decoder), copy.deepcopy(codec.head)
        if compile:
            for part in (self.encoder, self.decoder, self.head):
                part.compile()
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def forward(self, audio: Tensor) -> CodecOutput:
        return super().forward(audio)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Tensor:
        return super().encode(audio)

    @torch.inference_mode()
    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        return super().decode(codes, length)

    @torch.inference_mode()
    def latents(self, audio: Tensor) -> Tensor:
        with self._half_precision(audio.device):
            return super().latents(audio).float()

    def _check_weights(self) -> None:
        """They are in the types that `prepare_for_inference` gave them."""

    def _synthesize(self, quantized: Tensor) -> Tensor:
        with self._half_precision(quantized.device):
            return super()._synthesize(quantized)

    def _half_precision(self, device: torch.device) -> torch.autocast:
        # Packed layers have their weights in the right type already.
        enabled = self.dtype != torch.float32 and not self.packed
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def train(self, mode: bool = True) -> Self:
        if mode:
            raise ValueError("a codec prepared for inference cannot be trained: train the codec it was made from")
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        probe = fn(torch.empty(0, device=next(self.buffers()).device))
        if self.packed and (probe.device.type, probe.dtype) != ("cpu", torch.float32):
            raise ValueError(
                f"a codec prepared for inference cannot become {probe.dtype} on {probe.device}: "
                "move the codec it was made from, and prepare that"
            )
        return super()._apply(fn, recurse)


def prepare_for_inference(codec: Codec, dtype: torch.dtype = torch.float32, compile: bool = False) -> InferenceCodec:
    """A fast copy of `codec` for encoding and decoding on the device it is on; the codec itself is left as it is.

    In float32 outputs are equal up to the order of float sums. On a CPU whose torch has oneDNN the layers are packed
    for it; elsewhere they are Codec's own with weight norm folded.

    Args:
        codec: on its device; in training or evaluation, the copy is in evaluation.
        dtype: torch.float32, or torch.bfloat16 for convolutions, linear layers, attention and LSTM. Normalization,
            bottleneck and the head's spectrum are float32 always.
        compile: have torch.compile write the layers' code, with the first call (minutes, needs a C++ compiler) and
            for new lengths. On the CPUs measured the packed layers are faster.

    Raises:
        ValueError: another dtype.
        WrongArithmetic: bfloat16 on a CPU that computes wrong numbers in it.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype}: expected one of {', '.join(map(str, DTYPES))}")
    if isinstance(codec, InferenceCodec):
        raise ValueError("this codec is prepared for inference already: prepare the one it was made from")
    if dtype == torch.bfloat16 and next(codec.parameters()).device.type == "cpu":
        check_bfloat16()
    with torch.no_grad():
        return InferenceCodec(codec, dtype, compile)


def folded(encoder: Encoder) -> Encoder:
    """A copy of the encoder whose convolutions hold their weight itself, instead of computing it in each call.

    `remove_parametrizations` on a deep copy would break the original, whose convolutions share their class with it.
    """
    copied = copy.deepcopy(encoder)
    for layer in copied.modules():
        if isinstance(layer, PaddedConv1d):
            normed = layer.conv
            plain = nn.Conv1d(
                normed.in_channels, normed.out_channels, normed.kernel_size, normed.stride, device=normed.weight.device
            )
            plain.load_state_dict({"weight": normed.weight, "bias": normed.bias})
            layer.conv = plain
    return copied
