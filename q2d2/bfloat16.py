"""bfloat16 on a CPU, whose convolutions are not right everywhere."""

from __future__ import annotations

import functools

import torch
from torch.nn.functional import conv1d

from q2d2.errors import UserError

# Kernel and stride of strided convolutions from 16 to 32 channels, as in an encoder; these were wrong by 100 %.
SHAPES = ((8, 4), (16, 8))
TOLERANCE = 0.02  # bfloat16 has 8 bits: rounding makes 0.002


class WrongArithmetic(UserError, RuntimeError):
    """This machine computes wrong numbers; the message says where and the way out."""


@functools.cache
def check_bfloat16() -> None:
    """Compare convolutions in bfloat16 on the CPU with those in float32.

    With AMX, the oneDNN of torch 2.14 gives wrong numbers for some shapes, without a word
    (https://github.com/pytorch/pytorch/issues/169688).

    Raises:
        WrongArithmetic: they are not equal but for rounding.
    """
    random = torch.Generator().manual_seed(0)
    for kernel, stride in SHAPES:
        signal = torch.randn(2, 16, 400, generator=random).bfloat16()
        weight = torch.randn(32, 16, kernel, generator=random).bfloat16()
        with torch.no_grad():
            right = conv1d(signal.float(), weight.float(), stride=stride)
            made = conv1d(signal, weight, stride=stride).float()
        if not (made - right).norm() < TOLERANCE * right.norm():  # also where it is not finite
            raise WrongArithmetic(
                "bfloat16 on this CPU gives wrong convolutions (a fault of torch's oneDNN with AMX): set the "
                "environment variable ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or compute in float32"
            )
