"""The channels at real receivers: what arrives, what a failure says, and that none takes long or tells a secret."""

from __future__ import annotations

import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from iot_platform.alerts import channels
from iot_platform.alerts.channels import Delivery, configured
from iot_platform.alerts.messages import Item, Message, trial
from iot_platform.alerts.outbox import UNDER_WAY, Outbox, deliver
from iot_platform.local.process import LOOPBACK, free_ports, wait_until
from iot_platform.settings import Settings
from iot_platform_tests.alerts.receivers import (
    PASSWORD,
    USER,
    WEBHOOK_PATH,
    Mailbox,
    Webhook,
    certificate,
    running_smtp,
)
from iot_platform_tests.conftest import MakeSettings

ITEMS = [Item("head <one>", "body & more", "http://ui/runs/1"), Item("two", "", rows=[["a"], ["1"]])]
MESSAGE = Message("2 incidents", ITEMS)
NOW = datetime(2026, 3, 20, tzinfo=UTC)


def sent(settings: Settings, message: Message = MESSAGE) -> list[Delivery]:
    return deliver(dict.fromkeys(configured(settings), message))


def mail_settings(make_settings: MakeSettings, port: int, **chosen: Any) -> Settings:
    plain = {"smtp_host": LOOPBACK, "smtp_port": port, "smtp_security": "none", "smtp_from": "iot@example.org"}
    return make_settings(**plain | {"smtp_to": "a@example.org, b@example.org"} | chosen)


def test_nothing_is_sent_until_a_channel_is_configured(settings: Settings) -> None:
    assert configured(settings) == [] and deliver({}) == []


def test_slack_gets_a_title_and_a_block_an_entry(make_settings: MakeSettings, webhook: Webhook) -> None:
    (delivery,) = sent(make_settings(slack_webhook_url=webhook.url))
    assert delivery.is_delivered and delivery.channel == "slack"
    (payload,) = webhook.received
    assert payload["text"] == "2 incidents"
    header, first, second = payload["blocks"]
    assert header["type"] == "header"
    assert first["text"]["text"] == "*head &lt;one&gt;*\nbody &amp; more\n<http://ui/runs/1|Open in Dagster>"
    assert second["text"]["text"].endswith("```a\n1```")


def test_mail_has_a_plain_and_an_html_text_and_goes_to_all_recipients(
    make_settings: MakeSettings, mailbox: Mailbox
) -> None:
    settings = mail_settings(make_settings, mailbox.port)
    assert [one.error for one in (*sent(settings), *sent(settings))] == ["", ""]
    first, again = mailbox.mails
    assert first["Subject"] == "2 incidents" and mailbox.recipients[0] == ["a@example.org", "b@example.org"]
    plain, rich = first.get_body(("plain",)), first.get_body(("html",))
    assert plain and "head <one>\nbody & more\nhttp://ui/runs/1" in plain.get_content().replace("\r", "")
    assert rich and "<b>head &lt;one&gt;</b>" in rich.get_content() and "<th>a</th>" in rich.get_content()
    assert first["Message-ID"] == again["Message-ID"]  # a mailbox can drop what a crash repeated


def test_long_news_stay_within_what_slack_takes() -> None:
    rows = [["name", "value"], *([f"n{n}", "x" * 80] for n in range(100))]
    payload = Message("t" * 300, [Item("h", "b", "http://ui", rows)] * 80).slack()
    assert len(payload["blocks"]) == 50 and len(payload["blocks"][0]["text"]["text"]) <= 150
    assert all(len(block["text"]["text"]) <= 3000 for block in payload["blocks"])
    assert payload["blocks"][1]["text"]["text"].endswith("…```\n<http://ui|Open in Dagster>")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(500, "<html>boom</html>", "HTTP 500"), (404, "no_service", "HTTP 404 no_service"), (302, "", "HTTP 302")],
)
def test_an_answer_that_is_not_ok_is_a_failure_that_names_it(
    make_settings: MakeSettings, webhook: Webhook, status: int, body: str, said: str
) -> None:
    webhook.status, webhook.body = status, body
    assert [one.error for one in sent(make_settings(slack_webhook_url=webhook.url))] == [said]


def test_a_receiver_that_hangs_costs_no_time_and_the_other_channel_is_told(
    make_settings: MakeSettings, webhook: Webhook, mailbox: Mailbox
) -> None:
    webhook.hangs = True
    began = monotonic()
    settings = mail_settings(make_settings, mailbox.port, slack_webhook_url=webhook.url)
    slack, mail = Outbox().send(dict.fromkeys(configured(settings), MESSAGE), seconds=1)
    assert slack.error == UNDER_WAY and mail.is_delivered and len(mailbox.mails) == 1
    assert monotonic() - began < 4


def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(make_settings: MakeSettings) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        settings = mail_settings(make_settings, silent.getsockname()[1])
        (delivery,) = deliver(dict.fromkeys(configured(settings), MESSAGE), seconds=0.3)
    assert delivery.error == "no answer within 0.3 s" and delivery.seconds < 2


def test_what_is_slow_is_finished_in_the_background_and_told_once(make_settings: MakeSettings, webhook: Webhook) -> None:
    webhook.waits = True
    outbox = Outbox()
    (slack,) = configured(make_settings(slack_webhook_url=webhook.url))
    (first,) = outbox.send({slack: MESSAGE}, seconds=0.05)
    assert first.is_under_way and not first.is_delivered and outbox.is_busy("slack") and outbox.ended() == []
    webhook.release.set()
    assert wait_until(lambda: bool(webhook.received), 10)
    ended: list[Delivery] = []
    assert wait_until(lambda: bool(ended.extend(outbox.ended()) or ended), 10)
    assert [one.error for one in ended] == [""] and not outbox.is_busy("slack") and outbox.ended() == []


def test_what_never_ends_is_given_up_and_the_channel_is_free_again(make_settings: MakeSettings, webhook: Webhook) -> None:
    webhook.hangs = True
    outbox = Outbox(longest=0.2)
    (slack,) = configured(make_settings(slack_webhook_url=webhook.url))
    assert outbox.send({slack: MESSAGE}, seconds=0.01)[0].is_under_way
    ended: list[Delivery] = []
    assert wait_until(lambda: bool(ended.extend(outbox.ended()) or ended), 10)
    assert ended[0].error == "no answer within 0.2 s" and not outbox.is_busy("slack")


def test_a_mail_server_that_greets_after_seconds_is_waited_for(make_settings: MakeSettings, mailbox: Mailbox) -> None:
    mailbox.greeting_seconds = 4
    (delivery,) = sent(mail_settings(make_settings, mailbox.port))
    assert delivery.is_delivered and len(mailbox.mails) == 1


def test_recipients_that_are_refused_while_others_are_not_are_told(make_settings: MakeSettings, mailbox: Mailbox) -> None:
    mailbox.unknown = "b@example.org"
    (delivery,) = sent(mail_settings(make_settings, mailbox.port))
    assert delivery.is_delivered and delivery.told == "refused for b@example.org (SMTP 550)"
    assert mailbox.recipients == [["a@example.org"]]
    mailbox.unknown = "@"
    (delivery,) = sent(mail_settings(make_settings, mailbox.port))
    assert delivery.error == "every recipient was refused"


def test_nobody_there_a_wrong_address_and_half_a_configuration_are_said(make_settings: MakeSettings) -> None:
    (port,) = free_ports(1)
    refused = mail_settings(make_settings, port, slack_webhook_url=f"http://{LOOPBACK}:{port}{WEBHOOK_PATH}")
    assert [one.error for one in sent(refused)] == ["it cannot be reached", "it cannot be reached, or broke off"]
    wrong = make_settings(slack_webhook_url=f"http://example.org{WEBHOOK_PATH}", smtp_host=LOOPBACK, smtp_port=port)
    assert [one.error for one in sent(wrong)] == ["IOT_SLACK_WEBHOOK_URL is no https address", channels.ADDRESS_MISSING]
    open_login = mail_settings(make_settings, port, smtp_username=USER, smtp_password=PASSWORD)
    assert "needs an encrypted connection" in sent(open_login)[0].error


@pytest.mark.parametrize(("answer", "said"), [("451 try later", "SMTP 451"), ("554 no", "SMTP 554")])
def test_a_mail_server_that_refuses_is_named_by_its_code(
    make_settings: MakeSettings, mailbox: Mailbox, answer: str, said: str
) -> None:
    mailbox.answer = answer
    assert [one.error for one in sent(mail_settings(make_settings, mailbox.port))] == [said]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd does not know of TLS from the first byte
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_encrypted_and_with_a_login(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, trusted: tuple[Path, Any], security: str
) -> None:
    cert, context = trusted
    with running_smtp(context, implicit=security == "tls") as mailbox:
        settings = mail_settings(
            make_settings, mailbox.port, smtp_security=security, smtp_username=USER, smtp_password=PASSWORD
        )
        (stranger,) = sent(settings)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        (delivery,) = sent(settings)
        (wrong,) = sent(settings.model_copy(update={"smtp_password": type(settings.smtp_password)("not it")}))
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.error
    assert delivery.error == "" and len(mailbox.mails) == 1
    assert wrong.error == "the login was refused (SMTP 535)"


def test_no_answer_and_no_target_shows_a_secret(make_settings: MakeSettings, webhook: Webhook, mailbox: Mailbox) -> None:
    webhook.status, webhook.body = 403, f"{WEBHOOK_PATH} is not allowed"
    settings = mail_settings(make_settings, mailbox.port, slack_webhook_url=webhook.url, smtp_password=PASSWORD)
    channels_ = configured(settings)
    shown = repr([channels_, sent(settings), settings, [one.target for one in channels_]])
    assert "webhook-secret" not in shown and PASSWORD not in shown


def test_a_defect_in_one_channel_is_a_failure_of_its_own(make_settings: MakeSettings, mailbox: Mailbox) -> None:
    (mail,) = configured(mail_settings(make_settings, mailbox.port))

    class Broken:
        name = target = "broken"

        def send(self, message: Message) -> str:
            raise KeyError("nobody thought of this")

    assert [one.error for one in deliver({Broken(): MESSAGE, mail: trial(NOW)})] == ["failed with KeyError", ""]
