"""UTMOS: predicted mean opinion score of the naturalness of one utterance, without a reference.

Definition: Saeki, Xin, Nakata, Koriyama, Takamichi, Saruwatari, "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge
2022", Interspeech 2022 (arXiv 2204.02152): the strong learner without phoneme encoder, checkpoint of step 7459.
wav2vec 2.0 base, fine-tuned; an embedding of the listening test (0) and of the listener (288) appended to each frame;
BLSTM; two linear layers; the mean over frames times 2 plus 3.
Implementation: the network of `utmos_pytorch` (free of fairseq), with weights that are compared with their published
SHA-256 before they are loaded, and of which none may be missing.
Rate: 16 kHz. Range: trained on opinions from 1 to 5; not clipped, so slightly beyond on odd input. Higher is better.
Published anchor: 4.086 for the originals of LibriSpeech test-clean (README of utmos_pytorch), 4.09 in tables.
Scale: not normalized before the network; its first layer normalizes each channel over the clip.
Limits:
- One clip at a time: the network has no mask for padding, so a clip padded to the length of another scores differently.
- Every frame attends to every other, and a pass takes about 20 MB for each second of the clip: clips beyond 60 s are
  refused. It learned from single sentences (below 15 s) of speech synthesis and voice conversion.
- It judges naturalness, not likeness: fluent speech of another voice, or with other words, scores high. It hears
  nothing above 8 kHz.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.signals import Unavailable, Unscorable, check_signal, library_version
from evalkit.metrics.weights import WeightFile, check_weights, require_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

# Size and digests are those that public code states (that of the first in four projects, one of which read it from
# the LFS record of a mirror; that of the second in one). They were not confirmed by a download of our own.
WEIGHT_FILES = (
    WeightFile(
        file_name="utmos22_strong_step7459_v1.pt",
        url="https://github.com/tarepan/SpeechMOS/releases/download/v1.0.0/utmos22_strong_step7459_v1.pt",
        size=411_179_119,
        sha256="38aa51ab79e2a4e09a1449758a4b37e9cbb2e8235a49662a732d33a9ba1e9bff",
        source="tarepan/SpeechMOS v1.0.0, from sarulab-speech/UTMOS22, MIT",
    ),
    WeightFile(
        file_name="utmos_state_dict.pt",
        url="https://huggingface.co/Blinorot/UTMOS-PyTorch/resolve/4f2447e519df3b88567b45583d3500006729502b/"
        "utmos_state_dict.pt",
        size=None,
        sha256="21b98001a7d5164d562a40d76aff80ae996deeabe4473c3a6786d1c591c2cc47",
        source="Blinorot/UTMOS-PyTorch, from sarulab-speech/UTMOS22, MIT",
    ),
)
SAMPLE_RATE = 16_000
# One frame takes 400 samples (25 ms); a quarter of a second is the least that PESQ takes too, and no utterance.
MIN_SECONDS = 0.25
MAX_SECONDS = 60.0


class Utmos:
    """UTMOS at 16 kHz (see the module's text for definition, range and limits).

    Raises:
        Unavailable: `utmos_pytorch` or the weights are missing; the message says how to get them.
    """

    name: str = "utmos"
    label: str = "UTMOS"
    unit: str = "MOS"
    higher_is_better: bool = True
    needs_reference: bool = False
    sample_rate: int | None = SAMPLE_RATE
    decimals: int = 2
    threshold = 0.05
    headline = True
    packages = ("utmos-pytorch",)

    def __init__(self) -> None:
        library = library_version("utmos-pytorch")
        self._path, self._file = require_weights(self.name)
        self.version = f"utmos22 strong, utmos-pytorch {library}, weights {self._file.sha256[:12]}"
        self._device = "cpu"
        self._refusal = ""

    def to(self, device: str) -> None:
        """Have the network run on `device`, such as "cuda"."""
        self._device = device

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """UTMOS of `estimate` (samples,), float in [-1, 1] at 16000 Hz; `reference` is not looked at.

        Raises:
            Unavailable: the weights are not the published ones; the message gives both digests.
            Unscorable: a silent or non-finite signal, another rate, shorter than 0.25 s or longer than 60 s.
        """
        if sample_rate != self.sample_rate:
            raise Unscorable(f"UTMOS needs {self.sample_rate} Hz, got {sample_rate} Hz")
        check_signal(estimate, "estimate")
        seconds = estimate.size / sample_rate
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise Unscorable(f"lasts {seconds:.3f} s, UTMOS takes {MIN_SECONDS:g} to {MAX_SECONDS:g} s")
        import torch

        return float(self._network().scores(torch.from_numpy(np.array(estimate[None], dtype=np.float32))))

    def _network(self) -> UtmosNetwork:
        if self._refusal:  # not read again for every utterance
            raise Unavailable(self._refusal)
        try:
            return load_network(self._path, self._file, self._device)
        except Unavailable as error:
            self._refusal = str(error)
            raise


class UtmosNetwork:
    """The network with its weights, in eval mode.

    Args:
        state: weights in either layout (see utmos_layouts); used in place, not copied.
        device: where it runs.

    Raises:
        Unavailable: names or shapes that do not fit; the message gives them.
    """

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        import torch
        from utmos_pytorch.utmos_torch import remove_weight_norm_for_jit

        from evalkit.metrics.utmos_layouts import to_package_layout

        # Without memory: random weights for 100 million parameters would only be thrown away.
        with torch.device("meta"):
            model = empty_model()
        try:
            model.load_state_dict(to_package_layout(state), strict=True, assign=True)
        except RuntimeError as error:
            raise Unavailable(f"utmos: the weights do not fit: {' '.join(str(error).split())}") from error
        # As the package does: the normalized weight is computed once, not in each pass.
        self._model = remove_weight_norm_for_jit(model.eval().requires_grad_(False)).to(device)
        self._device = device

    def scores(self, batch: Tensor) -> Tensor:
        """Scores (batch,) of a batch (batch, samples), float at 16 kHz, all clips of one length and none padded."""
        import torch

        from evalkit.metrics.utmos_layouts import DOMAIN, JUDGE

        count = batch.shape[0]
        with torch.inference_mode():
            frames = self._model(
                batch.to(self._device).unsqueeze(1),
                torch.full((count,), DOMAIN, device=self._device),
                torch.full((count,), JUDGE, device=self._device),
            )
            return frames.mean(dim=1).squeeze(1).cpu() * 2 + 3


def empty_model() -> nn.Module:
    """The package's network as it builds it, with random weights."""
    from utmos_pytorch.utmos_torch import UTMOSModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm.*deprecated", category=FutureWarning)
        model: nn.Module = UTMOSModel()
    return model


@functools.cache
def load_network(path: Path, file: WeightFile, device: str = "cpu") -> UtmosNetwork:
    """The network with the weights of `path`, which must be `file`; one per process and device.

    The file is mapped, not read: processes that score side by side share it.

    Raises:
        Unavailable: the file is not the published one, or does not fit the network.
    """
    import torch

    check_weights(Utmos.name, path, file)
    return UtmosNetwork(torch.load(path, map_location="cpu", mmap=True, weights_only=True), device)
