"""How a message is read by its contract: a Kafka record in, readings or a refusal with its reason out.

A pure function of the record and the rules, driven by the declarations in ``wire.py``: never of the wall clock, so
that a repeated batch decides the same. Lossless: what columns cannot give back goes to ``extras``, and
``rebuild.rebuild_message`` gives the message back, equal as parsed JSON.

``extras`` is one JSON object: unknown fields under their own names (nested ones under their parent), objects such as
``tags``, and reserved names, which begin with one ``$`` (an unknown field that does gets one more): ``$raw`` exact
originals by dotted name, ``$time`` how the timestamp was written, ``$absent`` columns filled from the declaration. Null
when empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.json_text import JsonLimits, decode
from iot_platform.contracts.reader import HOUR_US, Clock, reader_of
from iot_platform.contracts.refusal import Refusal, Refused, shown
from iot_platform.contracts.timestamps import start_of_day_us
from iot_platform.contracts.wire import CONTRACTS, WireContract

__all__ = ["KafkaRecord", "ParseRules", "Reading", "Refusal", "parse_record", "parse_value", "validate_message"]

FIRST_DATE = date(2010, 1, 1)
# What the header `replayed` may say for no, in any case; everything else says yes.
NOT_REPLAYED = frozenset({b"", b"false", b"0"})


class KafkaRecord(NamedTuple):
    """One record as Kafka holds it; ``timestamp_us``: arrival at the broker, microseconds since the epoch, UTC."""

    topic: str
    partition: int
    offset: int
    timestamp_us: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True)
class ParseRules:
    """What the decision depends on besides the record and the declared contracts. ``contract_of_topic`` speaks where no
    header names the contract."""

    contract_of_topic: Mapping[str, str] = field(default_factory=dict)
    first_date: date = FIRST_DATE
    limits: JsonLimits = field(default_factory=JsonLimits)
    latest_ahead_us: int = HOUR_US


def parse_record(record: KafkaRecord, rules: ParseRules) -> list[Reading] | Refusal:
    """The readings of a record, at least one, or why there is none. Never raises, whatever the bytes."""
    headers = dict(record.headers) if record.headers else {}
    try:
        decoded = decode(record.value, rules.limits)
        contract = _contract_of(record.topic, headers, rules)
        source = headers.get("source")
        return reader_of(contract).read(
            decoded.message,
            Clock(_first_us(rules.first_date), record.timestamp_us + rules.latest_ahead_us),
            not_finite=decoded.not_finite,
            replayed=(headers.get("replayed") or b"").strip().lower() not in NOT_REPLAYED,
            source=None if source is None else source.decode("utf-8", "replace"),
        )
    except Refused as refused:
        return refused.refusal


def parse_value(
    contract: WireContract, value: bytes | None, *, arrival_us: int, rules: ParseRules | None = None
) -> list[Reading] | Refusal:
    """The same for bytes whose contract is known: what a producer is about to send."""
    record = KafkaRecord("", 0, 0, arrival_us, None, value, [("contract", contract.name.encode())])
    return parse_record(record, rules or ParseRules())


def validate_message(
    contract: WireContract, message: dict[str, Any], *, arrival_us: int, first_date: date = FIRST_DATE
) -> Refusal | None:
    """Why ingestion would refuse this message; None when it would take it.

    Takes the message before it is made JSON text, so limits of the text (size, depth) are not judged.
    """
    try:
        reader_of(contract).read(message, Clock(_first_us(first_date), arrival_us + HOUR_US))
    except Refused as refused:
        return refused.refusal
    except TypeError as error:
        return Refusal("wrong_type", f"a value has no JSON form: {error}")
    return None


def _contract_of(topic: str, headers: Mapping[str, bytes | None], rules: ParseRules) -> WireContract:
    header = headers.get("contract")
    name = rules.contract_of_topic.get(topic, "") if header is None else header.decode("utf-8", "replace")
    contract = CONTRACTS.get(name)
    if contract is None:
        said_by = f"topic {topic}" if header is None else f"header contract={shown(name)}"
        raise Refused("unknown_contract", f"{said_by} names no declared contract")
    version = headers.get("contract_version")
    if version is None:
        return contract.versions[0] if contract.earlier else contract
    said = contract if _major(version) == contract.version else contract.of_version(_major(version))
    if said is None:
        declared = ", ".join(str(one.version) for one in contract.versions)
        unknown = shown(version.decode("utf-8", "replace"))
        raise Refused("unknown_contract", f"{name} version {unknown} is not declared; declared: {declared}")
    return said


@lru_cache(maxsize=256)
def _major(version: bytes) -> int:
    """The leading number of ``1``, ``v1`` or ``1.4``; 0 when there is none. Minor versions only add optional fields."""
    digits = version.removeprefix(b"v").split(b".")[0]
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0


@lru_cache(maxsize=16)
def _first_us(first_date: date) -> int:
    return start_of_day_us(first_date)
