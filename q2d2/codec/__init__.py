"""The shared WavTokenizer backbone: encoder, decoder, ISTFT head, and Codec, which holds them around a bottleneck.

`Codec` is imported when it is asked for: the shapes of a backbone are known without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q2d2.codec.config import SIZES, CodecConfig, codec_config

if TYPE_CHECKING:
    from q2d2.codec.codec import Codec, CodecOutput

__all__ = ["SIZES", "Codec", "CodecConfig", "CodecOutput", "codec_config"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from q2d2.codec import codec

    return getattr(codec, name)
