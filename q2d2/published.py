"""The published checkpoints' names of a codec's entries: which there are, loading and export, strict both ways.

A published file holds more than a forward pass uses: a SEANet decoder that is the same in every model, in Q2D2 a second
pair of projections, and the window of the ISTFT, which is a constant. These have to be there too, with their shapes,
and are handed back, so that an export holds all entries again. Training files add discriminators; these are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from q2d2.codec.codec import Codec
from q2d2.errors import UserError
from q2d2.quantizer import Q2D2
from q2d2.tensors import listed, tensor_faults, value_faults

Shapes = dict[str, tuple[int, ...]]

_PREFIXES = {"encoder": "feature_extractor.encodec.encoder.", "decoder": "backbone.", "head": "head."}
_QUANTIZER = "feature_extractor.encodec.quantizer."
_UNUSED_DECODER = "feature_extractor.encodec.decoder.model."
_WINDOW = "head.istft.window"
# Pieces of the encoder's names, ours first: the published code wraps each convolution once more and uses the older
# form of weight normalization.
_PIECES = (
    (".conv.", ".conv.conv."),
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)
# Of the training module beside the codec: discriminators, and the mel loss's window and filters.
_TRAINING = re.compile(r"(multiperioddisc|multiresddisc|dac|dacdiscriminator|melspec_loss)\.")


class CheckpointMismatch(UserError, ValueError):
    """Entries are missing, unexpected, of another shape or type; the message names them."""


def is_of_training(name: str) -> bool:
    """Whether a published entry belongs to the training, not to the codec."""
    return _TRAINING.match(name) is not None


def published_state(codec: Codec) -> dict[str, Tensor]:
    """What a forward pass of `codec` uses under the published names, `weight_g` and `weight_v` for weight norm.

    The tensors share memory with the codec's own: read them to export, copy into them to load.
    """
    state: dict[str, Tensor] = {}
    for part, prefix in _PREFIXES.items():
        for name, tensor in codec.get_submodule(part).state_dict().items():
            if part == "encoder":
                for ours, published in _PIECES:
                    name = name.replace(ours, published)
            state[prefix + name] = tensor
    return state | {_QUANTIZER + name: tensor for name, tensor in codec.bottleneck.published_state().items()}


def unused_shapes(codec: Codec) -> Shapes:
    """Names and shapes of what the published model of this codec holds and no forward pass of ours uses."""
    shapes = _seanet_decoder_shapes()
    if isinstance(codec.bottleneck, Q2D2):
        dim, channels = codec.bottleneck.dim, len(codec.bottleneck.levels)
        for part, sizes in (("project_in", (channels, dim)), ("project_out", (dim, channels))):
            shapes[f"{_QUANTIZER}quantizer.{part}.weight"] = sizes
            shapes[f"{_QUANTIZER}quantizer.{part}.bias"] = sizes[:1]
    return shapes | {_WINDOW: (codec.head.n_fft,)}


def published_shapes(codec: Codec) -> Shapes:
    """Names and shapes of all entries that the published model of this codec holds."""
    return {name: tuple(tensor.shape) for name, tensor in published_state(codec).items()} | unused_shapes(codec)


def load_published(codec: Codec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fill `codec` from a published state dict, in any order: all of `published_shapes`, and at most training entries.

    The tiling and levels of Q2D2 are not in the file: `codec` has to be built with the right ones.

    Returns:
        Copies of the entries that `codec` does not use, as `export_state` takes them.

    Raises:
        CheckpointMismatch: an entry is missing, unknown, no float32, of another shape or not finite, the codebook was
            never trained, or the window is no Hann window; `codec` is unchanged then.
    """
    expected = {name: torch.empty(shape, device="meta") for name, shape in published_shapes(codec).items()}
    given = {name: tensor for name, tensor in state.items() if not is_of_training(name)}
    unused = unused_shapes(codec)
    faults = tensor_faults(given, expected, floats=(torch.float32,), without_values=unused.keys())
    faults = faults or _constant_faults(given)
    if faults:
        raise CheckpointMismatch(f"published state does not fit this codec: {listed(faults)}")
    with torch.no_grad():
        for name, tensor in published_state(codec).items():
            tensor.copy_(given[name])
    return {name: given[name].clone() for name in unused}


def export_state(codec: Codec, unused: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The whole published state of `codec`, float32 on the CPU: what `load_published` takes.

    Args:
        codec: a codec that the published code can build, see `q2d2.published_config.published_config`.
        unused: what `load_published` returned. Without it the window is set and the rest are zeros, gains of weight
            norm ones; no published forward pass reads these either.

    Raises:
        CheckpointMismatch: `unused` holds other entries than it should, or values that are not finite.
    """
    shapes = unused_shapes(codec)
    if unused is None:
        unused = {
            name: torch.ones(shape) if name.endswith("weight_g") else torch.zeros(shape)
            for name, shape in shapes.items()
        } | {_WINDOW: torch.hann_window(codec.head.n_fft)}
    elif {name: tuple(tensor.shape) for name, tensor in unused.items()} != shapes:
        different = sorted(unused.keys() ^ shapes.keys()) or ["their shapes"]
        raise CheckpointMismatch(f"kept entries do not fit this codec: {', '.join(different[:5])}")
    elif faults := value_faults(unused):
        raise CheckpointMismatch(f"kept entries do not fit this codec: {listed(faults)}")
    whole = published_state(codec) | dict(unused)
    return {name: tensor.detach().cpu().float().contiguous().clone() for name, tensor in whole.items()}


def _constant_faults(state: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with entries that can have but one value."""
    faults = []
    for name, tensor in state.items():
        if name.endswith("._codebook.inited") and not bool(tensor.all()):
            faults.append(f"{name} is 0: this codebook was never trained")
        # The head's own window is a constant; with another one in the file the published model would sound different.
        if name == _WINDOW and not torch.allclose(tensor.cpu(), torch.hann_window(len(tensor)), atol=1e-6):
            faults.append(f"{name}: not the Hann window that this codec uses")
    return faults


def _seanet_decoder_shapes() -> Shapes:
    """Of the decoder of Encodec (arXiv 2210.13438, section 3.1) that every published model holds and none runs."""
    ratios, filters, dimension, lstm_layers = (8, 5, 4, 2), 32, 512, 2
    shapes: Shapes = {}

    def convolution(name: str, channels_out: int, channels_in: int, kernel: int, kind: str = "conv") -> None:
        own = f"{name}.{kind}.{kind}."
        first, second = (channels_in, channels_out) if kind == "convtr" else (channels_out, channels_in)
        shapes[_UNUSED_DECODER + own + "bias"] = (channels_out,)
        shapes[_UNUSED_DECODER + own + "weight_g"] = (first, 1, 1)
        shapes[_UNUSED_DECODER + own + "weight_v"] = (first, second, kernel)

    channels = filters * 2 ** len(ratios)
    convolution("0", channels, dimension, 7)
    for layer in range(lstm_layers):
        for side in ("ih", "hh"):
            shapes[f"{_UNUSED_DECODER}1.lstm.weight_{side}_l{layer}"] = (4 * channels, channels)
            shapes[f"{_UNUSED_DECODER}1.lstm.bias_{side}_l{layer}"] = (4 * channels,)
    position = 3  # 2, and every third one from here, is an activation
    for ratio in ratios:
        convolution(str(position), channels // 2, channels, 2 * ratio, "convtr")
        channels //= 2
        convolution(f"{position + 1}.block.1", channels // 2, channels, 3)
        convolution(f"{position + 1}.block.3", channels, channels // 2, 1)
        convolution(f"{position + 1}.shortcut", channels, channels, 1)
        position += 3
    convolution(str(position), 1, channels, 7)
    return shapes
