"""When two figures are equal: floats to 1e-9 relative, and no better than the numbers that they were summed from."""

from __future__ import annotations

import math
from typing import Any

from iot_platform_tests.transforms.rows import Row

RELATIVE = 1e-9
# A sum of numbers that cancel out keeps the rounding of its largest term.
OF_SCALE = 1e-12


def near(one: Any, other: Any, *, scale: float = 0.0, tolerance: float = 0.0) -> bool:
    if not isinstance(one, float) or not isinstance(other, float):
        return one == other
    if one == other or (math.isnan(one) and math.isnan(other)):
        return True
    return abs(one - other) <= max(RELATIVE * max(abs(one), abs(other)), OF_SCALE * scale, tolerance)


def z_tolerance(row: Row, scale: float = 0.0) -> float:
    """z is a difference of near-equal numbers: 1e-9 x (|z| + |mean| / std)."""
    z, mean, std = row.get("z_score"), row.get("recent_mean"), row.get("recent_std")
    if not z or mean is None or not std:
        return 0.0
    return RELATIVE * (abs(z) + abs(mean) / std) + OF_SCALE * (1 + abs(z)) * scale / std


def differences(one: Row, other: Row, columns: list[str], *, scale: float = 0.0) -> list[str]:
    """The columns in which two rows differ, in words."""
    found: list[str] = []
    for name in columns:
        tolerance = z_tolerance(one, scale) if name == "z_score" else 0.0
        if not near(one[name], other[name], scale=scale, tolerance=tolerance):
            found.append(f"{name}: {one[name]!r} != {other[name]!r}")
    return found
