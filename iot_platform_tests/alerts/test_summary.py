"""The daily summary: its figures are those that plain Python counts, and each date is sent once a channel."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from iot_platform.alerts import send_summary
from iot_platform.alerts.book import Book, copy_to_table
from iot_platform.alerts.incidents import Incident
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.messages import summary_message
from iot_platform.alerts.outbox import Outbox
from iot_platform.alerts.summary import retry_summary
from iot_platform.contracts.tables import TABLES
from iot_platform.lake.ledger import date_ledger
from iot_platform.local.process import LOOPBACK, wait_until
from iot_platform.reports.daily import DailySummary, daily_summary
from iot_platform.settings import Settings
from iot_platform_tests.alerts.receivers import Mailbox, Webhook
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at
from iot_platform_tests.conftest import MakeSettings


def rows(table: str, *given: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table in which everything that a test does not care about has some value of its type."""
    filler = {"string": "x", "double": 1.0, "bigint": 1, "int": 300, "boolean": False, "timestamp": at(D), "date": D}
    blank = {column.name: None if column.nullable else filler[column.kind] for column in TABLES[table].columns}
    return [blank | row for row in given]


@pytest.fixture
def day(small: SmallLake) -> SmallLake:
    """A day with something of everything, and neighbours that must not be counted."""
    small.ingest(
        [
            *({"event_time": at(D, hour), "device_id": f"d{hour % 3}", "is_late": hour % 4 == 0} for hour in range(24)),
            {"event_time": at(D, 3), "contract": "device_event", "metric": "duration", "replayed": True},
            {"event_time": at(D + DAY)},
        ],
        refused=[
            {"event_date": D}, {"event_date": D}, {"event_date": D, "reason": "wrong_type"}, {"event_date": D - DAY},
        ],
    )  # fmt: skip
    small.put("silver/readings", D, rows("silver/readings", *({"device_id": f"d{n}"} for n in range(20))))
    small.put("silver/rejected_readings", D, rows(
        "silver/rejected_readings", *({"reason": reason} for reason in ["duplicate"] * 3 + ["null_value"] * 2)
    ))  # fmt: skip
    health = [("d1", 100.0, False), ("d1", 50.0, True), ("d2", 0.0, True), ("d2", 0.0, True), ("d3", 95.0, False)]
    small.put("gold/sensor_health", D, rows("gold/sensor_health", *(
        {"device_id": device, "health_pct": pct, "is_failing": failing} for device, pct, failing in health
    )))  # fmt: skip
    events = [("temperature", "d1", 3, 4.5), ("temperature", "d2", 1, None), ("humidity", "d1", 2, 3.5)]
    small.put("gold/anomaly_events", D, rows("gold/anomaly_events", *(
        {"metric": metric, "device_id": device, "readings": count, "peak_score": score}
        for metric, device, count, score in events
    )))  # fmt: skip
    small.put("gold/duration_p95", D, rows("gold/duration_p95", {"device_type": "light", "events": 600, "p95": 12.5}))
    small.put("gold/duration_p95", D + DAY, rows("gold/duration_p95", {"device_type": "door", "event_date": D + DAY}))
    return small


def test_the_figures_are_those_that_plain_python_counts(day: SmallLake) -> None:
    found = daily_summary(day.lake, D)
    bronze = [row for row in day.rows("bronze/readings") if row["event_date"] == D]
    assert found.readings == len(bronze) == 25
    assert {row["contract"]: row["readings"] for row in found.volumes} == Counter(row["contract"] for row in bronze)
    assert {row["contract"]: row["devices"] for row in found.volumes} == {"device_event": 1, "sensor_reading": 3}
    assert [row["replayed"] for row in found.volumes] == [1, 0]
    assert found.late == sum(row["is_late"] for row in bronze) == 6
    assert [dict(row) for row in found.quarantine] == [
        {"reason": "not_json", "messages": 2}, {"reason": "wrong_type", "messages": 1},
    ]  # fmt: skip
    assert found.ledger == date_ledger(day.lake, [D])[0]
    health = [row["health_pct"] for row in day.rows("gold/sensor_health")]
    assert found.health.health_pct == pytest.approx(sum(health) / len(health))
    assert (found.health.devices, found.health.windows, found.health.failing_windows) == (3, 5, 3)
    assert found.health.silent_devices == 1
    assert [row["device_id"] for row in found.health.worst] == ["d2", "d1"]
    assert [dict(row) for row in found.anomalies] == [
        {"metric": "temperature", "events": 2, "readings": 4, "devices": 2, "peak_score": 4.5},
        {"metric": "humidity", "events": 1, "readings": 2, "devices": 1, "peak_score": 3.5},
    ]  # fmt: skip
    assert [(row["device_type"], row["p95"]) for row in found.p95] == [("light", 12.5)]


def test_incidents_of_the_day_are_those_open_at_some_time_of_it(day: SmallLake) -> None:
    def incident(name: str, opened: datetime, ended: datetime | None) -> Incident:
        return Incident(name, "lag", name, "ERROR", f"{name} is behind", "Wait.", opened, recovered_at=ended)

    hour = timedelta(hours=1)
    midnight = datetime(D.year, D.month, D.day, tzinfo=UTC)
    copy_to_table(day.lake, Book([
        incident("over before", midnight - 3 * hour, midnight - hour),
        incident("into it", midnight - hour, midnight + hour),
        incident("within", midnight + hour, midnight + 2 * hour),
        incident("still open", midnight - 50 * hour, None),
        incident("after it", midnight + 24 * hour, None),
    ]))  # fmt: skip
    assert [row["subject"] for row in daily_summary(day.lake, D).incidents] == ["still open", "into it", "within"]


def test_a_date_without_anything_has_a_summary_too(small: SmallLake) -> None:
    empty = daily_summary(small.lake, D)
    assert (empty.readings, empty.quarantined, empty.health.health_pct, empty.ledger and empty.ledger.is_balanced) == (
        0, 0, None, True,
    )  # fmt: skip
    assert "no device was expected to report" in empty.markdown()


def test_every_rendering_tells_the_same_figures(day: SmallLake) -> None:
    summary = daily_summary(day.lake, D)
    markdown = summary.markdown()
    assert markdown.startswith("# Daily summary of 2026-03-10 (UTC)\n\n2026-03-10: 25 readings, health 49.0 %, 3 anomalies")
    assert "25 in Bronze = 20 in Silver + 5 rejected + 0 pending: balanced." in markdown
    assert "| temperature | 2 | 4 | 2 | 4.50 |" in markdown
    plain = json.loads(json.dumps(summary.as_json()))
    assert plain["ledger"]["balanced"] and plain["readings"] == 25 and plain["p95"][0]["p95"] == 12.5
    assert plain["day"] == "2026-03-10"
    message = summary_message(summary, "http://ui")
    payload = json.dumps(message.slack(), ensure_ascii=False)
    mail = message.email("a@b", ["c@d"]).get_body(("html",))
    assert mail
    for said in ("25 readings; 6 late (24.0%)", "temperature", "12.50", "http://ui/assets/reports/daily_report"):
        assert said in payload and said in message.text() and said in mail.get_content().replace("=\n", "")


def test_a_ledger_that_does_not_balance_is_said_loudly(day: SmallLake) -> None:
    day.put("silver/readings", D, rows("silver/readings", {}), level=10**18)
    day.put("silver/rejected_readings", D, [], level=10**18)
    assert "NOT BALANCED, +24 row(s)" in daily_summary(day.lake, D).markdown()


@pytest.fixture
def channels(make_settings: MakeSettings, webhook: Webhook, mailbox: Mailbox) -> Settings:
    return make_settings(
        slack_webhook_url=webhook.url, smtp_host=LOOPBACK, smtp_port=mailbox.port, smtp_security="none",
        smtp_from="iot@example.org", smtp_to="ops@example.org",
    )  # fmt: skip


def summary(day: date = D) -> DailySummary:
    return DailySummary(day)


def test_a_date_is_sent_once_by_each_channel_and_an_older_one_not_at_all(
    channels: Settings, webhook: Webhook, mailbox: Mailbox
) -> None:
    morning = at(D + DAY, 6)
    assert [one.error for one in send_summary(channels, summary(), morning)] == ["", ""]
    assert send_summary(channels, summary(), morning) == [] and send_summary(channels, summary(D - DAY), morning) == []
    assert len(send_summary(channels, summary(D + DAY), morning + DAY)) == 2
    assert webhook.titles == ["Daily summary of 2026-03-10 (UTC)", "Daily summary of 2026-03-11 (UTC)"]
    assert [mail["Subject"] for mail in mailbox.mails] == webhook.titles


def test_a_day_that_is_not_over_and_one_of_long_ago_are_not_sent(channels: Settings, webhook: Webhook) -> None:
    assert send_summary(channels, summary(), at(D, 23)) == [] and send_summary(channels, summary(), at(D + 3 * DAY)) == []
    assert send_summary(channels, summary()) == []  # by the clock it is long ago
    assert len(send_summary(channels, summary(), at(D + 2 * DAY))) == 2 and len(webhook.received) == 1


def test_without_a_channel_nothing_is_sent_and_nothing_written(settings: Settings) -> None:
    assert send_summary(settings, summary()) == []
    assert not settings.home.exists()


def test_a_channel_that_failed_is_sent_the_summary_later_and_the_other_not_again(
    channels: Settings, webhook: Webhook, mailbox: Mailbox, small: SmallLake
) -> None:
    webhook.status, webhook.body = 503, ""
    now = at(D + DAY, 6)
    assert [one.error for one in send_summary(channels, summary(), now)] == ["HTTP 503", ""]
    memory, said = retry_summary(small.lake, channels, Memory(), now, Outbox())
    assert said == ["summary of 2026-03-10 by slack: HTTP 503"] and not memory.may_send("slack", now)
    assert retry_summary(small.lake, channels, memory, now, Outbox())[1] == []
    webhook.status = 200
    memory, said = retry_summary(small.lake, channels, memory, now + timedelta(minutes=1), Outbox())
    assert said == ["summary of 2026-03-10 by slack: sent"] and memory.may_send("slack", now)
    assert retry_summary(small.lake, channels, memory, now + timedelta(minutes=2), Outbox())[1] == []
    assert (len(webhook.received), len(mailbox.mails)) == (1, 1)


def test_a_summary_that_is_slow_to_arrive_is_noted_when_it_did_and_not_sent_again(
    channels: Settings, webhook: Webhook, small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = at(D + DAY, 6)
    slack_alone = channels.model_copy(update={"smtp_host": ""})
    webhook.status = 503
    send_summary(slack_alone, summary(), now)
    webhook.status, webhook.waits = 200, True
    outbox = Outbox()
    monkeypatch.setattr(outbox, "send", partial(outbox.send, seconds=0.05))
    memory, said = retry_summary(small.lake, slack_alone, Memory(), now, outbox)
    assert said == ["summary of 2026-03-10 by slack: under way"] and memory == Memory()
    assert retry_summary(small.lake, slack_alone, memory, now, outbox)[1] == [] and webhook.asked == 2
    webhook.release.set()

    def is_known() -> bool:
        said.extend(retry_summary(small.lake, slack_alone, memory, now, outbox)[1])
        return len(said) > 1

    assert wait_until(is_known, 10)
    assert said[1:] == ["summary of 2026-03-10 by slack: sent"]
    assert retry_summary(small.lake, slack_alone, memory, now, Outbox())[1] == [] and len(webhook.received) == 1


def test_a_summary_of_long_ago_is_no_news(channels: Settings, webhook: Webhook, small: SmallLake) -> None:
    webhook.status = 503
    send_summary(channels, summary(), at(D + DAY, 6))
    asked = webhook.asked
    assert retry_summary(small.lake, channels, Memory(), NOW, Outbox())[1] == [] and webhook.asked == asked
    assert retry_summary(small.lake, channels.model_copy(update={"smtp_host": ""}), Memory(), NOW, Outbox())[1] == []


def test_a_lake_that_cannot_be_read_is_said_and_stops_nothing(channels: Settings, small: SmallLake) -> None:
    small.lake.settings.home.mkdir(parents=True)
    (small.lake.settings.home / "lake").write_text("in the way")
    _, said = retry_summary(small.lake, channels, Memory(), at(D + DAY, 6), Outbox())
    assert len(said) == 1 and "ops/incidents" in said[0]
