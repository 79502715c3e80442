"""What the simulator injected against what the platform found: by Kafka coordinates, kind by kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from iot_platform.lake.lake import Lake
from iot_platform.lake.query import connect
from iot_platform.simulator.truth import Injected, Truth, load_truth

_COLUMNS = ("kind", "reason", "topic", "partition", "offset", "event_id", "metric")

# Both sides of each kind as the same columns. A message may carry several readings: a whole message counts once.
_INJECTED = {
    "malformed": "select topic, partition, \"offset\", reason as what from injected where kind = 'malformed'",
    "duplicate": "select topic, partition, \"offset\", '' as what from injected where kind = 'duplicate'",
    "null": "select topic, partition, \"offset\", metric as what from injected where kind = 'null'",
    "out_of_range": "select topic, partition, \"offset\", metric as what from injected where kind = 'out_of_range'",
    "late": "select topic, partition, \"offset\", '' as what from injected where kind = 'late'",
    "anomaly": "select topic, partition, \"offset\", metric as what from injected where kind = 'anomaly'",
}
_PLACE = "topic, kafka_partition, kafka_offset"
_FOUND = {
    "malformed": f"select {_PLACE}, reason from bronze_quarantine",
    "duplicate": f"select distinct {_PLACE}, '' from silver_rejected_readings where reason = 'duplicate'",
    "null": f"select {_PLACE}, metric from silver_rejected_readings where reason = 'null_value'",
    "out_of_range": f"select {_PLACE}, metric from silver_rejected_readings where reason = 'out_of_range'",
    "late": f"select distinct {_PLACE}, '' from bronze_readings where is_late",
    "anomaly": f"select {_PLACE}, metric from silver_readings where is_anomaly",
}


@dataclass(frozen=True)
class Verdict:
    """One kind of injection. ``missed``: injected, not found; ``unexpected``: found, not injected."""

    kind: str
    injected: int
    found: int
    missed: int
    unexpected: int

    @property
    def recall(self) -> float | None:
        """Share of the injected that was found; None when nothing was injected."""
        return (self.injected - self.missed) / self.injected if self.injected else None

    @property
    def precision(self) -> float | None:
        """Share of the found that was injected; None when nothing was found."""
        return (self.found - self.unexpected) / self.found if self.found else None


def truth_files(home: Path) -> list[Path]:
    """The truth of every simulation of this home, oldest name first."""
    return sorted((home / "truth").glob("*.jsonl"))


def verdicts(lake: Lake, paths: Iterable[Path]) -> list[Verdict]:
    """Compare everything in these truth files with the tables; meant for a lake that only simulations filled."""
    truths = [load_truth(path) for path in paths]
    with connect(lake) as connection:
        connection.register("injected", _table(truths))
        found: list[Verdict] = []
        for kind, injected in _INJECTED.items():
            answer = connection.execute(
                f"with wanted as ({injected}), got as ({_FOUND[kind]}) select (select count(*) from wanted),"
                " (select count(*) from got), (select count(*) from (from wanted except from got)),"
                " (select count(*) from (from got except from wanted))"
            ).fetchone()
            found.append(Verdict(kind, *(answer or (0, 0, 0, 0))))
    return found


def _table(truths: Iterable[Truth]) -> pa.Table:
    lines: list[Injected] = [line for truth in truths for line in truth.injected]
    rows = [{name: asdict(line)[name] for name in _COLUMNS} for line in lines]
    types = {"partition": pa.int32(), "offset": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS]))
