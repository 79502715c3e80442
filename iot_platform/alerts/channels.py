"""The channels: a Slack incoming webhook and e-mail by SMTP, each with an honest answer that shows no secret.

A webhook's address is a secret, and libraries write addresses into their errors. How long is waited: see ``outbox``.
"""

from __future__ import annotations

import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import urlsplit

from iot_platform.alerts.messages import Message
from iot_platform.local.process import LOOPBACK
from iot_platform.settings import Settings

STEP_SECONDS = 20.0  # for each question to a server: slow ones greet after seconds
PORTS = {"starttls": 587, "tls": 465, "none": 25}
ADDRESS_MISSING = "IOT_SMTP_FROM and IOT_SMTP_TO have to be set too"


class Undelivered(Exception):
    """A message that did not arrive, as far as is known; the text says why, and holds no secret."""


@dataclass(frozen=True)
class Delivery:
    """What became of one message on one channel. ``note``: it arrived, but not for all."""

    channel: str
    message: Message
    error: str = ""
    seconds: float = 0.0
    is_under_way: bool = False
    note: str = ""

    @property
    def is_delivered(self) -> bool:
        return not self.error

    @property
    def told(self) -> str:
        """In some words."""
        return self.error or self.note or "told"


class Channel(Protocol):
    """Where messages go. ``send`` says what of it did not arrive, and raises ``Undelivered`` when nothing did."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    def send(self, message: Message) -> str: ...


class Slack:
    """An incoming webhook."""

    name = "slack"

    def __init__(self, settings: Settings) -> None:
        self._url = settings.slack_webhook_url.get_secret_value()

    @property
    def target(self) -> str:
        """The host alone: the path is the secret."""
        return urlsplit(self._url).hostname or "?"

    def send(self, message: Message) -> str:
        import requests

        address = urlsplit(self._url)
        is_here = address.scheme == "http" and address.hostname in (LOOPBACK, "localhost")
        if not address.hostname or not (address.scheme == "https" or is_here):
            raise Undelivered("IOT_SLACK_WEBHOOK_URL is no https address")
        try:
            answer = requests.post(self._url, json=message.slack(), timeout=STEP_SECONDS, allow_redirects=False)
        except requests.Timeout:
            raise Undelivered(f"no answer within {STEP_SECONDS:g} s") from None
        except requests.exceptions.SSLError:
            raise Undelivered("its certificate is not trusted") from None
        except requests.RequestException:
            raise Undelivered("it cannot be reached") from None
        if answer.status_code != requests.codes.ok:
            # Slack's own words (no_service, invalid_payload, …), never what it was sent.
            word = answer.text.strip() if answer.text.strip().replace("_", "").isalpha() else ""
            raise Undelivered(f"HTTP {answer.status_code} {word[:60]}".strip())
        return ""


class Mail:
    """E-mail by SMTP; a login only over an encrypted connection."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recipients = [one.strip() for one in settings.smtp_to.split(",") if one.strip()]

    @property
    def target(self) -> str:
        return f"{', '.join(self._recipients) or 'nobody'} by {self._settings.smtp_host}"

    def send(self, message: Message) -> str:
        settings = self._settings
        if not settings.smtp_from or not self._recipients:
            raise Undelivered(ADDRESS_MISSING)
        if settings.smtp_username and settings.smtp_security == "none":
            raise Undelivered("IOT_SMTP_USERNAME needs an encrypted connection: set IOT_SMTP_SECURITY to starttls or tls")
        try:
            refused = self._speak(message.email(settings.smtp_from, self._recipients))
        except smtplib.SMTPAuthenticationError as error:
            raise Undelivered(f"the login was refused (SMTP {error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused:
            raise Undelivered("every recipient was refused") from None
        except smtplib.SMTPNotSupportedError:
            raise Undelivered("the server has no STARTTLS or no login") from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"SMTP {error.smtp_code}") from None
        except ssl.SSLError as error:
            raise Undelivered(f"TLS failed ({getattr(error, 'reason', None) or 'no common way'})") from None
        except TimeoutError:
            raise Undelivered(f"no answer within {STEP_SECONDS:g} s") from None
        except (OSError, smtplib.SMTPException):
            raise Undelivered("it cannot be reached, or broke off") from None
        codes = ", ".join(f"{who} (SMTP {code})" for who, (code, _) in sorted(refused.items()))
        return f"refused for {codes}" if refused else ""

    def _speak(self, mail: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Hand the mail over; recipients that the server refused while it took others, with its code."""
        settings = self._settings
        port = settings.smtp_port or PORTS[settings.smtp_security]
        context = ssl.create_default_context()
        if settings.smtp_security == "tls":
            server = smtplib.SMTP_SSL(settings.smtp_host, port, timeout=STEP_SECONDS, context=context)
        else:
            server = smtplib.SMTP(settings.smtp_host, port, timeout=STEP_SECONDS)
        refused: dict[str, tuple[int, bytes]] = {}
        # Not by the server's own context: one that breaks off after it took the mail has taken it all the same.
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_username:
                server.login(settings.smtp_username, settings.smtp_password.get_secret_value())
            refused = server.send_message(mail)
            with suppress(OSError, smtplib.SMTPException):
                server.quit()
        finally:
            server.close()
        return refused


def configured(settings: Settings) -> list[Channel]:
    """The channels that the settings turn on; none by default."""
    found: list[Channel] = []
    if settings.slack_webhook_url.get_secret_value():
        found.append(Slack(settings))
    if settings.smtp_host:
        found.append(Mail(settings))
    return found

