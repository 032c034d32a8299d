"""The parts of BigCodec that are easy to get wrong, against slow references written from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.codecs.bigcodec_layers import Activation, DecoderBlock, EncoderBlock
from baselines.codecs.bigcodec_model import BigCodecSizes, FactorizedVQ


def slow_activation(x: np.ndarray, alpha: np.ndarray, beta: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """One channel, sum by sum: zeros between samples, filter, x + sin^2(ax) / b, filter, every second sample."""
    frames = len(x)

    def held(signal: np.ndarray, place: int) -> float:
        return float(signal[min(max(place, 0), len(signal) - 1)])

    doubled = np.zeros(2 * frames)
    for n in range(2 * frames):
        for k in range(12):
            if (n + 5 - k) % 2 == 0:
                doubled[n] += 2 * up[k] * held(x, (n + 5 - k) // 2)
    bent = doubled + np.sin(np.exp(alpha) * doubled) ** 2 / np.exp(beta)
    return np.array([sum(down[k] * held(bent, 2 * n + k - 5) for k in range(12)) for n in range(frames)])


@pytest.mark.parametrize("frames", [1, 2, 5, 30])
def test_the_activation_is_the_slow_one(frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    layer = Activation(3).eval().requires_grad_(False)
    for tensor in layer.state_dict().values():  # filters that are not symmetric show a flip
        tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
    x = torch.randn(2, 3, frames, generator=generator)
    up, down = layer.upsample.filter[0, 0].numpy(), layer.downsample.lowpass.filter[0, 0].numpy()
    alpha, beta = layer.act.alpha.numpy(), layer.act.beta.numpy()
    slow = [[slow_activation(x[b, c].numpy(), alpha[c], beta[c], up, down) for c in range(3)] for b in range(2)]
    expected = torch.from_numpy(np.array(slow)).float()
    kept = x.clone()
    for result in (layer(x), layer.in_phases(x), layer.by_convolution(x)):
        torch.testing.assert_close(result, expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(x, kept)


def test_codes_are_those_of_the_nearest_direction() -> None:
    torch.manual_seed(0)
    vq = FactorizedVQ(BigCodecSizes(latent_dim=6, codebook_size=20, codebook_dim=3)).requires_grad_(False)
    vq._codebook.weight *= torch.logspace(-2, 2, 20)[:, None]  # lengths must not matter to the search
    latents = torch.randn(2, 6, 15)
    codes = vq.encode(latents)
    book = vq._codebook.weight.double().numpy()
    quantized = vq.decode(codes)
    for b in range(2):
        for t in range(15):
            point = vq.in_proj.weight.double().numpy() @ latents[b, :, t].double().numpy() + vq.in_proj.bias.numpy()
            point /= np.linalg.norm(point)
            distances = [np.linalg.norm(point - entry / np.linalg.norm(entry)) for entry in book]
            assert int(codes[b, t]) == int(np.argmin(distances))
            row = vq.out_proj.weight @ vq._codebook.weight[codes[b, t]] + vq.out_proj.bias
            torch.testing.assert_close(quantized[b, :, t], row)
    assert codes.unique().numel() > 5


@pytest.mark.parametrize("stride", [2, 3, 5])
def test_strides_scale_the_frames_exactly_and_keep_the_place(stride: int) -> None:
    down = EncoderBlock(2, stride, dilations=(1,)).block[-1].requires_grad_(False)
    up = DecoderBlock(4, stride, dilations=(1,)).block[1].requires_grad_(False)
    pad, frames = math.ceil(stride / 2), 4
    x, y = torch.randn(2, frames * stride), torch.randn(4, frames)
    held = torch.cat([torch.zeros(2, pad), x, torch.zeros(2, 2 * stride)], dim=1)
    expected = torch.stack(
        [(down.weight * held[:, n * stride : (n + 2) * stride]).sum((1, 2)) + down.bias for n in range(frames)], dim=1
    )
    torch.testing.assert_close(down(x[None])[0], expected, atol=1e-5, rtol=1e-5)
    spread = torch.zeros(2, (frames + 2) * stride)
    for n in range(frames):
        spread[:, n * stride : (n + 2) * stride] += torch.einsum("i,iok->ok", y[:, n], up.weight)
    expected = spread[:, pad : pad + frames * stride] + up.bias[:, None]
    torch.testing.assert_close(up(y[None])[0], expected, atol=1e-5, rtol=1e-5)
