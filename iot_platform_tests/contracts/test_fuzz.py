"""Whatever the bytes and the headers, a record gives readings or a refusal with a reason, each time the same."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.parse import KafkaRecord, Reading, Refusal, parse_record
from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.tables import BRONZE_READINGS, QUARANTINE_REASONS
from iot_platform_tests.contracts.messages import ARRIVAL_US, EVENT_US, RULES, TOPIC_OF, VALID
from iot_platform_tests.faults.poison import damaged

EXAMPLES = settings(max_examples=150, deadline=None)
NAMES = sorted({key for message in VALID.values() for key in message} | {"more", "$raw", "$time", "$absent", "$$"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12) | st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["contract", "contract_version", "replayed", "source", "x"]),
        st.none() | st.binary(max_size=12) | st.sampled_from([b"1", b"v1", b"2", b"device_event", b"generic_reading"]),
    ),
    max_size=4,
)


def judged(contract: str, value: bytes | None, headers: Any = ()) -> list[Reading] | Refusal:
    record = KafkaRecord(TOPIC_OF[contract], 0, 7, ARRIVAL_US, b"key", value, headers)
    parsed = parse_record(record, RULES)
    assert parsed == parse_record(record, RULES)  # a repeated batch decides the same
    if isinstance(parsed, Refusal):
        assert parsed.reason in QUARANTINE_REASONS and parsed.detail
        parsed.detail.encode()
    else:
        rows = [reading._asdict() for reading in parsed]
        assert len({row["metric"] for row in rows}) == len(rows) > 0
        assert rebuild_message(rows) == json.loads(value or b"")
        for row in rows:  # every row has a place in the table's types
            fields = [arrow_schema(BRONZE_READINGS).field(name) for name in row if name in BRONZE_READINGS.column_names]
            assert len(fields) == len(row)
            assert all(text is None or text.encode() is not None for text in row.values() if isinstance(text, str))
    return parsed


@EXAMPLES
@given(st.sampled_from(sorted(VALID)), st.binary(max_size=200), HEADERS)
def test_any_bytes_are_judged(contract: str, value: bytes, headers: Any) -> None:
    judged(contract, value, headers)


@EXAMPLES
@given(st.sampled_from(sorted(VALID)), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8), HEADERS)
def test_any_object_is_judged(contract: str, message: dict[str, Any], headers: Any) -> None:
    judged(contract, json.dumps(message).encode("utf-8", "surrogatepass"), headers)


@EXAMPLES
@given(st.sampled_from(sorted(VALID)), st.data())
def test_any_json_in_any_field_is_judged(contract: str, data: st.DataObject) -> None:
    message = VALID[contract] | data.draw(st.dictionaries(st.sampled_from([*VALID[contract], *NAMES]), JSON, max_size=3))
    judged(contract, json.dumps(message).encode("utf-8", "surrogatepass"))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_any_damage_is_judged(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        one = damaged(rng, EVENT_US)
        judged(one.contract, one.value, [(key, value) for key, value in one.headers if not isinstance(value, str)])
