"""What Bronze holds at and before certain Kafka offsets: which are there, and how far event time had come before each.

What belongs here: the anti-join of a redrive, and the lateness of what it brings. A later version of the table costs only
its new files, so that a look and the commit after it lie close together beside a stream that never pauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Place = tuple[str, int]  # topic and partition
ROWS_AT_ONCE = 131_072
NEVER = -(2**63)


class Earlier:
    """Rows of ``bronze/readings`` by the offsets that are asked about, given per topic and partition."""

    def __init__(self, lake: Lake, offsets: Mapping[Place, NDArray[np.int64]]) -> None:
        import numpy as np

        self.lake = lake
        self._offsets = {place: np.unique(asked) for place, asked in offsets.items() if len(asked)}
        self._is_there = {place: np.zeros(len(asked), bool) for place, asked in self._offsets.items()}
        self._reached = {place: np.full(len(asked), NEVER) for place, asked in self._offsets.items()}
        self._newest: dict[Place, NDArray[np.int64]] = {}
        self._seen: set[str] = set()

    def look(self, bronze: Snapshot) -> bool:
        """Take in the files of this version that were not looked at yet; whether they had any row that counts.

        Rows that a later version no longer has stay taken in: a merged file holds the rows of those it replaced.
        """
        fresh = [path for path in bronze.files() if path not in self._seen]
        if not fresh or not self._offsets:
            return False
        has_any = False
        sql = (
            "select topic, kafka_partition, kafka_offset, epoch_us(least(event_time, kafka_timestamp)) as reached"
            " from read_parquet($files, hive_partitioning = false, union_by_name = true)"
            " where list_contains($topics, topic) and kafka_offset <= $last"
        )
        parameters = {
            "files": fresh,
            "topics": sorted({topic for topic, _ in self._offsets}),
            "last": max(int(asked[-1]) for asked in self._offsets.values()),
        }
        self._newest.clear()
        with self.lake.reading(bronze.contract.name) as connection:
            for batch in connection.sql(sql, params=parameters).to_arrow_reader(ROWS_AT_ONCE):
                has_any |= self._take(batch)
        self._seen.update(fresh)
        return has_any

    def _take(self, batch: Any) -> bool:
        import numpy as np

        topics = batch.column("topic").dictionary_encode()
        codes = topics.indices.to_numpy()
        partitions = batch.column("kafka_partition").to_numpy()
        offsets = batch.column("kafka_offset").to_numpy()
        reached = batch.column("reached").to_numpy()
        has_any = False
        for code, topic in enumerate(topics.dictionary.to_pylist()):
            for (name, partition), asked in self._offsets.items():
                if name != topic:
                    continue
                here = (codes == code) & (partitions == partition)
                own, times = offsets[here], reached[here]
                at = np.searchsorted(asked, own, "left")
                found = at[(at < len(asked)) & (asked[np.minimum(at, len(asked) - 1)] == own)]
                self._is_there[name, partition][found] = True
                # Each row counts for the first offset asked about that lies after its own, and by that for all later ones.
                after = np.searchsorted(asked, own, "right")
                np.maximum.at(self._reached[name, partition], after[after < len(asked)], times[after < len(asked)])
                has_any |= bool(len(own))
        return has_any

    def holds(self, place: Place, offset: int) -> bool:
        """Whether Bronze has a row of this offset, which must be one that was asked about."""
        return bool(self._is_there[place][self._at(place, offset)])

    def reached_before(self, place: Place, offset: int) -> int | None:
        """The newest min(event time, arrival) of the rows before an offset that was asked about, µs since the epoch; None:
        there are none."""
        import numpy as np

        if place not in self._newest:
            self._newest[place] = np.maximum.accumulate(self._reached[place])
        moment = int(self._newest[place][self._at(place, offset)])
        return None if moment == NEVER else moment

    def _at(self, place: Place, offset: int) -> int:
        import numpy as np

        return int(np.searchsorted(self._offsets[place], offset))
