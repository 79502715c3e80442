"""Screenshots are made small without changing what they show."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from iot_platform.settings import PROJECT_ROOT


@pytest.fixture(scope="module")
def picture(deploy_program: Callable[[str], ModuleType]) -> ModuleType:
    return deploy_program("picture")


def png(pixels: np.ndarray, picture: ModuleType) -> bytes:
    """An RGB picture whose lines are filtered by each of the five filters in turn, byte by byte as the format says."""
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, width * channels).astype(int)
    lines = b""
    for y in range(height):
        kind = y % 5
        line = bytearray([kind])
        for x in range(width * channels):
            left = flat[y, x - channels] if x >= channels else 0
            up = flat[y - 1, x] if y else 0
            corner = flat[y - 1, x - channels] if y and x >= channels else 0
            guess = (0, left, up, (left + up) // 2, picture.nearest_of(left, up, corner))[kind]
            line.append((flat[y, x] - guess) & 255)
        lines += bytes(line)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return picture.SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_every_filter_of_the_format_is_undone(picture: ModuleType) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    assert np.array_equal(picture.decode(png(pixels, picture)), pixels)


def test_a_picture_of_few_colours_stays_as_it_is_and_frequent_colours_always_do(picture: ModuleType) -> None:
    few = np.random.default_rng(7).integers(0, 6, (20, 30, 3), dtype=np.uint8) * 50
    colours, numbers = picture.palette(few)
    assert np.array_equal(colours[numbers], few)
    many = np.random.default_rng(7).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    many[:20] = (12, 34, 56)
    colours, numbers = picture.palette(many)
    assert len(colours) == picture.COLOURS and (colours[numbers][:20] == (12, 34, 56)).all()


def test_the_smaller_of_both_is_kept_and_other_formats_are_refused(picture: ModuleType) -> None:
    blank = png(np.full((60, 60, 3), 255, np.uint8), picture)
    assert len(picture.small(blank)) <= len(blank)
    with pytest.raises(ValueError, match="not an 8-bit RGB"):
        picture.decode(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">IIBB", 1, 1, 8, 3))


def test_the_tours_pictures_are_small() -> None:
    pictures = list((PROJECT_ROOT / "docs" / "images").glob("*.png"))
    assert len(pictures) >= 6 and all(path.stat().st_size <= 150_000 for path in pictures)
