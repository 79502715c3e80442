"""What the simulated fleet says: reproducible, in bounds, with just what was asked for injected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from iot_platform.contracts import wire
from iot_platform.contracts.parse import KafkaRecord, ParseRules, Refusal, parse_record
from iot_platform.contracts.wire import CONTRACTS, Metric, MetricNamed
from iot_platform.errors import DataError, InputError
from iot_platform.simulator.faults import REASONS
from iot_platform.simulator.fleet import build_fleet
from iot_platform.simulator.history import microseconds
from iot_platform.simulator.live import live_cadence
from iot_platform.simulator.messages import Made, MessageMaker
from iot_platform.simulator.options import FleetOptions, History, Live, demo_options
from iot_platform.simulator.plan import Kind, Plan, Window, plan_window
from iot_platform.simulator.signals import DeviceSignal, event_durations, profile_for

DAY_US = 86_400_000_000
START_US = microseconds(datetime(2026, 3, 10, tzinfo=UTC))
ARRIVAL_US = START_US + 30 * DAY_US
DAY = Window(START_US, START_US + DAY_US, 60.0, sub_ms=7)


def plan(contract: str, options: FleetOptions, window: Window = DAY) -> Plan:
    return plan_window(CONTRACTS[contract], build_fleet(options)[contract], options, window)


def messages(contract: str, options: FleetOptions, window: Window = DAY) -> tuple[Plan, list[Made]]:
    devices = build_fleet(options)[contract]
    made = plan_window(CONTRACTS[contract], devices, options, window)
    maker = MessageMaker(CONTRACTS[contract], devices, options, ParseRules())
    return made, list(maker.make(made, range(len(made)), ARRIVAL_US))


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_same_options_say_the_same_byte_for_byte_and_another_seed_does_not(contract: str) -> None:
    first, again = messages(contract, FleetOptions())[1], messages(contract, FleetOptions())[1]
    assert [(m.key, m.value, m.headers) for m in first] == [(m.key, m.value, m.headers) for m in again]
    other = messages(contract, FleetOptions(seed=8))[1]
    assert {m.value for m in first}.isdisjoint(m.value for m in other if len(m.value) > 60)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_ingestion_makes_of_every_message_what_was_planned(contract: str) -> None:
    made, records = messages(contract, FleetOptions(malformed_rate=0.05, out_of_range_rate=0.02, null_rate=0.02))
    seen_reasons = set()
    for record in records:
        parsed = parse_record(KafkaRecord("t", 0, 0, ARRIVAL_US, record.key, record.value, record.headers), ParseRules())
        kind = Kind(int(made.kind[record.row]))
        if kind is Kind.MALFORMED:
            assert isinstance(parsed, Refusal) and parsed.reason == record.reason, record.value[:300]
            seen_reasons.add(parsed.reason)
            continue
        assert not isinstance(parsed, Refusal)
        assert parsed == list(record.readings)
        assert parsed[0].event_time == made.time_us[record.row]
        assert any(reading.value is None for reading in parsed) == (kind is Kind.NULL)
        outside = [r for r in parsed if r.value is not None and not in_bounds(contract, r.metric, r.value)]
        assert len(outside) == (kind is Kind.OUT_OF_RANGE)
    assert seen_reasons == set(REASONS)


def in_bounds(contract: str, metric: str, value: float) -> bool:
    declared = CONTRACTS[contract].metric(metric) or Metric(metric, "")
    low, high = declared.min_value, declared.max_value
    return (low is None or value >= low) and (high is None or value <= high)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_duplicates_repeat_an_event_and_nothing_else_does(contract: str) -> None:
    made, records = messages(contract, FleetOptions(late_rate=0.2, lateness_seconds=(700, 3 * 86_400)))
    seen: dict[str, bytes] = {}
    repeated = 0
    for record in records:
        if not record.readings:
            continue
        event = record.readings[0].event_id
        assert (event in seen) == (made.kind[record.row] == Kind.DUPLICATE)
        if event in seen:
            assert seen[event] == record.value
            repeated += 1
        seen[event] = record.value
    assert repeated > 50


def test_rates_are_those_asked_for() -> None:
    options = FleetOptions(
        devices=20, silent_devices=0, half_silent_devices=0, anomaly_rate=0.03, duplicate_rate=0.04, late_rate=0.05,
        malformed_rate=0.01, out_of_range_rate=0.015, null_rate=0.02,
    )  # fmt: skip
    made = plan("environment_reading", options)
    counts = np.bincount(made.kind, minlength=len(Kind)) / (20 * 1440)
    for kind, rate in ((Kind.ANOMALY, 0.03), (Kind.DUPLICATE, 0.04), (Kind.LATE, 0.05), (Kind.MALFORMED, 0.01),
                       (Kind.OUT_OF_RANGE, 0.015), (Kind.NULL, 0.02)):  # fmt: skip
        assert counts[kind] == pytest.approx(rate, rel=0.12), kind
    quiet = FleetOptions(
        anomaly_rate=0, duplicate_rate=0, late_rate=0, malformed_rate=0, out_of_range_rate=0, null_rate=0
    )
    assert set(plan("sensor_reading", quiet).kind) == {Kind.REGULAR}


def test_late_is_what_its_partition_had_overtaken_by_more_than_ten_minutes_and_nothing_else_is() -> None:
    # One partition a device is the hardest case: only the device's own readings can show that one is late.
    made = plan("sensor_reading", FleetOptions(late_rate=0.1, lateness_seconds=(601, 86_400)))
    for device in set(made.device.tolist()):
        rows = (made.device == device) & (made.kind != Kind.MALFORMED)
        time, late = made.time_us[rows], made.kind[rows] == Kind.LATE
        newest = np.concatenate([[time[0]], np.maximum.accumulate(time)[:-1]])
        np.testing.assert_array_equal(newest - time > 600_000_000, late)


def test_silent_devices_send_nothing_half_silent_ones_every_other_reading() -> None:
    plain = FleetOptions(late_rate=0, malformed_rate=0, duplicate_rate=0)
    options = replace(plain, devices=6, silent_devices=2, half_silent_devices=1)
    counts = np.bincount(plan("generic_reading", options).device, minlength=6)
    assert counts.tolist() == [1440, 1440, 1440, 720, 0, 0]
    assert plan("generic_reading", options, Window(0, 10, 60.0)).values.shape == (0, 2)


def test_every_slot_of_the_cadence_has_its_reading_so_that_a_whole_device_is_whole_in_each_window() -> None:
    made = plan("device_event", FleetOptions(late_rate=0, malformed_rate=0, duplicate_rate=0))
    healthy = made.time_us[made.device == 0]
    assert np.bincount((healthy - START_US) // 300_000_000).tolist() == [5] * 288


def test_a_spike_stands_out_of_the_readings_before_it_and_hardly_anything_else_does() -> None:
    options = FleetOptions(devices=8, null_rate=0, out_of_range_rate=0, late_rate=0, duplicate_rate=0, malformed_rate=0)
    for contract in ("sensor_reading", "device_event"):
        made = plan(contract, options)
        for device in range(6):
            rows = made.device == device
            found, injected = scored(made.values[rows, 0]), made.kind[rows] == Kind.ANOMALY
            assert found[injected].mean() > 0.97
            assert found[~injected].mean() < 0.002


def scored(values: Any) -> Any:
    odd = np.zeros(len(values), dtype=bool)
    for at in range(30, len(values)):
        before = values[max(0, at - 100) : at]
        odd[at] = abs(values[at] - before.mean()) > 3 * before.std(ddof=1)
    return odd


def test_the_status_mix_and_the_log_normal_durations() -> None:
    _, records = messages("device_event", FleetOptions(devices=12, malformed_rate=0))
    said = [json.loads(record.value) for record in records]
    share = {status: sum(m["status"] == status for m in said) / len(said) for status in ("normal", "warning", "critical")}
    assert share == pytest.approx({"normal": 0.80, "warning": 0.15, "critical": 0.05}, abs=0.01)
    durations = np.array([m["event_duration"] for m in said])
    assert durations.min() >= 50 and durations.max() <= 500
    # Log-normal with its middle at sqrt(50 x 500) and a sigma of ln(10)/5, cut at 2.5 sigma: hand-computed quantiles.
    np.testing.assert_allclose(np.quantile(durations, [0.05, 0.5, 0.95]), [74.9, 158.1, 333.9], rtol=0.03)
    assert event_durations(np.random.default_rng(1), 0).tolist() == []


def test_a_metric_that_is_newly_declared_is_simulated_in_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    torque, depth, flow = Metric("torque", "Nm", 0, 0.5), Metric("depth", "m", None, -10), Metric("flow", "l/s", 3, None)
    metrics = (torque, depth, flow, Metric("odd", ""))
    contract = replace(wire.SENSOR_READING, name="sensor_torque", metrics=metrics)
    monkeypatch.setitem(CONTRACTS, "sensor_torque", contract)
    options = FleetOptions(contracts=("sensor_torque", "sensor_reading"), out_of_range_rate=0, null_rate=0, malformed_rate=0)
    fleet = build_fleet(options)
    assert fleet["sensor_torque"][0].device_id == "sensor-torque-001"
    assert fleet["sensor_torque"][1].declared(datetime(2026, 1, 1, tzinfo=UTC), 60).device_type == "depth"
    made = plan("sensor_torque", options)
    for device in range(4):
        values = made.values[made.device == device, 0]
        metric = metrics[device]
        assert all(in_bounds("sensor_torque", metric.name, value) for value in values.tolist())
        assert values.std() > 0


def test_a_new_contract_with_fields_that_the_simulator_does_not_know_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = (
        wire.WireField(("shift",), wire.Json.STRING, "state", "", required=True, allowed=("early", "late")),
        wire.WireField(("grade",), wire.Json.STRING, "status", "", required=True, allowed=("a", "b")),
        wire.WireField(("note",), wire.Json.STRING, "firmware2", ""),
        wire.WireField(("load",), wire.Json.NUMBER, "load", "", minimum=2),
    )
    contract = replace(wire.GENERIC_READING, name="shift_reading", fields=(*wire.GENERIC_READING.fields[:3], extra[1]))
    monkeypatch.setitem(CONTRACTS, "shift_reading", contract)
    _, records = messages("shift_reading", FleetOptions(contracts=("shift_reading",), malformed_rate=0))
    assert {json.loads(record.value)["grade"] for record in records} == {"a", "b"}
    from iot_platform.simulator.messages import _of_type

    assert [_of_type(field) for field in extra] == ["early", "a", "simulated", 2]


def test_a_message_that_the_contract_refuses_stops_the_run() -> None:
    devices = build_fleet(FleetOptions())["sensor_reading"]
    made = plan("sensor_reading", FleetOptions())
    maker = MessageMaker(CONTRACTS["sensor_reading"], devices, FleetOptions(), ParseRules())
    with pytest.raises(DataError, match="its contract refuses"):
        list(maker.make(made, range(len(made)), START_US - 30 * DAY_US))


def test_signals_have_a_daily_cycle_and_stay_in_the_bounds_that_are_declared() -> None:
    profile = profile_for(Metric("temperature", "°C", 20, 30))  # too narrow for the known profile
    assert (profile.low, profile.high, profile.base) == (20, 30, 25)
    signal = DeviceSignal.draw(profile_for(Metric("temperature", "°C", -50, 150)), np.random.default_rng(1))
    hours = np.asarray(START_US / 1e6 + np.arange(24) * 3600.0, dtype=np.float64)
    values = signal.values(hours, np.zeros(24))
    assert 11 <= values.argmax() <= 17 and values.max() - values.min() == pytest.approx(2 * 1.2, rel=0.2)
    assert signal.settle(np.array([999.0, -999.0])).tolist() == [150.0, -50.0]


def test_options_that_cannot_be_are_one_clear_error() -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    for wrong, said in [
        (lambda: FleetOptions(contracts=("nope",)), "no contract nope"),
        (lambda: FleetOptions(contracts=()), "no contract was named"),
        (lambda: FleetOptions(anomaly_rate=0.7), "--anomaly-rate 0.7 is no share"),
        (lambda: FleetOptions(devices=0), "--devices 0"),
        (lambda: FleetOptions(cadence_seconds=0), "--cadence 0"),
        (lambda: FleetOptions(devices=2, silent_devices=2), "2 of 2 devices would be silent"),
        (lambda: FleetOptions(devices=2, half_silent_devices=2), "more silent and half-silent"),
        (lambda: FleetOptions(lateness_seconds=(60, 700)), "late is more than 600 s"),
        (lambda: FleetOptions(status_mix=(0.5, 0.1, 0.1)), "does not add up to 1"),
        (lambda: History(0, now), "--days 0"),
        (lambda: History(1, now.replace(tzinfo=None)), "need a time zone"),
        (lambda: History(1, now, start=now.replace(year=2027)), "would end before it begins"),
        (lambda: Live(0), "--rate 0"),
        (lambda: Live(5, max_events=0), "--max-events 0"),
        (lambda: live_cadence(FleetOptions(), 0.01), "--rate 0.01 is less than"),
        (lambda: plan("sensor_reading", FleetOptions(devices=300), Window(0, DAY_US, 0.001)), "messages a day"),
    ]:
        with pytest.raises(InputError) as raised:
            wrong()
        assert said in str(raised.value)


def test_a_history_is_whole_utc_dates_and_the_demo_ends_at_midnight() -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert History(3, now).first == datetime(2026, 3, 8, tzinfo=UTC)
    assert History(3, now.replace(hour=0)).first == datetime(2026, 3, 7, tzinfo=UTC)
    demo = demo_options(now).span
    assert isinstance(demo, History) and demo.until == datetime(2026, 3, 10, tzinfo=UTC) and demo.first.day == 7


def test_the_fleet_key_tells_fleets_apart_but_not_the_choice_of_contracts() -> None:
    assert FleetOptions().key == FleetOptions(contracts=("device_event",)).key
    assert FleetOptions().key != FleetOptions(devices=7).key


def test_device_types_and_shapes_of_the_registered_fleet() -> None:
    fleet = build_fleet(FleetOptions())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = fleet["device_event"][3].declared(at, 60)
    assert (event.device_type, event.zone, event.site, event.firmware != "") == ("motion", "zone-D", "", True)
    assert all(isinstance(device.contract.shape, MetricNamed) for device in fleet["sensor_reading"])
    assert fleet["environment_reading"][0].declared(at, 60).line()["installed_at"] == "2026-01-01T00:00:00.000000Z"
