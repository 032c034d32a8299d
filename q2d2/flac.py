"""The header of a FLAC frame: where in the audio it lies."""

from __future__ import annotations


def flac_frame_end(head: bytes, block: int) -> int:
    """The sample that a frame ends with, counted from the start of the audio; 0 where these bytes begin no frame.

    Args:
        head: the first bytes of the frame, 20 or what is left of the file.
        block: samples of a frame where all but the last have equally many.
    """
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10:
        return 0
    extra = next((bits for bits in range(8) if not head[4] & 0x80 >> bits), 8)  # as UTF-8
    length = max(1, extra)
    if extra in (1, 8) or len(head) < 4 + length + 5:
        return 0
    number = head[4] & (0x7F >> extra)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    place = 4 + length
    code = head[2] >> 4
    if code == 1:
        samples = 192
    elif code < 6:
        samples = 576 << (code - 2)
    elif code < 8:
        samples = int.from_bytes(head[place : place + code - 5], "big") + 1
        place += code - 5
    else:
        samples = 256 << (code - 8)
    rate = head[2] & 15
    place += 1 if rate == 12 else 2 if rate > 12 else 0
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return 0
    return (number if head[1] & 1 else number * block) + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
