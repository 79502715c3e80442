"""The conservation checks: every consumed Kafka record is in Bronze or quarantine, every Bronze row of a date is in
Silver or rejected with a reason. None vanishes, none appears. Which ones did is looked up only when the counts differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from iot_platform.checks.inspection import BRONZE, REJECTED, SILVER, Inspection, answered
from iot_platform.checks.outcome import Outcome, shown
from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.ledger import Books, offset_ledger, taken

MOST_SHOWN = 1000

# A reading is told by its place in Kafka and its metric: Silver and rejected carry both on. The time is of the place, since
# a topic that was made anew counts its offsets anew.
ROWS = """
with known as (
    select 'bronze' as side, topic, kafka_partition, kafka_offset, kafka_timestamp, metric, device_id, event_time
    from bronze_readings
    union all by name
    select 'silver' as side, topic, kafka_partition, kafka_offset, kafka_timestamp, metric, device_id, event_time
    from silver_readings
    union all by name
    select 'rejected' as side, topic, kafka_partition, kafka_offset, kafka_timestamp, metric, device_id, event_time
    from silver_rejected_readings
)
select
    topic, kafka_partition, kafka_offset, metric, any_value(device_id) as device_id, any_value(event_time) as event_time,
    count(*) filter (where side = 'bronze') as bronze,
    count(*) filter (where side = 'silver') as silver,
    count(*) filter (where side = 'rejected') as rejected
from known
group by topic, kafka_partition, kafka_offset, kafka_timestamp, metric
having bronze <> silver + rejected
order by topic, kafka_partition, kafka_offset, metric
"""

# `times`: how often a record counts in the ledger; one that was redriven counts in Bronze only. Beyond the ends of what was
# taken stand marks, so that what is missing there is a gap too.
RECORDS = """
with counted as (
    select topic, kafka_partition, kafka_offset, sum(times) as times
    from (
        select distinct topic, kafka_partition, kafka_offset, 1 as times from ({bronze})
        union all
        select topic, kafka_partition, kafka_offset, (redriven_at is null)::int as times from ({quarantine})
    )
    group by all
),
marks as (
    select topic, kafka_partition, kafka_offset from counted where times > 0
    union
    select topic, kafka_partition, unnest([first - 1, until]) as kafka_offset from ({taken})
),
gaps as (
    select
        topic, kafka_partition, kafka_offset - 1 as last,
        lag(kafka_offset) over (partition by topic, kafka_partition order by kafka_offset) + 1 as first
    from marks
)
select topic, kafka_partition, first as first_offset, last as last_offset, last - first + 1 as records, 'nowhere' as found
from gaps
where last >= first
union all
select topic, kafka_partition, kafka_offset, kafka_offset, 1, times::bigint || ' times'
from counted
where times > 1
order by topic, kafka_partition, first_offset
"""


def conserves(inspection: Inspection, day: date) -> Outcome:
    """bronze + expired = silver + rejected + pending + erased, on one date. Rows not in as many places as they should be are
    shown."""
    line = inspection.ledger(day)
    lost = f"{line.difference} row(s) of Bronze are neither in Silver nor rejected"
    extra = f"{-line.difference} row(s) are in Silver or rejected that Bronze does not have"
    offending = [] if line.is_balanced else inspection.rows(day, ROWS, (BRONZE, SILVER, REJECTED), MOST_SHOWN)
    return Outcome(
        line.is_balanced,
        "" if line.is_balanced else (lost if line.difference > 0 else extra),
        {
            "bronze": line.bronze,
            "silver": line.silver,
            "rejected": sum(line.rejected.values()),
            "rejected_by_reason": dg.MetadataValue.json(dict(line.rejected)),
            "pending": line.pending,
            "erased": line.erased,
            "expired": line.expired,
            "difference": line.difference,
            **shown(offending),
        },
        figure=abs(line.difference), unit="rows", fail_at=1.0,
    )  # fmt: skip


def offsets_conserve(inspection: Inspection) -> Outcome:
    """consumed = bronze + quarantined - redriven + erased + expired + landing, in Kafka records, over all that was ever
    consumed. The offsets that are nowhere, or more than once, are shown."""
    books = Books.of(inspection.lake)
    ledger = offset_ledger(inspection.lake, books)
    missing = ledger.difference
    lost = f"{missing} consumed Kafka record(s) are neither in Bronze nor in quarantine"
    extra = f"{-missing} Kafka record(s) more are in Bronze and quarantine than were consumed"
    return Outcome(
        ledger.is_balanced,
        "" if ledger.is_balanced else (lost if missing > 0 else extra),
        {
            "consumed": ledger.consumed,
            "bronze": ledger.bronze_messages,
            "quarantined": ledger.quarantined,
            "redriven": ledger.redriven,
            "erased": ledger.erased,
            "expired": ledger.expired,
            "landing": ledger.landing,
            "without_record": ledger.without_record,
            "difference": missing,
            **shown([] if ledger.is_balanced else _misplaced(inspection, books)),
        },
        figure=abs(missing), unit="records", fail_at=1.0,
    )  # fmt: skip


def _misplaced(inspection: Inspection, books: Books) -> list[Mapping[str, Any]]:
    """Offsets that are nowhere, as ranges, and those that count more than once. Where a producer uses transactions, the
    marks that it leaves in a topic are among the former."""
    sources: dict[str, str] = {}
    for name, snapshot in (("bronze", books.bronze), ("quarantine", books.quarantine)):
        sources[name] = select_files(snapshot.contract, snapshot.files())
    ranges = [(topic, partition, *offsets) for (topic, partition), offsets in taken(inspection.lake, books).items()]
    columns = "null::varchar as topic, null::int as kafka_partition, null::bigint as first, null::bigint as until"
    given = " union all ".join(["select ?::varchar, ?::int, ?::bigint, ?::bigint"] * len(ranges))
    known = f"select {columns} where false" + (f" union all {given}" if ranges else "")
    with inspection.reading(BRONZE) as connection:
        values = [value for row in ranges for value in row]
        return answered(connection, RECORDS.format(**sources, taken=known), MOST_SHOWN, values)
