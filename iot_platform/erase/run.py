"""The steps of an erasure, in order. Each can be done again; one that was killed is run again from the start.

First the tombstone: from then on no message of the device is let in. Then its rows, from Bronze to Gold and out of the
registries, each table with its part of the ledger in the same commit; texts of others that name it; what it was summed up in
is made again. When no run reads old versions any more, they go: data files, log entries, checkpoints. The proof comes last.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from iot_platform.contracts.tables import TABLES
from iot_platform.engines.materialize import pipeline_version
from iot_platform.erase.beside import Cleaned, clean_beside
from iot_platform.erase.bronze import erase_readings
from iot_platform.erase.counts import Count, as_json, count_all, of_json
from iot_platform.erase.derived import erase_derived
from iot_platform.erase.device_rows import delete_device, device_tables, known_devices
from iot_platform.erase.old_versions import redact_log, remove_old_files
from iot_platform.erase.quarantine import erase_messages
from iot_platform.erase.quiet import wait_until_quiet
from iot_platform.erase.registry import forget_device
from iot_platform.erase.remake import Remade, remake, renew_build_file
from iot_platform.erase.texts import redact_texts
from iot_platform.erase.trace import Trace
from iot_platform.erase.unfinished import folder, forget, remember
from iot_platform.erase.verification import SETTLE_SECONDS, Verification, verify
from iot_platform.errors import InputError, PlatformError
from iot_platform.failpoints import reach
from iot_platform.lake.erased_sums import held_sums
from iot_platform.lake.erasures import Erasure, read_erasures, write_erasure
from iot_platform.lake.lake import Lake
from iot_platform.lake.retention import closed_before
from iot_platform.lake.tombstones import ensure_key, fingerprint_of, hash_of, put_in_force, right_key
from iot_platform.local.process import locked

ROUNDS = 2  # what a run or a batch that began before brought back is found by the proof, and goes in a second round
DERIVED = ("silver/rejected_readings", "silver/readings")
ByDate = dict[date | None, int]


@dataclass
class Erased:
    """What an erasure did. ``counts``: by table the device's rows and all rows, before and after; ``closed``: dates that are
    never made again, whose sums still hold the device's readings; ``held``: by table the dates whose sums a rollback keeps;
    ``problems``: what could not be done, in words."""

    device_id: str
    number: int = 0
    is_repeated: bool = False
    before: dict[str, Count] = field(default_factory=dict)
    after: dict[str, Count] = field(default_factory=dict)
    remade: Remade = field(default_factory=Remade)
    closed: list[date] = field(default_factory=list)
    held: dict[str, list[date]] = field(default_factory=dict)
    files_removed: int = 0
    log_entries: int = 0
    checkpoints: int = 0
    texts: int = 0
    beside: list[Cleaned] = field(default_factory=list)
    verification: Verification = field(default_factory=Verification)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.verification.is_clean and not self.problems


@dataclass(frozen=True)
class Request:
    """Whom to erase. ``force``: also who is in no table; ``wait_seconds``: how long runs are waited for; ``now`` gives the
    time, UTC; ``on_step`` is told what is being done."""

    device_id: str
    force: bool = False
    wait_seconds: float = 300.0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_step: Callable[[str], None] = lambda _: None


def trace_of(lake: Lake, device_id: str) -> Trace:
    return Trace.of(device_id, known_devices(lake, device_id))


def erase(lake: Lake, request: Request) -> Erased:
    """Erase a device; or say that it was erased already, when nothing of it is left.

    Raises ``InputError`` for an id that nobody knows (unless ``force``) or a wrong key, and ``PlatformError`` where a step
    cannot be done: what was done stands, and the same again goes on. What is left at the end is in the result.
    """
    clock, say = request.now, request.on_step
    with locked(folder(lake.settings) / "lock", 2):
        say("counting")
        trace = trace_of(lake, request.device_id)
        counted = count_all(lake, trace)
        erasure, is_repeated = _begin(lake, request, counted, clock())
        result = Erased(request.device_id, erasure.number, is_repeated, of_json(json.loads(erasure.counts_before)))
        if is_repeated and erasure.finished_at and not any(count.device for count in counted.values()):
            say("looking through all files")
            result.before = result.after = counted
            result.verification = verify(lake, trace)
            if result.verification.is_clean:
                result.beside = clean_beside(lake.settings, trace)  # what was in use then
                result.held = open_held_sums(lake)
                return result
        for _ in range(ROUNDS):
            erasure = _round(lake, request, trace, erasure, result)
            if not result.verification.traces:
                break
        result.after = count_all(lake, trace)
        result.held = open_held_sums(lake)
        done = {"counts_after": json.dumps(as_json(result.after)), "finished_at": clock() if result.is_clean else None}
        write_erasure(lake, replace(erasure, **done))
        if result.is_clean:
            forget(lake.settings, erasure.device_hash)
        return result


def _begin(lake: Lake, request: Request, counted: dict[str, Count], now: datetime) -> tuple[Erasure, bool]:
    """The audit row, in force as a tombstone; and whether it was there before."""
    erasures = read_erasures(lake)
    key = right_key(lake.settings, erasures) if erasures else ensure_key(lake.settings)
    device_hash = hash_of(request.device_id, key)
    erasure = next((one for one in erasures if one.device_hash == device_hash), None)
    is_repeated = erasure is not None
    if erasure is None:
        if not any(count.device for count in counted.values()) and not request.force:
            raise InputError(
                f"no table knows a device {request.device_id!r}",
                "Check the id; --force refuses its messages from now on all the same.",
            )
        remember(lake.settings, device_hash, request.device_id)
        erasure = Erasure(
            0, device_hash, fingerprint_of(key), now, None, json.dumps(as_json(counted)), None, None, pipeline_version()
        )
        erasure = write_erasure(lake, erasure)
    elif erasure.finished_at is None or any(count.device for count in counted.values()):
        remember(lake.settings, device_hash, request.device_id)
    reach("erase.after_audit")
    put_in_force(lake, erasure.number)
    reach("erase.after_tombstone")
    return erasure, is_repeated


def _round(lake: Lake, request: Request, trace: Trace, erasure: Erasure, result: Erased) -> Erasure:
    """Everything once, from the rows to the proof; the audit row as it stands then."""
    settings, clock, say = lake.settings, request.now, request.on_step
    say("deleting its rows")
    erasure, touched = _delete_rows(lake, trace, erasure, clock())
    first_open = closed_before(lake) or date.min
    result.closed = sorted({*result.closed, *(day for day in touched if day < first_open)})
    for table in TABLES:
        if lake.exists(table) and table != "bronze/quarantine":
            result.texts += redact_texts(lake, table, trace)
    reach("erase.after_texts")
    wait_until_quiet(settings, request.wait_seconds, say)
    say("making again what it was summed up in")
    remade = remake(settings, touched, clock(), lambda done: say(f"making again: {done}"))
    result.remade = remade if remade.days else result.remade
    if not remade.is_success:
        result.problems = [f"not everything could be made again: {remade.log}"]
    reach("erase.after_remake")
    renew_build_file(settings)
    reach("erase.after_marts")
    wait_until_quiet(settings, request.wait_seconds, say)
    reach("erase.before_vacuum")
    _remove_history(lake, trace, result, clock(), say)
    result.beside = clean_beside(settings, trace)
    reach("erase.after_beside")
    result.verification = verify(
        lake, trace, lambda files: say(f"looking through all files: {files}"), min(SETTLE_SECONDS, request.wait_seconds)
    )
    return erasure


def _delete_rows(lake: Lake, trace: Trace, erasure: Erasure, now: datetime) -> tuple[Erasure, set[date]]:
    device_id = trace.device_id
    touched: set[date] = set()
    touched |= {day for day in erase_readings(lake, device_id) if day}
    reach("erase.after_bronze_readings")
    erase_messages(lake, trace)
    reach("erase.after_bronze_quarantine")
    # Before what is made from them, so that whoever makes health meanwhile makes it without the device, or again.
    delete_device(lake, "registry/first_readings", device_id, lambda *_: {})
    reach("erase.after_registry_first_readings")
    erasure = forget_device(lake, erasure, device_id, now)
    reach("erase.after_registry_devices")
    derived = [name for name in device_tables() if TABLES[name].layer in ("silver", "gold") and name not in DERIVED]
    for table in (*DERIVED, *derived):
        touched |= {day for day in erase_derived(lake, table, device_id) if day}
        reach(f"erase.after_{TABLES[table].view}")
    return erasure, touched


def _remove_history(lake: Lake, trace: Trace, result: Erased, now: datetime, say: Callable[[str], None]) -> None:
    for table in TABLES:
        if not lake.exists(table):
            continue
        say(f"removing old versions of {table}")
        result.files_removed += remove_old_files(lake, table, trace, now)
        reach("erase.after_vacuum")
        entries, checkpoints = redact_log(lake, table, trace)
        result.log_entries += entries
        result.checkpoints += checkpoints
        reach("erase.after_log")


def open_held_sums(lake: Lake) -> dict[str, list[date]]:
    """By table the dates that are made again, without the device, as soon as they are released."""
    first_open = closed_before(lake) or date.min
    held = {table: [day for day in days if day >= first_open] for table, days in held_sums(lake).items()}
    return {table: days for table, days in held.items() if days}


def unfinished(lake: Lake) -> list[Erasure]:
    """Erasures that were begun and not ended."""
    return [one for one in read_erasures(lake) if one.finished_at is None]


def refuse_left(result: Erased) -> None:
    """Raise ``PlatformError`` in one line when something of the device is left."""
    if result.problems:
        raise PlatformError("; ".join(result.problems), "Its rows are gone. Run it again when that is mended.")
    if left := result.verification.traces:
        raise PlatformError(
            f"the device is still named in {len(left)} file(s): {', '.join(left[:3])}",
            "Run it again; if it stays so, the file is none of the platform's tables: remove it.",
        )
    if unknown := result.verification.unreadable:
        raise PlatformError(
            f"{len(unknown)} file(s) cannot be read, so whether they name the device is not known: {', '.join(unknown[:3])}",
            "What a killed writer left goes by itself an hour after it: run it again then, or remove it if nobody writes it",
        )
