"""Screenshots made small: a PNG of true colours into one of 256, compressed as far as it goes.

Pages have few colours; the most frequent stay as they are, the others (edges of letters) become the nearest of those.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256


def small(png: bytes) -> bytes:
    """The same picture with a palette; the given one when that is smaller. Takes 8-bit RGB or RGBA, as browsers write it."""
    made = encode(*palette(decode(png)))
    return min(made, png, key=len)


def decode(png: bytes) -> np.ndarray:
    """Height x width x 3, as bytes."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    if not png.startswith(SIGNATURE) or depth != 8 or kind not in (2, 6):
        raise ValueError("not an 8-bit RGB or RGBA PNG")
    channels = 3 if kind == 2 else 4
    data, place = b"", len(SIGNATURE)
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width * channels + 1)
    rows = np.zeros((height, width * channels), np.uint8)
    above = np.zeros(width * channels, np.uint8)
    for number, line in enumerate(lines):
        above = rows[number] = unfiltered(int(line[0]), line[1:], above, channels)
    return rows.reshape(height, width, channels)[:, :, :3]


def unfiltered(kind: int, line: np.ndarray, above: np.ndarray, channels: int) -> np.ndarray:
    """A line as it was before its filter (PNG specification, section 9)."""
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    if kind == 1:
        return np.cumsum(line.reshape(-1, channels), axis=0, dtype=np.uint64).astype(np.uint8).reshape(-1)
    left = [0] * channels
    corner = [0] * channels
    made: list[int] = []
    for place, (value, up) in enumerate(zip(line.tolist(), above.tolist(), strict=True)):
        channel = place % channels
        a, c = left[channel], corner[channel]
        guess = (a + up) // 2 if kind == 3 else nearest_of(a, up, c)
        left[channel] = (value + guess) & 255
        corner[channel] = up
        made.append(left[channel])
    return np.array(made, np.uint8)


def nearest_of(left: int, up: int, corner: int) -> int:
    """Paeth's predictor."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def palette(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colours (n x 3), and for each pixel the number of its own."""
    height, width, _ = pixels.shape
    packed = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, numbers, counts = np.unique(packed, return_inverse=True, return_counts=True)
    kept = np.argsort(-counts)[:COLOURS]
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.int32)
    nearest = np.concatenate(
        [np.square(rgb[n : n + 1024, None] - rgb[None, kept]).sum(axis=2).argmin(axis=1) for n in range(0, len(rgb), 1024)]
    )
    return rgb[kept].astype(np.uint8), nearest[numbers].astype(np.uint8).reshape(height, width)


def encode(colours: np.ndarray, pixels: np.ndarray) -> bytes:
    """A PNG with a palette."""
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = pixels
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
