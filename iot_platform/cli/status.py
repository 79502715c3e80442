"""``iot status``: tables, topics and the conservation ledger."""

from __future__ import annotations

from typing import Annotated, Any

from rich.table import Table

from iot_platform.cli.console import JsonOption, emit_json, out, table
from iot_platform.settings import load_settings


def status(as_json: Annotated[bool, JsonOption] = False) -> None:
    """How the tables, the topics and the ledger stand; needs no running service.

    Example: iot status --json
    """
    from iot_platform.status import platform_status

    found = platform_status(load_settings())
    if as_json:
        emit_json(found)
        return
    out.print(tables_shown(found["tables"]))
    for name, days in found["held"].items():
        todo = f"iot rollback --table {name} --date … --release"
        out.print(f"held by a rollback: {name} {', '.join(days)} ({todo})", markup=False)
    out.print(
        table(
            "Topics" if any(row["lag"] is not None for row in found["topics"].values()) else "Topics (no broker answers)",
            ("topic", "end offset", "committed", "lag"),
            [(name, row["end_offset"], row["committed_offset"], row["lag"]) for name, row in found["topics"].items()],
        )
    )
    out.print(ledger_shown(found["ledger"], limit=31))
    out.print(offsets_shown(found["offsets"]))
    for line in ingest_shown(found["ingest"]):
        out.print(line, markup=False)


def tables_shown(tables: dict[str, Any]) -> Table:
    rows = [
        (name, row["version"], row["rows"], row["bytes"], len(row["dates"]) or None, max(row["dates"], default=None))
        for name, row in tables.items()
    ]
    return table("Tables", ("table", "version", "rows", "bytes", "dates", "newest"), rows)


def ledger_shown(ledger: list[dict[str, Any]], limit: int = 0) -> Table:
    """The newest ``limit`` dates (0: all): what came in against what came out."""
    shown = ledger[-limit:] if limit else ledger
    terms = [name for name in ("erased", "expired") if any(row[name] for row in shown)]
    rows = [
        (
            row["event_date"], row["bronze"], row["silver"],
            *(row["rejected"].get(reason, 0) for reason in ("duplicate", "null_value", "not_finite", "out_of_range")),
            row["pending"], *(row[name] for name in terms), row["balanced"],
        )
        for row in shown
    ]  # fmt: skip
    columns = ("date", "bronze", "silver", "duplicate", "null", "not finite", "out of range", "pending", *terms, "balanced")
    title = "Ledger: bronze" + " + expired" * ("expired" in terms) + " = silver + rejected + pending"
    title += " + erased" * ("erased" in terms)
    if len(shown) < len(ledger):
        title += f" (newest {len(shown)} of {len(ledger)} dates)"
    return table(title, columns, rows)


def ingest_shown(ingest: dict[str, Any]) -> list[str]:
    """The ingest in a line; where it runs, a second one with its figures."""
    lines = [f"Ingestion: {ingest['state']}: {ingest['said']}"]
    if (progress := ingest["progress"]) and ingest["state"] not in ("absent", "stopped"):
        line = f"  since {progress['since']}, last heard of at {progress['beat_at']}"
        if progress["generation"]:
            line += f", generation {progress['generation']}"
        if progress["last_batch_at"]:  # before the first one there are no figures
            line += (
                f": {progress['messages_per_second']:,.0f} messages a second in the last minute, the last batch brought"
                f" {progress['batch_messages']:,} in {progress['batch_seconds']:.1f} s,"
                f" {progress['rss_bytes'] / 2**20:,.0f} MB of memory"
            )
        lines.append(line)
        if progress["last_error"]:
            lines.append(f"  last error, at {progress['last_error_at']}: {progress['last_error']}")
    return lines


def offsets_shown(offsets: dict[str, Any]) -> str:
    balanced = "balanced" if offsets["balanced"] else "NOT BALANCED"
    gone = "".join(f" + {offsets[name]:,} {name}" for name in ("erased", "expired", "landing") if offsets[name])
    without = offsets["without_record"]
    empty = f"; {without:,} offsets held no record (marks of transactions, or given up by --accept-loss)" if without else ""
    return (
        f"Offsets: {offsets['consumed']:,} consumed = {offsets['bronze_messages']:,} in Bronze"
        f" + {offsets['quarantined']:,} in quarantine - {offsets['redriven']:,} redriven{gone}: {balanced}{empty}"
    )
