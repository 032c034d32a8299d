"""The frames of MPEG audio (MP3, layers 1 to 3), counted without decoding them."""

from __future__ import annotations

from typing import NamedTuple

# kbit/s by (MPEG 1 or a lower rate, layer).
_BIT_RATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_VERSIONS = {3: 1, 2: 2, 0: 4}  # bits -> what the rates of MPEG 1 are divided by
# As far as libsndfile looks for the next frame where something else lies between two.
_RESYNC_BYTES = 1024
# Version, layer and sampling rate: equal in all frames of a file.
_FIXED = (0xFF, 0xFE, 0x0C)


class MpegScan(NamedTuple):
    """What lies in a file.

    frames: whole ones with audio, that which holds the length left out.
    samples: of all these.
    promised: frames that the first one says there are; None where it does not.
    beyond: bytes by which the last one reaches beyond the file; it is not counted.
    """

    frames: int
    samples: int
    promised: int | None
    beyond: int


def scan_mpeg(data: bytes) -> MpegScan:
    """Count the frames from the start of `data`, over what does not belong to any."""
    place, frames, promised, beyond = 0, 0, None, 0
    first = b""
    samples = 0
    known: dict[bytes, tuple[int, int]] = {}  # a file has few kinds of frames
    while True:
        head = data[place : place + 3]
        if head in known and place + 4 <= len(data):
            length, samples_each = known[head]
        else:
            length, samples_each = _frame(data, place, first)
            if first and length:
                known[head] = length, samples_each
        if not length:
            place = _next_frame(data, place, first)
            if place < 0:
                break
            continue
        if place + length > len(data):
            beyond = place + length - len(data)
            break
        if not first:
            first = data[place : place + 4]
            promised, is_tag = _promised(data[place : place + length])
            frames -= is_tag
            samples -= is_tag * samples_each
        frames += 1
        samples += samples_each
        place += length
    return MpegScan(frames, samples, promised, beyond)


def _frame(data: bytes, place: int, first: bytes) -> tuple[int, int]:
    """Bytes and samples of the frame at `place`; 0 and 0 where there is none like the first."""
    head = data[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0, 0
    if first and any((one ^ other) & mask for one, other, mask in zip(head, first, _FIXED, strict=False)):
        return 0, 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_code, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_code in (0, 15) or rate_index == 3:
        return 0, 0
    rate = _RATES[rate_index] // _VERSIONS[version]
    bits = 1000 * _BIT_RATES[version == 3, layer][rate_code]
    if layer == 1:
        return (12 * bits // rate + padding) * 4, 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate + padding, samples


def _next_frame(data: bytes, place: int, first: bytes) -> int:
    """Where the next frame begins that another one, or the end, follows; -1 where there is none near."""
    end = place + _RESYNC_BYTES
    while (place := data.find(b"\xff", place + 1, end)) >= 0:
        length, _ = _frame(data, place, first)
        if length and (
            place + length == len(data) or _frame(data, place + length, first or data[place : place + 4])[0]
        ):
            return place
    return -1


def _promised(frame: bytes) -> tuple[int | None, bool]:
    """The number of frames that a file's first frame holds, and whether it holds that instead of audio."""
    is_mono = frame[3] >> 6 == 3
    side = (17 if is_mono else 32) if frame[1] >> 3 & 3 == 3 else (9 if is_mono else 17)
    for place in (4 + side, 6 + side):  # behind two bytes of checksum, perhaps
        tag = frame[place : place + 12]
        if tag[:4] in (b"Xing", b"Info"):
            known = len(tag) == 12 and tag[7] & 1
            return (int.from_bytes(tag[8:], "big") if known else None), True
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), True
    return None, False
