"""The shared WavTokenizer backbone: encoder, decoder, ISTFT head, and Codec, which holds them around a bottleneck."""

from q2d2.codec.codec import Codec, CodecOutput
from q2d2.codec.config import SIZES, CodecConfig, codec_config

__all__ = ["SIZES", "Codec", "CodecConfig", "CodecOutput", "codec_config"]
