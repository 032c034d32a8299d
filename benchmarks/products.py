"""The multiplications of a codec as plain matrix products of the same sizes: what arithmetic alone would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from q2d2.codec.decoder import PositionAttention

Shape = tuple[int, int, int]


class Product(NamedTuple):
    """`steps` products (rows, inner) x (inner, columns), one after another and with the same right side."""

    rows: int
    inner: int
    columns: int
    steps: int = 1

    @property
    def multiplications(self) -> int:
        return self.rows * self.inner * self.columns * self.steps


def products_of(module: nn.Module, call: Callable[[], object]) -> list[Product]:
    """The matrix products of one `call` of a plain codec, in its order.

    A convolution counts as its patches times its weight, the patches laid out beforehand. A layer of an LSTM counts as
    one product for the inputs of all frames and, because each frame waits for the one before, one for each frame.
    Depthwise convolutions, the FFT and the bottleneck are left out: they are under 0.3 % of the multiplications.
    """
    found: list[Product] = []

    def convolution(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        if layer.groups == 1:
            frames = output.shape[0] * output.shape[2]
            found.append(Product(frames, layer.in_channels * layer.kernel_size[0], layer.out_channels))

    def linear(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(Product(output.numel() // layer.out_features, layer.in_features, layer.out_features))

    def lstm(layer: Any, given: tuple[Tensor, ...], output: Any) -> None:
        frames, batch, channels = given[0].shape
        for _ in range(layer.num_layers):
            found.append(Product(frames * batch, channels, 4 * channels))
            found.append(Product(batch, channels, 4 * channels, steps=frames))

    def attention(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        batch, channels, frames = output.shape
        for _ in range(batch):
            found.extend((Product(frames, channels, frames), Product(frames, frames, channels)))

    # Q2D2's projections are Linear layers too: the bottleneck is not looked into.
    kinds = {nn.Conv1d: convolution, nn.Linear: linear, nn.LSTM: lstm, PositionAttention: attention}
    with _hooks(module, kinds):
        call()
    return found


@contextmanager
def _hooks(module: nn.Module, kinds: dict[type[nn.Module], Callable[..., None]]) -> Iterator[None]:
    handles = [
        layer.register_forward_hook(hook)
        for name, layer in module.named_modules()
        for kind, hook in kinds.items()
        if isinstance(layer, kind) and not name.startswith("bottleneck")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Products:
    """Runs products by torch.mm on random matrices, each product with its own, as each layer has its own weights."""

    def __init__(self, products: list[Product], dtype: torch.dtype) -> None:
        self.products = products
        self.operands = [
            (
                torch.randn(product.rows, product.inner).to(dtype),
                torch.randn(product.inner, product.columns).to(dtype),
                torch.empty(product.rows, product.columns, dtype=dtype),
            )
            for product in products
        ]

    @torch.inference_mode()
    def __call__(self) -> None:
        for product, (left, right, out) in zip(self.products, self.operands, strict=True):
            for _ in range(product.steps):
                torch.mm(left, right, out=out)
