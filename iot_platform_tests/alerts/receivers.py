"""Real receivers on loopback: an HTTP server in Slack's place, and an SMTP server. Both can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as email_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from iot_platform.local.process import LOOPBACK, free_ports

WEBHOOK_PATH = "/services/T0000/B0000/webhook-secret-9f2c"
USER, PASSWORD = "alerts@example.org", "smtp-secret-71ab"


@dataclass
class Webhook:
    """What arrived, and how the next requests are answered: a status, or not before ``release`` is set, if ever."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: str = "ok"
    hangs: bool = False
    waits: bool = False  # until ``release`` is set, and takes the message then
    asked: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def titles(self) -> list[str]:
        return [message["text"] for message in self.received]


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    """A server that takes what Slack's incoming webhooks take."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.asked += 1
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if webhook.hangs:
                webhook.release.wait(60)
                return
            if webhook.waits:
                webhook.release.wait(60)
            if webhook.status == 200 and self.path == WEBHOOK_PATH:
                webhook.received.append(content)
            answer = webhook.body.encode()
            self.send_response(webhook.status if self.path == WEBHOOK_PATH else 404)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    webhook.url = f"http://{LOOPBACK}:{server.server_port}{WEBHOOK_PATH}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        webhook.release.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass
class Mailbox:
    """The mails that arrived at an SMTP server, and its port."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    answer: str = ""  # instead of taking the next mails
    greeting_seconds: float = 0.0
    unknown: str = ""  # recipients with this in their address are refused

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.unknown and self.unknown in address:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await asyncio.sleep(self.greeting_seconds)
        return responses

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.answer:
            return self.answer
        self.mails.append(BytesParser(policy=email_policy).parsebytes(envelope.original_content or b""))  # type: ignore[arg-type]
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


@contextmanager
def running_smtp(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> Iterator[Mailbox]:
    """An SMTP server; with ``tls`` it demands STARTTLS (or speaks TLS at once) and a login."""
    mailbox = Mailbox(free_ports(1)[0])

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    login: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    controller = Controller(
        mailbox, hostname=LOOPBACK, port=mailbox.port,
        **({"ssl_context": tls, "auth_require_tls": False} | login if tls and implicit else {}),
        **({"tls_context": tls, "require_starttls": True} | login if tls and not implicit else {}),
    )  # fmt: skip
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for loopback, signed by itself: the file that a client trusts, and the server's side of it."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName=DNS:localhost,IP:{LOOPBACK}", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
