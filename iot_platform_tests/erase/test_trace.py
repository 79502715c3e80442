"""A device's id is recognised as a whole token, in every spelling, and never inside another id."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_platform.erase.trace import ERASED, Trace

DEVICE = Trace("dev-1")


@pytest.mark.parametrize(
    "text",
    [
        "dev-1",
        '{"sensor_id": "dev-1", "n": 3}',
        "device dev-1.",
        "(dev-1)",
        "a/dev-1/b",
        "x dev-1\n",
        "ädev-1ä",
        "dev-1:dev-1",
    ],
)
def test_the_id_is_found_as_a_token(text: str) -> None:
    assert DEVICE.is_in(text) and DEVICE.is_in(text.encode())
    left = DEVICE.redacted(text)
    assert ERASED in left and not DEVICE.is_in(left)


@pytest.mark.parametrize("text", ["dev-10", "my-dev-1", "dev-1-b", "dev-1_", "adev-1", "dev-", "DEV-1", "", "dev 1"])
def test_it_is_no_part_of_a_longer_token(text: str) -> None:
    assert not DEVICE.is_in(text) and not DEVICE.is_in(text.encode())
    assert DEVICE.redacted(text) == text


def test_ids_of_other_devices_that_contain_it_are_passed_over() -> None:
    trace = Trace.of("r4", {"r4", "r4/co2", "hall/r4", "r4/co2/2", "r5"})
    assert trace.others == ("hall/r4", "r4/co2", "r4/co2/2")
    assert not trace.is_in('{"sensor_id": "r4/co2", "gateway": "hall/r4", "third": "r4/co2/2"}')
    assert trace.redacted('["r4/co2", "r4", "r4/no2"]') == f'["r4/co2", "{ERASED}", "{ERASED}/no2"]'


@pytest.mark.parametrize("device", ["gerät-7", 'a"b', "tab\tid", "back\\slash", "a b", "d'quote", "50%", "a.b*c", "😀"])
def test_every_spelling_of_json_is_known(device: str) -> None:
    trace = Trace(device)
    for text in (json.dumps({"a": device}), json.dumps({"a": device}, ensure_ascii=False), json.dumps(json.dumps([device]))):
        assert trace.is_in(text) and trace.is_in(text.encode())
        assert not trace.is_in(trace.redacted(text))
        json.loads(trace.redacted(text))


def test_bytes_that_are_no_text_are_looked_through_too() -> None:
    assert DEVICE.is_in(b"\xff\xfe\x00dev-1\x00\xff")
    assert not DEVICE.is_in(b"\xff\xfe\x00dev-12\x00\xff")
    assert not DEVICE.is_in(None)


def test_a_json_value_is_redacted_at_every_depth() -> None:
    value = {"dev-1": ["dev-1", {"x": "about dev-1"}], "n": 1, "none": None, "dev-10": True}
    assert DEVICE.redacted_json(value) == {
        ERASED: [ERASED, {"x": f"about {ERASED}"}], "n": 1, "none": None, "dev-10": True,
    }  # fmt: skip


@given(st.text(alphabet='dev-10/ :_x"', max_size=40))
def test_it_agrees_with_a_plain_look_at_the_tokens(text: str) -> None:
    assert DEVICE.is_in(text) == ("dev-1" in re.findall(r"[A-Za-z0-9_-]+", text))
    assert not DEVICE.is_in(DEVICE.redacted(text))
    assert [text[start:end] for start, end in DEVICE.places(text)] == ["dev-1"] * len(DEVICE.places(text))


@pytest.mark.parametrize(
    ("device", "text", "is_found"),
    [
        ("413", '{"sensor_id": "413"}', True), ("413", '{"value": 413}', False), ("413", "413", True),
        ("413", r'"{\"device_id\":\"413\"}"', True), ("413", "device_id = '413'", True), ("413", "room 413", False),
        ("value", '{"value": 1}', False), ("value", '{"sensor_id": "value", "value": 1}', True),
        ("nobody", "nobody knows", False),
    ],
)  # fmt: skip
def test_a_plain_word_or_number_is_the_id_only_as_a_text_of_its_own(device: str, text: str, is_found: bool) -> None:
    trace = Trace(device)
    assert trace.is_in(text) is is_found and trace.is_in(text.encode()) is is_found
    assert (trace.redacted(text) != text) is is_found and not trace.is_in(trace.redacted(text))
