"""``iot alerts``: the test message and the list of incidents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from iot_platform.alerts.book import Book, write_book
from iot_platform.alerts.incidents import Incident, Told
from iot_platform.local.process import LOOPBACK
from iot_platform.settings import Settings
from iot_platform_tests.alerts.receivers import Webhook, running_smtp, running_webhook
from iot_platform_tests.cli.conftest import Iot


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as webhook:
        yield webhook


def test_without_a_channel_the_test_is_wrong_use_and_says_what_to_set(iot: Iot) -> None:
    ran = iot("alerts", "test")
    assert ran.code == 2 and "IOT_SLACK_WEBHOOK_URL" in ran.err and len(ran.err.splitlines()) == 1


def test_the_test_message_arrives_by_every_channel(iot: Iot, webhook: Webhook) -> None:
    with running_smtp() as mailbox:
        ran = iot(
            "alerts", "test", IOT_SLACK_WEBHOOK_URL=webhook.url, IOT_SMTP_HOST=LOOPBACK, IOT_SMTP_PORT=str(mailbox.port),
            IOT_SMTP_SECURITY="none", IOT_SMTP_FROM="iot@example.org", IOT_SMTP_TO="ops@example.org",
        )  # fmt: skip
        assert (ran.code, ran.err) == (0, "") and ran.out.count("yes") == 2
        assert len(mailbox.mails) == 1 and webhook.titles == ["Test of the alerts of the IoT platform"]
        assert "webhook-secret" not in ran.out and "127.0.0.1" in ran.out


def test_a_channel_that_fails_is_named_and_the_exit_code_is_one(iot: Iot, webhook: Webhook) -> None:
    webhook.status, webhook.body = 404, "no_service"
    ran = iot("alerts", "test", IOT_SLACK_WEBHOOK_URL=webhook.url)
    assert ran.code == 1 and "slack: HTTP 404 no_service" in ran.err and "webhook-secret" not in ran.out + ran.err


def test_incidents_are_listed_open_ones_first(iot: Iot, settings: Settings) -> None:
    assert iot("alerts", "list", "--json").json == []
    now = datetime.now(UTC)

    def incident(subject: str, opened: datetime, ended: datetime | None) -> Incident:
        return Incident(
            subject, "lag", subject, "ERROR", f"{subject} is behind", "Wait.", opened, recovered_at=ended,
            ending="recovered" if ended else None, told={"slack": Told(error="HTTP 500"), "email": Told(opened=opened)},
        )  # fmt: skip

    hour = timedelta(hours=1)
    long_ago = incident("c", now - 400 * hour, now - 300 * hour)
    ended, still = incident("a", now - 9 * hour, now - 2 * hour), incident("b", now - 20 * hour, None)
    write_book(settings, Book([ended, still, long_ago]))
    listed = iot("alerts", "list", "--json").json
    assert [(one["subject"], one["recovered_at"] is None) for one in listed] == [("b", True), ("a", False)]
    assert [one["subject"] for one in iot("alerts", "list", "--json", "--days", "30").json] == ["b", "a", "c"]
    shown = iot("alerts", "list")
    assert "HTTP 500" in shown.out and "1 open" in shown.out
