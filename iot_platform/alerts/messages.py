"""The messages: what people read, once as Slack blocks and once as an e-mail (text and HTML). Pure."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

from iot_platform.alerts.incidents import Incident
from iot_platform.reports.daily import DailySummary, cell

SHOWN = 12  # incidents in one message; further ones are counted
SECTION = 2900  # characters; Slack takes 3,000
NAMES = {
    "run_failure": "Run failed", "failed_check": "Check failed", "quarantine_rate": "Too much in quarantine",
    "late_rate": "Too much late", "stale_asset": "Not fresh", "stuck_ingest": "Ingestion stuck", "lag": "Behind Kafka",
}  # fmt: skip
ROWS_SHOWN = 10


@dataclass(frozen=True)
class Item:
    """One entry: a bold line, what it says, and where to look."""

    head: str
    body: str
    link: str = ""
    rows: Sequence[Sequence[str]] = ()  # the first are the names


@dataclass(frozen=True)
class Message:
    """A title and its entries. ``about``: what it tells, the same for the same news, so that a mailbox can drop a
    repetition: ``opened`` or ``recovered`` with incident and severity, ``summary`` with its date, ``test`` with its time."""

    title: str
    items: Sequence[Item]
    about: Sequence[tuple[str, ...]] = ()

    def slack(self) -> dict[str, Any]:
        """The webhook's payload: the title as text for notifications, then a block an entry."""
        blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": self.title[:150]}}]
        for item in self.items:
            text = f"*{_escaped(item.head)}*\n{_escaped(item.body)}"
            if item.rows:
                text += f"\n```{_escaped(_aligned(item.rows))}```"
            if len(text) > SECTION:
                text = text[:SECTION] + ("…```" if item.rows else "…")
            if item.link:
                text += f"\n<{item.link}|Open in Dagster>"
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
        return {"text": self.title, "blocks": blocks[:50]}

    def text(self) -> str:
        """Plain text."""
        parts = [self.title]
        for item in self.items:
            parts.append("\n".join(part for part in (item.head, item.body, _aligned(item.rows), item.link) if part))
        return "\n\n".join(parts) + "\n"

    def email(self, sender: str, recipients: Sequence[str]) -> EmailMessage:
        """An e-mail with both a plain and an HTML text."""
        mail = EmailMessage()
        mail["Subject"] = " ".join(self.title.split())
        mail["From"] = sender
        mail["To"] = ", ".join(recipients)
        about = "\n".join(" ".join(one) for one in self.about) or self.text()
        identity = hashlib.sha256(about.encode()).hexdigest()[:32]
        mail["Message-ID"] = f"<{identity}@iot-platform>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(self.text())
        mail.add_alternative(self._html(), subtype="html")
        return mail

    def _html(self) -> str:
        parts = [f"<h2>{html.escape(self.title)}</h2>"]
        for item in self.items:
            parts.append(f"<p><b>{html.escape(item.head)}</b><br>{html.escape(item.body).replace(chr(10), '<br>')}</p>")
            if item.rows:
                parts.append(_html_table(item.rows))
            if item.link:
                parts.append(f'<p><a href="{html.escape(item.link)}">Open in Dagster</a></p>')
        return "".join(parts)


def news(incidents: Sequence[tuple[str, Incident]], dagster_url: str, now: datetime) -> Message:
    """One message about everything a channel is to be told at once: what began first, then what ended."""
    opened = [one for what, one in incidents if what == "opened"]
    ended = [one for what, one in incidents if what == "recovered"]
    opened.sort(key=lambda one: (one.severity != "ERROR", one.opened_at))
    items = [_opened(one, dagster_url) for one in opened] + [_ended(one, now) for one in ended]
    if len(items) > SHOWN:
        left = len(items) - SHOWN
        items = [*items[:SHOWN], Item(f"… and {left} more", "All of them: `iot alerts list`.")]
    about = sorted((what, one.incident_id, one.severity) for what, one in incidents)
    return Message(_title(opened, ended), items, about)


def _title(opened: Sequence[Incident], ended: Sequence[Incident]) -> str:
    if len(opened) == 1 and not ended:
        return f"{_sign(opened[0])} {NAMES[opened[0].kind]}: {opened[0].subject}"
    if len(ended) == 1 and not opened:
        return f"[over] {NAMES[ended[0].kind]}: {ended[0].subject}"
    counted = [f"{len(opened)} incident(s)"] * bool(opened) + [f"{len(ended)} over"] * bool(ended)
    return f"{_sign(opened[0]) if opened else '[over]'} {', '.join(counted)}"


def _sign(incident: Incident) -> str:
    return "[error]" if incident.severity == "ERROR" else "[warning]"


def _opened(incident: Incident, dagster_url: str) -> Item:
    link = f"{dagster_url.rstrip('/')}{incident.place}" if dagster_url else ""
    head = f"{_sign(incident)} {NAMES[incident.kind]}: {incident.subject}"
    since = f"since {_moment(incident.opened_at)}"
    return Item(head, f"{incident.summary} ({since})\nWhat to do: {incident.todo}", link)


def _ended(incident: Incident, now: datetime) -> Item:
    until = incident.cleared_at or incident.recovered_at or now
    minutes = max(1, round((until - incident.opened_at).total_seconds() / 60))
    lasted = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return Item(
        f"[over] {NAMES[incident.kind]}: {incident.subject}",
        f"{incident.summary}\nIt began {_moment(incident.opened_at)} and lasted {lasted}.",
    )


def trial(now: datetime) -> Message:
    """What ``iot alerts test`` sends."""
    return Message(
        "Test of the alerts of the IoT platform",
        [Item("This channel works", f"Sent by `iot alerts test`, {_moment(now)}. Nothing is wrong.")],
        [("test", now.isoformat())],
    )


def summary_message(summary: DailySummary, dagster_url: str) -> Message:
    """The daily summary, a section an entry."""
    items = [Item(summary.headline, "")]
    for title, sentence, rows in summary.sections():
        shown = rows[:ROWS_SHOWN]
        left = f" (first {ROWS_SHOWN} of {len(rows)})" if len(rows) > ROWS_SHOWN else ""
        names = [[name.replace("_", " ") for name in rows[0]]] if rows else []
        items.append(Item(title, sentence + left, rows=[*names, *([cell(row[name]) for name in row] for row in shown)]))
    if dagster_url:
        items.append(Item("The report", "", f"{dagster_url.rstrip('/')}/assets/reports/daily_report"))
    return Message(f"Daily summary of {summary.day} (UTC)", items, [("summary", summary.day.isoformat())])


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    lines = [
        "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row) + "</tr>"
        for row, tag in zip(rows, ["th", *["td"] * (len(rows) - 1)], strict=True)
    ]
    return f'<table border="1" cellspacing="0" cellpadding="4">{"".join(lines)}</table>'
