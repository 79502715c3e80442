"""Timestamps: what is taken, what it means, and the same text given back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_platform.contracts.refusal import Refused
from iot_platform.contracts.timestamps import render, timestamp_us
from iot_platform_tests.contracts.messages import EVENT_US


@pytest.mark.parametrize(
    ("written", "style"),
    [
        ("2026-11-19T10:11:12.345Z", ""),
        ("2026-11-19T10:11:12.345000Z", "6Z"),
        ("2026-11-19T10:11:12.345+00:00", "3+00:00"),
        ("2026-11-19T12:11:12.345+02:00", "3+02:00"),
        ("2026-11-19T04:41:12.345-0530", "3-0530"),
        ("2026-11-19t10:11:12.345z", None),
        ("2026-11-19 10:11:12.345Z", None),
        ("2026-11-19T10:11:12,345Z", None),
        ("20261119T101112.345Z", None),
        ("2026-11-19T10:11:12.3450001Z", None),
        (1_795_083_072_345, "ms"),
        (1_795_083_072_345_000, "us"),
        (1_795_083_072.345, "s."),
        (1_795_083_072_345.0, "ms."),
    ],
)
def test_the_same_moment_in_every_form(written: str | float, style: str | None) -> None:
    assert timestamp_us(written, "timestamp") == (EVENT_US, style)
    if style is not None:
        assert render(EVENT_US, style) == written


def test_whole_seconds_and_days_and_hours() -> None:
    assert timestamp_us("2026-11-19T10:11:12Z", "t") == (EVENT_US - 345_000, "")
    assert timestamp_us(1_795_083_072, "t") == (EVENT_US - 345_000, "s")
    assert timestamp_us("2026-11-19T10:11Z", "t")[0] == EVENT_US - 12_345_000
    assert timestamp_us("20261119T1011Z", "t")[0] == EVENT_US - 12_345_000


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-19T10:11:12", "2026-11-19T25:00:00Z", "٢٠٢٦-11-19T10:11:12Z", "2026-11-19x10:11:12Z",
        "0000-01-01T00:00:00Z", "2026-11-19T10:11:12+24:00", "2026-11-19T10:11:12.Z",
        1e17, -1e18, float("nan"), float("inf"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(written: str | float) -> None:
    with pytest.raises(Refused) as refused:
        timestamp_us(written, "timestamp")
    assert refused.value.refusal.reason == "bad_timestamp"


def test_other_json_types_are_a_wrong_type() -> None:
    with pytest.raises(Refused) as refused:
        timestamp_us(None, "timestamp")
    assert refused.value.refusal.reason == "wrong_type"


@settings(deadline=None)
@given(
    us=st.integers(1_262_304_000_000_000, 4_102_444_800_000_000),
    zone=st.sampled_from(["Z", "+00:00", "-03:30", "+0200", "+14"]),
    digits=st.integers(0, 6),
)
def test_a_text_comes_back_as_it_was(us: int, zone: str, digits: int) -> None:
    us -= us % 10 ** (6 - digits)
    text = render(us, f"{digits}{zone}")
    assert isinstance(text, str)
    parsed, style = timestamp_us(text, "t")
    assert parsed == us
    assert style is not None
    assert render(parsed, style) == text
