"""``iot demo``: the whole way once, on simulated history. Each step is what a user would call; here they stand in a row."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.check import shown as checks_shown
from iot_platform.cli.console import out, step, table
from iot_platform.cli.materialize import raise_failures, run
from iot_platform.cli.status import ledger_shown, offsets_shown
from iot_platform.errors import PlatformError
from iot_platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from iot_platform.automation.run_events import RunResult
    from iot_platform.lake import Lake


def demo(
    days: Annotated[int, typer.Option(help="whole UTC days of history, up to last midnight", min=1)] = 3,
    devices: Annotated[int, typer.Option(help="devices per contract", min=3)] = 6,
    seed: Annotated[int, typer.Option(help="the same seed says the same", min=0)] = 7,
) -> None:
    """The whole way once: simulator, Kafka, Spark, Bronze, Silver, Gold, checks, marts. Again: only what is new.

    Example: iot demo --days 3
    """
    from iot_platform.ingest import lag
    from iot_platform.local.kafka import running_kafka
    from iot_platform.topics import create_topics

    settings = load_settings()
    began = perf_counter()
    now = datetime.now(UTC)
    yesterday = (now - timedelta(days=1)).date()
    results: list[RunResult] = []
    with ExitStack() as services:
        with step("Start Kafka on this machine") as line:
            line.say(services.enter_context(running_kafka(settings)).bootstrap)
        with step("Create the topics") as line:
            line.say(f"{len(create_topics(settings))} topics")
        _simulate(settings, days, devices, seed, now)
        waiting = sum(topic.lag for topic in lag(settings).values())
        if waiting:
            with step(f"Drain Kafka into Bronze by Spark ({waiting:,} messages)") as line:
                drained = run(settings, (yesterday, yesterday), ("bronze",), line, force=True)
            _keep(results, drained)
        with step("Stop Kafka"):
            services.close()
    with step("Silver, Gold, checks and marts by Dagster, where inputs moved") as line:
        made = run(settings, None, ("registry", "silver", "gold", "staging", "marts"), line, force=False)
        if made is None:
            line.say("everything is up to date")
    _keep(results, made)
    _show(settings, results)
    out.print(f"\nDone in {perf_counter() - began:.0f} s. State: {settings.home}\nWhere to look next:")
    for command, what in NEXT:
        out.print(f"  [bold]{command}[/bold]  {what}")


NEXT = (
    ("make dev                ", "the asset graph in Dagster's UI, with a live simulator"),
    (".venv/bin/iot status    ", "tables, topics, ledger (--json for programs)"),
    (".venv/bin/iot query SQL ", 'e.g. "select * from gold_daily_summary limit 5" or "from device_health_daily"'),
    (".venv/bin/iot report p95", "the report above, for any range; --format csv|json"),
)


def _simulate(settings: Settings, days: int, devices: int, seed: int, now: datetime) -> None:
    from iot_platform.simulator.options import FleetOptions, demo_options
    from iot_platform.simulator.simulation import simulate

    with step(f"Simulate {days} days of {devices} devices a contract") as line:
        options = demo_options(now, days, FleetOptions(devices=devices, seed=seed))
        result = simulate(settings, options, now=now, on_progress=lambda n, of: line.doing(f"{n:,} of {of:,}"))
        line.say(f"{result.delivered:,} messages sent")
        if result.already_sent:
            line.say(f"{result.already_sent:,} were sent before")
        injected = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.injected.items()))
        if injected:
            line.say(f"among them {injected}")


def _keep(results: list[RunResult], result: RunResult | None) -> None:
    if result is not None:
        raise_failures(result)
        results.append(result)


def _show(settings: Settings, results: list[RunResult]) -> None:
    from iot_platform.lake import Lake
    from iot_platform.lake.ledger import date_ledger, offset_ledger

    lake = Lake(settings)
    for title, sql in REPORTS:
        out.print()
        out.print(_asked(lake, title, sql))
    ledger, offsets = date_ledger(lake), offset_ledger(lake)
    out.print()
    out.print(ledger_shown([line.as_json() for line in ledger]))
    out.print(offsets_shown(offsets.as_json()))
    out.print()
    out.print(_verdicts_shown(settings, lake))
    checks = [check for result in results for check in result.checks]
    if checks:
        out.print()
        out.print(checks_shown(checks, "Checks"))
        out.print(_timings_shown(results))
    if not (offsets.is_balanced and all(line.is_balanced for line in ledger)):
        raise PlatformError("the ledger does not balance", "Run `iot status`, and compare with the logs under IOT_HOME.")


REPORTS = (
    (
        "p95 of event durations in ms, 3-sigma outliers left out",
        "select event_date as date, device_type, events, excluded, mean, std, p95"
        " from gold_duration_p95 order by all desc limit 15",
    ),
    (
        "Health: the ten least healthy devices",
        "select device_id, contract, count(*) as windows, sum(expected) as expected, sum(actual) as actual,"
        " avg(health_pct) as health_pct, count(*) filter (where is_failing) as failing"
        " from gold_sensor_health group by all order by health_pct, device_id limit 10",
    ),
)


def _asked(lake: Lake, title: str, sql: str) -> Any:
    from iot_platform.lake.query import select

    return table(title, *select(lake, sql))


def _verdicts_shown(settings: Settings, lake: Lake) -> Any:
    from iot_platform.simulator.verdict import truth_files, verdicts

    rows = [
        (one.kind, one.injected, one.found, one.missed, one.unexpected, one.recall, one.precision)
        for one in verdicts(lake, truth_files(settings.home))
    ]
    columns = ("injected", "count", "found", "missed", "unexpected", "recall", "precision")
    return table("What was injected against what was found", columns, rows)


def _timings_shown(results: list[RunResult]) -> Any:
    seconds: dict[str, float] = defaultdict(float)
    for result in results:
        for one in result.steps:
            seconds[one.step] += one.seconds
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:8]
    rows = [(name, round(spent, 1)) for name, spent in slowest]
    return table("Slowest steps", ("step", "seconds"), rows)
