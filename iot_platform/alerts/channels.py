"""The channels: a Slack incoming webhook and e-mail by SMTP. One message to each, in bounded time, with an honest answer.

No answer shows a secret: a webhook's address is one, and libraries write addresses into their errors.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit

from iot_platform.alerts.messages import Message
from iot_platform.local.process import LOOPBACK
from iot_platform.settings import Settings

STEP_SECONDS = 3.0  # for each question to a server
DEADLINE_SECONDS = 6.0  # for all of them: a sensor that hangs stops the daemon
PORTS = {"starttls": 587, "tls": 465, "none": 25}
ADDRESS_MISSING = "IOT_SMTP_FROM and IOT_SMTP_TO have to be set too"


class Undelivered(Exception):
    """A message that did not arrive, as far as is known; the text says why, and holds no secret."""


@dataclass(frozen=True)
class Delivery:
    """What became of one message on one channel."""

    channel: str
    error: str = ""
    seconds: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return not self.error


class Channel(Protocol):
    """Where messages go. ``send`` raises ``Undelivered``."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    def send(self, message: Message) -> None: ...


class Slack:
    """An incoming webhook."""

    name = "slack"

    def __init__(self, settings: Settings) -> None:
        self._url = settings.slack_webhook_url.get_secret_value()

    @property
    def target(self) -> str:
        """The host alone: the path is the secret."""
        return urlsplit(self._url).hostname or "?"

    def send(self, message: Message) -> None:
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


class Mail:
    """E-mail by SMTP; a login only over an encrypted connection."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recipients = [one.strip() for one in settings.smtp_to.split(",") if one.strip()]

    @property
    def target(self) -> str:
        return f"{', '.join(self._recipients) or 'nobody'} by {self._settings.smtp_host}"

    def send(self, message: Message) -> None:
        settings = self._settings
        if not settings.smtp_from or not self._recipients:
            raise Undelivered(ADDRESS_MISSING)
        if settings.smtp_username and settings.smtp_security == "none":
            raise Undelivered("IOT_SMTP_USERNAME needs an encrypted connection: set IOT_SMTP_SECURITY to starttls or tls")
        try:
            self._speak(message.email(settings.smtp_from, self._recipients))
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

    def _speak(self, mail: EmailMessage) -> None:
        settings = self._settings
        port = settings.smtp_port or PORTS[settings.smtp_security]
        context = ssl.create_default_context()
        if settings.smtp_security == "tls":
            server = smtplib.SMTP_SSL(settings.smtp_host, port, timeout=STEP_SECONDS, context=context)
        else:
            server = smtplib.SMTP(settings.smtp_host, port, timeout=STEP_SECONDS)
        with server:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_username:
                server.login(settings.smtp_username, settings.smtp_password.get_secret_value())
            server.send_message(mail)


def configured(settings: Settings) -> list[Channel]:
    """The channels that the settings turn on; none by default."""
    found: list[Channel] = []
    if settings.slack_webhook_url.get_secret_value():
        found.append(Slack(settings))
    if settings.smtp_host:
        found.append(Mail(settings))
    return found


def deliver(messages: Mapping[Channel, Message], seconds: float = DEADLINE_SECONDS) -> list[Delivery]:
    """Send each message by its channel, all at once, and wait at most ``seconds`` for all of them.

    One that is still under way then counts as not delivered; should it arrive after all, it is sent twice.
    """
    answers: dict[str, Delivery] = {}

    def send(channel: Channel, message: Message, began: float) -> None:
        answers[channel.name] = _sent(channel, lambda: channel.send(message), began)

    began = monotonic()
    senders = [
        threading.Thread(target=send, args=(channel, message, began), daemon=True, name=f"alert by {channel.name}")
        for channel, message in messages.items()
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(max(0.0, began + seconds - monotonic()))
    late = f"no answer within {seconds:g} s"
    return [answers.get(channel.name, Delivery(channel.name, late, monotonic() - began)) for channel in messages]


def _sent(channel: Channel, send: Callable[[], None], began: float) -> Delivery:
    try:
        send()
    except Undelivered as error:
        return Delivery(channel.name, str(error), monotonic() - began)
    except Exception as error:  # a defect in one channel must not keep the others from speaking
        return Delivery(channel.name, f"failed with {type(error).__name__}", monotonic() - began)
    return Delivery(channel.name, "", monotonic() - began)
