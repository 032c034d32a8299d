"""Audio files into token files and back: the work of `evalkit encode` and `evalkit decode`."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from evalkit.tokens.file_jobs import Job, JobError, Work, ahead
from q2d2.audio import AudioError, read_blocks, read_header
from q2d2.codec import Codec
from q2d2.codec.chunks import ENCODE_SECONDS, Chunking, codec_device, decode_blocks, encode_blocks
from q2d2.files import file_sha256, whole
from q2d2.rates import RateError, check_rates
from q2d2.resampling import resample_blocks, resampled_length
from q2d2.tokens import CodecIdentity, Source, TokenError, Tokens, check_codec, load_tokens, save_tokens

# FLAC holds integers: 16 bits, as nearly all speech corpora. WAV keeps what the codec gives, beyond [-1, 1] too.
SUBTYPES = {".flac": "PCM_16", ".wav": "FLOAT"}
WAV_BYTES = 2**32 - 2**16  # its header counts in 32 bits


class Encoding:
    """Audio files -> token files (a Worker of evalkit.tokens.file_jobs).

    Args:
        codec: in eval mode, on its device.
        identity: of its checkpoint.
        overwrite: replace what exists.

    Raises:
        JobError: the codec has no codes.
    """

    def __init__(self, codec: Codec, identity: CodecIdentity, *, overwrite: bool = False) -> None:
        if not codec.bottleneck.codebook_sizes:
            raise JobError(f"codec {identity} has no codes to write: choose a checkpoint with a bottleneck")
        self.codec = codec
        self.identity = identity
        self.overwrite = overwrite
        self.device = codec_device(codec)

    def plan(self, job: Job) -> Work | None:
        """The work of a job: a batch takes recordings of equal length up to ENCODE_SECONDS, longer ones go alone.

        Raises:
            AudioError: the source cannot be read, or the target exists and was made of something else.
        """
        header = read_header(job.source)
        try:
            check_rates(header.sample_rate, self.codec.sample_rate)
        except RateError as error:
            raise AudioError(job.source, str(error)) from error
        seconds = header.frames / header.sample_rate
        length = resampled_length(header.frames, header.sample_rate, self.codec.sample_rate)
        work = Work(job, seconds, length if seconds <= ENCODE_SECONDS else None)
        if self.overwrite or not job.target.exists():
            return work
        try:
            found = load_tokens(job.target)
        except TokenError as error:
            raise AudioError(job.source, f"{error}; --overwrite replaces it") from error
        if found.codec.is_same(self.identity) and found.source.sha256 == file_sha256(job.source):
            return None
        other = "another recording" if found.codec.is_same(self.identity) else f"another codec, {found.codec}"
        raise AudioError(job.source, f"{job.target} exists, made of {other}: use another folder, or --overwrite")

    def read(self, work: Work) -> Tensor | None:
        """Audio (samples,) at the codec's rate; None for what goes alone, which is read while it is encoded.

        Raises:
            AudioError: the file is damaged.
        """
        return None if work.group is None else torch.cat(list(self._blocks(work.job.source)))

    def do(self, works: Sequence[Work], contents: Sequence[Tensor | None], advance: Callable[[float], None]) -> None:
        """Encode works of equal length together, or one of any length, and write the token files.

        Raises:
            AudioError: a file that is read while it is encoded is damaged.
        """
        audio = [content for content in contents if content is not None]
        if audio:
            with torch.inference_mode():
                codes = self.codec.encode(torch.stack(audio).to(self.device)).cpu()
        else:
            codes = encode_blocks(self.codec, self._told(works[0], advance))
        for work, own in zip(works, codes, strict=True):
            header = read_header(work.job.source)
            source = Source(work.job.source.name, header.sample_rate, header.frames, file_sha256(work.job.source))
            tokens = Tokens(
                own,
                resampled_length(header.frames, header.sample_rate, self.codec.sample_rate),
                self.codec.sample_rate,
                self.codec.hop_length,
                self.codec.bottleneck.codebook_sizes,
                self.identity,
                source,
            )
            save_tokens(work.job.target, tokens)
            if audio:
                advance(work.seconds)

    def _blocks(self, path: Path) -> Iterator[Tensor]:
        """Audio (samples,) at the codec's rate, in blocks."""
        blocks = (torch.from_numpy(block) for block in read_blocks(path))
        return resample_blocks(blocks, read_header(path).sample_rate, self.codec.sample_rate)

    def _told(self, work: Work, advance: Callable[[float], None]) -> Iterator[Tensor]:
        """Blocks (1, samples) on the codec's device; progress is what has been read."""
        for block in ahead(self._blocks(work.job.source)):
            yield block[None].to(self.device)
            advance(block.shape[-1] / self.codec.sample_rate)


class Decoding:
    """Token files -> audio files (a Worker of evalkit.tokens.file_jobs).

    Args:
        codec: in eval mode, on its device.
        identity: of its checkpoint.
        original_rate: write at the rate and with the number of samples of the recording, not at the codec's.
        batch_seconds: of windows of a long recording, computed together at most.
        overwrite: replace what exists.
        force: decode tokens of another codec.
    """

    def __init__(
        self,
        codec: Codec,
        identity: CodecIdentity,
        *,
        original_rate: bool = False,
        batch_seconds: float = 0.0,
        overwrite: bool = False,
        force: bool = False,
    ) -> None:
        self.codec = codec
        self.identity = identity
        self.original_rate = original_rate
        self.overwrite = overwrite
        self.force = force
        self.device = codec_device(codec)
        self.chunking = Chunking()
        self.windows = max(1, int(batch_seconds / self.chunking.window_seconds))

    def plan(self, job: Job) -> Work | None:
        """The work of a job: a batch takes tokens of equally many frames, what is decoded in windows goes alone.

        Raises:
            TokenError: the tokens are damaged or of another codec, or the target exists and was made of others.
        """
        tokens = self.read_tokens(job.source)
        rate, length = self._format(tokens)
        if job.target.suffix == ".wav" and 4 * length > WAV_BYTES:
            raise TokenError(
                f"{job.source}: {tokens.seconds / 3600:.1f} hours do not fit a WAV file: use --format flac"
            )
        frames = tokens.codes.shape[-1]
        work = Work(job, tokens.seconds, frames if self.chunking.is_whole(frames, self.codec.frame_rate) else None)
        if self.overwrite or not job.target.exists():
            return work
        try:
            with soundfile.SoundFile(job.target) as file:
                found = (file.comment, file.samplerate, file.frames)
        except (soundfile.LibsndfileError, OSError):
            found = None
        if found == (self._comment(tokens), rate, length):
            return None
        raise TokenError(
            f"{job.source}: {job.target} exists, made of other tokens, by another codec or at another rate: use "
            "another folder, or --overwrite"
        )

    def read_tokens(self, path: Path) -> Tokens:
        """The tokens in a file, which this codec can decode.

        Raises:
            TokenError: they are damaged or of another codec.
        """
        tokens = load_tokens(path)
        check_codec(path, tokens, self.codec, self.identity, force=self.force)
        if self.original_rate:
            try:
                check_rates(tokens.sample_rate, tokens.source.sample_rate)
            except RateError as error:
                raise TokenError(f"{path}: {error}") from error
        return tokens

    def read(self, work: Work) -> Tokens:
        """The tokens of a work."""
        return self.read_tokens(work.job.source)

    def do(self, works: Sequence[Work], contents: Sequence[Tokens], advance: Callable[[float], None]) -> None:
        """Decode tokens of equally many frames together, or one recording of any length, and write the audio files."""
        if works[0].group is None:
            blocks = decode_blocks(self.codec, contents[0].codes, contents[0].length, self.chunking, self.windows)
            self._write(works[0].job.target, contents[0], blocks, advance)
            return
        with torch.inference_mode():
            audio = self.codec.decode(torch.stack([tokens.codes for tokens in contents]).to(self.device)).cpu()
        for work, tokens, own in zip(works, contents, audio, strict=True):
            self._write(work.job.target, tokens, [own[: tokens.length]], advance)

    def _format(self, tokens: Tokens) -> tuple[int, int]:
        """Rate in Hz and number of samples of the audio to write."""
        return (
            (tokens.source.sample_rate, tokens.source.length)
            if self.original_rate
            else (tokens.sample_rate, tokens.length)
        )

    def _comment(self, tokens: Tokens) -> str:
        """Says in the audio file what it was made of."""
        made_of = json.dumps([tokens.sha256, self.identity.sha256, self.identity.bottleneck], sort_keys=True)
        return f"decoded from tokens, fingerprint {hashlib.sha256(made_of.encode()).hexdigest()}"

    def _write(self, target: Path, tokens: Tokens, blocks: Iterable[Tensor], advance: Callable[[float], None]) -> None:
        """Write audio (samples,) that arrives in blocks; whole or not at all."""
        rate, length = self._format(tokens)
        subtype, kind = SUBTYPES[target.suffix], target.suffix[1:].upper()
        left = length
        with whole(target) as part:
            try:
                with soundfile.SoundFile(part, "w", rate, 1, subtype, format=kind) as file:
                    file.comment = self._comment(tokens)
                    for block in resample_blocks(blocks, tokens.sample_rate, rate):
                        samples = block[:left].cpu().numpy()  # at the codec's rate there may be a little more
                        file.write(samples.clip(-1, 1) if subtype == "PCM_16" else samples.astype(np.float32))
                        left -= len(samples)
                        advance(len(samples) / rate)
            except soundfile.LibsndfileError as error:  # it hides the reason
                raise OSError(errno.EIO, "cannot be written: is the disk full?", str(target)) from error
