"""The mark that a redriven message gets in quarantine: ``redriven_at``, set after Bronze has it.

What belongs here: the second step of a redrive. Writing only the files anew that hold the messages, beside whoever writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import pyarrow as pa
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.timestamps import EPOCH
from iot_platform.ingest.earlier import Place
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.quarantine import QUARANTINE

ATTEMPTS = 20
SPILL_BYTES = 256 << 20


def mark(lake: Lake, day: date, offsets: Mapping[Place, Sequence[int]], now: datetime) -> int | None:
    """Say in quarantine that these messages of one date of arrival are in Bronze; how many rows did not say so before.

    Only the files that hold them are written anew. None where a writer of the date was faster every time: they stay
    unmarked, which loses nothing, and the next redrive marks them.
    """
    rows = [(topic, partition, offset) for (topic, partition), own in offsets.items() for offset in own]
    source = pa.table(
        {
            "topic": pa.array([row[0] for row in rows], pa.string()),
            "kafka_partition": pa.array([row[1] for row in rows], pa.int32()),
            "kafka_offset": pa.array([row[2] for row in rows], pa.int64()),
        }
    )
    same = " and ".join(f"q.{name} = s.{name}" for name in source.column_names)
    when = f"arrow_cast({(now - EPOCH) // EPOCH.resolution}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(QUARANTINE)
        merge = snapshot.delta.merge(
            source,
            f"q.event_date = '{day.isoformat()}' and q.redriven_at is null and {same}",
            source_alias="s",
            target_alias="q",
            writer_properties=writer_properties(snapshot.contract),
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": json.dumps({"redriven": len(rows), "date": day.isoformat()})}
            ),
            max_spill_size=SPILL_BYTES,
        )
        try:
            return int(merge.when_matched_update({"redriven_at": when}).execute()["num_target_rows_updated"])
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(QUARANTINE, error) from None
    return None
