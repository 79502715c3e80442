"""The conservation checks: every consumed Kafka record is in Bronze or quarantine, every Bronze row of a date is in
Silver or rejected with a reason. None vanishes, none appears."""

from __future__ import annotations

from datetime import date

import dagster as dg

from iot_platform.checks.inspection import Inspection
from iot_platform.checks.outcome import Outcome
from iot_platform.lake.lake import Lake
from iot_platform.lake.ledger import offset_ledger


def conserves(inspection: Inspection, day: date) -> Outcome:
    """bronze = silver + rejected + pending, on one date."""
    line = inspection.ledger(day)
    lost = f"{line.difference} row(s) of Bronze are neither in Silver nor rejected"
    extra = f"{-line.difference} row(s) are in Silver or rejected that Bronze does not have"
    return Outcome(
        line.is_balanced,
        "" if line.is_balanced else (lost if line.difference > 0 else extra),
        {
            "bronze": line.bronze,
            "silver": line.silver,
            "rejected": sum(line.rejected.values()),
            "rejected_by_reason": dg.MetadataValue.json(dict(line.rejected)),
            "pending": line.pending,
            "difference": line.difference,
        },
        figure=abs(line.difference), unit="rows", fail_at=1.0,
    )  # fmt: skip


def offsets_conserve(lake: Lake) -> Outcome:
    """consumed = bronze + quarantined - redriven, in Kafka records, over all that was ever consumed."""
    ledger = offset_ledger(lake)
    missing = ledger.consumed - (ledger.bronze_messages + ledger.quarantined - ledger.redriven)
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
            "difference": missing,
        },
        figure=abs(missing), unit="records", fail_at=1.0,
    )  # fmt: skip
