"""How much memory a training takes, worked out from its shapes alone: nothing is computed and nothing is allocated."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from q2d2.bottleneck import NullBottleneck
from q2d2.codec import Codec, CodecConfig
from q2d2.training.adversarial import AdversarialLosses
from q2d2.training.config import TrainConfig
from q2d2.training.losses import ReconstructionLosses

PROCESS_BYTES = 800 * 2**20  # Python, torch, the loader
# A weight, its gradient and AdamW's two moments; a codec has an average of its weights as well.
CODEC_NUMBERS, DISCRIMINATOR_NUMBERS = 5, 4


def training_bytes(backbone: CodecConfig, config: TrainConfig, processes: int = 1) -> int:
    """Estimate of what one process of a training needs at its peak, in float32.

    Counted are weights with their optimizer, and all that the passes forward keep for those backward; the bottleneck's
    own share is left out. `tests/test_memory.py` compares it with what a training took.

    Args:
        backbone: sizes of the codec.
        config: of the training; its batch is shared out over `processes` and accumulated passes.
        processes: of torchrun.
    """
    items = max(1, config.batch_size // (processes * config.accumulate))
    samples = round(config.segment_seconds * backbone.sample_rate)
    objective = ReconstructionLosses(backbone.sample_rate, config.losses).to("meta")
    with torch.device("meta"):
        codec = Codec(backbone, NullBottleneck(backbone.dimension)).train()
        judges = AdversarialLosses(config.losses, config.discriminator_width)
        audio = torch.zeros(1, samples)
        kept = _Kept()
        with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
            output = codec(audio)
            made = output.audio.detach().requires_grad_()
            losses = [objective(output, audio)]
            if judges.weights:
                losses += judges(audio, made)
    weights = CODEC_NUMBERS * _bytes(codec) + DISCRIMINATOR_NUMBERS * _bytes(judges)
    return PROCESS_BYTES + weights + items * (kept.bytes - kept.of_weights(codec, judges))


def machine_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Kept:
    """Storages kept for the pass backward, each once."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[int, object]] = {}

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = (storage.nbytes(), storage)  # held, so that no number is used twice
        return tensor

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self._storages.values())

    def of_weights(self, *modules: nn.Module) -> int:
        """What of it are weights, which are there anyway."""
        weights = {weight.untyped_storage()._cdata for module in modules for weight in module.parameters()}
        return sum(size for key, (size, _) in self._storages.items() if key in weights)


def _bytes(module: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())
