"""What audio files claim of their own length, held against what is in them.

libsndfile takes a file that was cut off for a shorter one in most formats, guesses the length of MP3 that holds none,
and reads the first of several streams. Each check here looks at headers and, where it must, at the places of frames;
none decodes. MP3 and Ogg are walked from end to end, since neither says how long it is before its end.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from typing import BinaryIO

from q2d2.flac import flac_frame_end
from q2d2.mpeg import MpegScan, scan_mpeg

# What a header says of a length that was not known when it was written (streams): not damage.
_UNKNOWN_LENGTHS = {0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000}
_NO_LENGTH = 2**62  # in headers of 64 bits, this or more
_NO_SAMPLES = "corrupt or not audio, or cut off before its samples begin"
_CONVERT = "convert the file, for example with `ffmpeg -i`"
# A FLAC frame of 65,535 equal samples takes some ten bytes; no other format comes near.
MOST_SAMPLES_A_BYTE = 8192
_FLAC_WINDOW = 8192
_UNCOMPRESSED_WAV = {b"\x01\x00", b"\x03\x00", b"\x06\x00", b"\x07\x00", b"\xfe\xff"}
_UNCOMPRESSED_AIFC = {b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64", b"ulaw", b"alaw"}


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Doubtful(ValueError):
    """A file that is not whole, or whose length nobody knows; the message says which."""


def checked_frames(path: str | os.PathLike[str], container: str, frames: int) -> int:
    """How many frames (samples per channel) can be read of a file.

    Args:
        container: libsndfile's name of its format.
        frames: that libsndfile promises.

    Raises:
        Doubtful: the file is cut off, holds no length, holds several streams, or is of a format that cannot be checked.
        OSError: it cannot be read.
    """
    check = _CHECKS.get(container)
    if check is None:
        raise Doubtful(f"{container} files cannot be checked for being whole; convert it to FLAC or WAV")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(_id3_bytes(file))
        found = check(file, size, frames)
    if found > size * MOST_SAMPLES_A_BYTE:
        raise Doubtful(f"the header promises {found:,} samples, more than {size:,} bytes can hold")
    return found


def why_unreadable(path: str | os.PathLike[str]) -> str:
    """What is wrong with a file that libsndfile refuses, where its own header tells; else nothing."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = _id3_bytes(file)
        file.seek(begin)
        magic = file.read(4)
        file.seek(begin)
        try:
            if magic in _MAGIC:
                _CHECKS[_MAGIC[magic]](file, size, 0)
        except Doubtful as error:
            return str(error)
    return ""


def _id3_bytes(file: BinaryIO) -> int:
    """Where the audio begins behind an ID3v2 tag."""
    head = file.read(10)
    if len(head) < 10 or not head.startswith(b"ID3"):
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)) + footer


def _require(claimed: int, there: int) -> None:
    """Hold the bytes of samples that a header claims against those that are left of the file."""
    if claimed in _UNKNOWN_LENGTHS or claimed >= _NO_LENGTH:
        return
    if claimed == 0 and there > 0:
        raise Doubtful(
            f"the header says 0 bytes of samples, {there} bytes follow: a stream whose length was never written; "
            "convert the file, for example with `ffmpeg -ignore_length 1 -i`"
        )
    if claimed > there:
        raise Doubtful(f"cut off: the header promises {claimed} bytes of audio, {there} are there")


def _riff(file: BinaryIO, size: int, frames: int) -> int:
    form = file.read(12)[:4]
    order = "big" if form in (b"RIFX", b"FFIR") else "little"
    long_size = None
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise Doubtful(_NO_SAMPLES)
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        start = file.tell()
        if head[:4] == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], order)  # type: ignore[arg-type]
        if head[:4] == b"data":
            claimed = long_size if long_size is not None and length == 0xFFFFFFFF else length
            _require(claimed, size - start)
            return frames
        file.seek(min(start + length + length % 2, size))


def _w64(file: BinaryIO, size: int, frames: int) -> int:
    """libsndfile takes all that follows for samples, tags too."""
    file.seek(40, os.SEEK_CUR)
    align = 0
    while True:
        start = file.tell()
        head = file.read(24)
        if len(head) < 24:
            raise Doubtful(_NO_SAMPLES)
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            _require(max(0, length - 24), size - start - 24)
            return min(frames, (length - 24) // align) if align and length < _NO_LENGTH else frames
        if length < 24:
            raise Doubtful("corrupt: a chunk is shorter than its own header")
        if head[:4] == b"fmt ":
            described = file.read(14)
            if described[:2] in _UNCOMPRESSED_WAV:
                align = int.from_bytes(described[12:], "little")
        file.seek(min(start + length + -length % 8, size))


def _aiff(file: BinaryIO, size: int, frames: int) -> int:
    form = file.read(12)[8:]
    promised = samples = None
    while (promised is None or samples is None) and len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "big")
        start = file.tell()
        if head[:4] == b"COMM":
            common = file.read(22)
            if form == b"AIFF" or common[18:] in _UNCOMPRESSED_AIFC:
                promised = int.from_bytes(common[2:6], "big")
            else:
                promised = frames  # counted in packets
        if head[:4] == b"SSND":
            samples = length
            _require(max(0, length - 8) if length not in _UNKNOWN_LENGTHS else length, size - start - 8)
        file.seek(min(start + length + length % 2, size))
    if samples is None or promised is None:
        raise Doubtful(_NO_SAMPLES)
    if promised > frames and samples not in _UNKNOWN_LENGTHS:
        raise Doubtful(f"cut off: the header promises {promised} samples, {frames} are there")
    return frames


def _au(file: BinaryIO, size: int, frames: int) -> int:
    begin = file.tell()
    head = file.read(12)
    order = "big" if head[:4] == b".snd" else "little"
    offset, claimed = (int.from_bytes(head[place : place + 4], order) for place in (4, 8))  # type: ignore[arg-type]
    _require(claimed, max(0, size - begin - offset))
    return frames


def _caf(file: BinaryIO, size: int, frames: int) -> int:
    file.seek(8, os.SEEK_CUR)
    while len(head := file.read(12)) == 12:
        length = int.from_bytes(head[4:], "big")
        start = file.tell()
        if head[:4] == b"data":  # its first four bytes count edits
            if length >= _NO_LENGTH:
                raise Doubtful(f"the header holds no length; {_CONVERT}")
            _require(max(0, length - 4), max(0, size - start - 4))
            return frames
        file.seek(min(start + length, size))
    raise Doubtful(_NO_SAMPLES)


def _nist(file: BinaryIO, size: int, frames: int) -> int:
    begin = file.tell()
    head = file.read(16)
    header = int(head.split()[1]) if re.fullmatch(rb"NIST_1A\n\s*\d+\n", head) else 1024
    text = head + file.read(max(0, min(header, 2**16) - len(head)))
    fields = {name: int(value) for name, value in re.findall(rb"^(\w+) -i (\d{1,18})\s*$", text, re.MULTILINE)}
    samples = fields.get(b"sample_count")
    if samples is not None:
        width = fields.get(b"channel_count", 1) * fields.get(b"sample_n_bytes", 1)
        _require(samples * width, max(0, size - begin - header))
    return frames


def _flac(file: BinaryIO, size: int, frames: int) -> int:
    """Look for the frame that ends where the header says, from the end on: what follows it may be tags."""
    begin = file.tell()
    info = file.read(42)
    if len(info) < 42 or info[:4] != b"fLaC":
        return frames  # libsndfile found it in a place of its own; decoding tells
    block, longest = int.from_bytes(info[8:10], "big"), int.from_bytes(info[15:18], "big")
    total = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
    if total == 0:
        raise Doubtful("the header holds no length; convert the file, for example with `flac` or `ffmpeg`")
    if total > size * MOST_SAMPLES_A_BYTE:
        return total
    window, end, last = (longest or _FLAC_WINDOW) + 512, size, 0
    while end > begin + 42:
        start = max(begin + 42, end - window)
        file.seek(start)
        held = file.read(end - start)
        for found in reversed(list(re.finditer(rb"\xff[\xf8\xf9]", held))):
            frame_end = flac_frame_end(held[found.start() : found.start() + 20], block)
            if frame_end == total:
                return frames
            last = last or frame_end
        if start == begin + 42:
            break
        end, window = start + 20, window * 4  # a header may lie across the border
    if last > total:
        raise Doubtful(f"the header promises {total} samples, {last} are there; {_CONVERT}")
    raise Doubtful(f"cut off: the header promises {total} samples, about {last} are there")


def _ogg(file: BinaryIO, size: int, frames: int) -> int:
    """Walk the pages: one stream, none missing, the last one marked as such. Tags may follow it."""
    place, serial, sequence, ended = file.tell(), b"", 0, False
    while len(head := file.read(27)) == 27 and head.startswith(b"OggS"):
        lengths = file.read(head[26])
        body = file.read(sum(lengths))
        place += 27 + head[26] + sum(lengths)
        if len(lengths) < head[26] or place > size:
            raise Doubtful(f"cut off: its last page ends {max(1, place - size)} bytes beyond the file")
        if serial and head[5] & 2:
            raise Doubtful(f"it holds several streams, of which only the first would be read; {_CONVERT}")
        serial = serial or head[14:18]
        number = int.from_bytes(head[18:22], "little")
        if head[14:18] != serial or number != sequence:
            raise Doubtful(f"damaged: page {number} of its stream comes where page {sequence} is expected")
        if _ogg_crc(head[:22] + bytes(4) + head[26:] + lengths + body) != int.from_bytes(head[22:26], "little"):
            raise Doubtful(f"damaged: page {number} of its stream has another checksum than it says")
        sequence, ended = number + 1, bool(head[5] & 4)
    if not ended:
        raise Doubtful("cut off: the page that ends the stream is missing")
    return frames


def _ogg_crc(page: bytes) -> int:
    """The checksum of Ogg is that of zlib with all bits in reverse, and without its first and last inversion."""
    reverse = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reverse.to_bytes(4, "little").translate(_REVERSED), "big")


def _mpeg(file: BinaryIO, size: int, frames: int) -> int:
    scan = scan_mpeg(file.read())
    if scan.beyond:
        raise Doubtful(f"cut off: its last frame ends {scan.beyond} bytes beyond the file")
    if scan.promised is None:
        return _guessed(scan, frames)
    # Some encoders count the frame that holds the length.
    if scan.promised > scan.frames + 1:
        raise Doubtful(f"cut off: the header promises {scan.promised} frames, {scan.frames} are there")
    if scan.promised < scan.frames - 1:
        raise Doubtful(
            f"the header promises {scan.promised} frames, {scan.frames} are there: several files in one? {_CONVERT}"
        )
    return frames


def _guessed(scan: MpegScan, frames: int) -> int:
    """Without a length libsndfile takes all frames to be as long as the first, and reads no further."""
    if not scan.frames:
        raise Doubtful("corrupt or not audio: no MPEG frames")
    if scan.samples > frames:
        raise Doubtful(
            f"the header holds no length, and the guess from its first frame, {frames} samples, is short of the "
            f"{scan.samples} that are there; {_CONVERT}"
        )
    return scan.samples


_CHECKS: dict[str, Callable[[BinaryIO, int, int], int]] = {
    "WAV": _riff, "WAVEX": _riff, "RF64": _riff, "W64": _w64, "AIFF": _aiff, "AU": _au, "CAF": _caf, "NIST": _nist,
    "FLAC": _flac, "OGG": _ogg, "MP3": _mpeg,
}  # fmt: skip
_MAGIC = {
    b"RIFF": "WAV", b"RIFX": "WAV", b"RF64": "RF64", b"riff": "W64", b"FORM": "AIFF", b".snd": "AU", b"dns.": "AU",
    b"caff": "CAF", b"NIST": "NIST", b"fLaC": "FLAC", b"OggS": "OGG",
}  # fmt: skip
