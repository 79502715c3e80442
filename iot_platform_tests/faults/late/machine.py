"""Any interleaving of landings, late and repeated readings, runs, kills and declarations ends in the same tables.

A lake that nobody helps is driven by drawn steps. After every landing exactly the dates that its readings touch are asked
for; whenever everything was made, all tables equal the recomputation from scratch of ``oracle``.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from iot_platform.automation.schedules import close
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import registry_is_stale, sync_registry
from iot_platform.erase.remake import Remade
from iot_platform.erase.run import Request, erase
from iot_platform.errors import InputError, LakeError
from iot_platform.ingest.redrive import redrive
from iot_platform.lake import Lake
from iot_platform.lake.expiry import expire
from iot_platform.lake.levels import Levels
from iot_platform.lake.maintain import maintain
from iot_platform.lake.quarantine import Chosen
from iot_platform.lake.rollback import release, roll_back
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.faults.late.compare import KEYS, assert_balanced, assert_recomputed, stored
from iot_platform_tests.faults.late.fleet import CROWD, MINUTE, SPEAKS, Fleet, Piece, pieces
from iot_platform_tests.faults.late.landing import LocalStream
from iot_platform_tests.faults.late.messages import Log, Taken
from iot_platform_tests.faults.late.oracle import DAY, EPOCH, Device, Rows, World, midnight, newest, registry, silver
from iot_platform_tests.faults.places import Place, count, landed

LANDING_PLACES = ("ingest.before_commits", "ingest.after_readings", "ingest.after_quarantine")
REGISTRY_PLACES = ("after_metrics", "after_first_readings", "after_devices", "after_mark")
ERASE_PLACES = (
    "nowhere", "erase.after_audit", "erase.after_tombstone", "erase.after_bronze_readings", "erase.after_bronze_quarantine",
    "erase.after_registry_devices", "erase.after_silver_readings", "erase.after_gold_sensor_health", "erase.after_vacuum",
)  # fmt: skip
RUN_PLACES = ("derived.before_commit", "derived.after_commit")
DEVICE_COLUMNS = "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at"
METRIC_COLUMNS = "contract,metric,unit,min_value,max_value,source"
FIRST_DATE = date(2026, 3, 6)  # what is older is refused until it is redriven
AFTERWARDS = datetime(2026, 4, 1, tzinfo=UTC)  # all dates of the fleet are over
Stale = dict[str, set[date]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


@contextmanager
def killed_at(place: str, nth: int = 1) -> Iterator[list[str]]:
    """The block ends when this place is passed for the n-th time; what it yields holds the place then."""
    passed: list[str] = []
    died: list[str] = []

    def reach(name: str) -> None:
        if name == place:
            passed.append(name)
            if len(passed) == nth:
                died.append(name)
                raise Killed(name)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("ingest.sink", "ingest.redrive", "engines.materialize", "engines.registry", "erase.run"):
            patch.setattr(f"iot_platform.{module}.reach", reach)
        try:
            yield died
        except Killed:
            if currently_in_test_context():
                note(f"killed at {place}")


@dataclass
class Played:
    """What a round went through: messages sent, and of them lost or too many by the count of the tables; kills, lost
    checkpoints, repeated batches, erasures and runs of old inputs."""

    messages: int = 0
    faults: int = 0
    lost: int = 0
    duplicated: int = 0


class LateData(RuleBasedStateMachine):
    """The lake, the log that it drinks from, and what the test knows of both."""

    engine: DuckDBEngine  # one for all examples: opening one costs more than most steps
    played: Played

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="late-"))
        self.settings = Settings(home=self.home, _env_file=None)  # pyright: ignore[reportCallIssue]
        self.lake = Lake(self.settings)
        self.fleet = Fleet(Log())
        self.stream = LocalStream(self.lake, self.fleet.log, lambda: self.fleet.now, FIRST_DATE)
        self.world = World(taken=self.stream.taken)
        self.pinned: Levels | None = None
        self.closed: dict[str, dict[date, Rows]] = {table: {} for table in KEYS}
        self.gone: set[Place] = set()  # messages that were deleted on purpose, after they had been landed

    def teardown(self) -> None:
        try:
            self.settle()
            self.count()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def count(self) -> None:
        """Of all that was sent each message is in Bronze or in quarantine, once: by the log and the rows of the tables."""
        counted = count(self.lake, self.fleet.log.sent(), self.gone)
        self.played.messages += counted.messages
        self.played.lost += len(counted.lost)
        self.played.duplicated += len(counted.duplicated)
        counted.assert_exact()

    # ---- landing

    @initialize(shuffle=st.integers(0, 2**16), days=st.integers(1, 4), crowded=st.integers(0, 9))
    def begin_with_a_history(self, shuffle: int, days: int, crowded: int) -> None:
        """Some days of every contract, hour by hour; now and then a day with events enough for a percentile."""
        for speaks in SPEAKS:
            drawn = [Piece(speaks, device, timedelta(0), 24 * days, 60, "spiked", "hall") for device in (0, 1)]
            self.fleet.say(drawn, random.Random(shuffle), MINUTE)
        old = Piece(SPEAKS[0], 2, timedelta(days=6), 3, 60, "waves", None)  # refused, and there for a redrive
        self.fleet.say([old], random.Random(shuffle), MINUTE)
        if not crowded:
            self.fleet.say([CROWD], random.Random(shuffle), MINUTE)
        self._drain_and_look()

    @rule(drawn=pieces, shuffle=st.integers(0, 2**16), wait=st.sampled_from([1, 20, 300, 1_500]))
    def land(self, drawn: list[Piece], shuffle: int, wait: int) -> None:
        """Messages arrive, of any age and in any order, and one batch takes them."""
        self.fleet.say(drawn, random.Random(shuffle), timedelta(minutes=wait))
        self._drain_and_look()

    @rule(drawn=pieces, shuffle=st.integers(0, 2**16), place=st.sampled_from(LANDING_PLACES))
    def land_and_die(self, drawn: list[Piece], shuffle: int, place: str) -> None:
        """The same, and ingestion dies on the way; what it leaves behind is landed by whoever comes next."""
        self.fleet.say(drawn, random.Random(shuffle), timedelta(minutes=7))
        with killed_at(place) as died:
            self.stream.drain()
        self.played.faults += len(died)

    @rule(share=st.floats(0.05, 0.9), shuffle=st.integers(0, 2**16))
    def send_again(self, share: float, shuffle: int) -> None:
        """Messages of long ago come a second time, some with another value."""
        self.fleet.repeat(share, random.Random(shuffle))
        self._drain_and_look()

    @rule()
    def hand_over_again(self) -> None:
        """A batch that was landed comes again: nothing changes, nothing is asked for."""
        before, rows = self._stale(), self.lake.snapshot("bronze/readings").rows
        self.stream.repeat()
        self.played.faults += 1
        assert self._stale() == before and self.lake.snapshot("bronze/readings").rows == rows

    @rule()
    def lose_the_checkpoint(self) -> None:
        self.stream.lose_checkpoint()
        self.played.faults += 1

    @rule(dies=st.booleans())
    def redrive(self, dies: bool) -> None:
        """What was refused goes to Bronze after all; the first try may be killed between its two commits."""
        self._drain_and_look()
        self._synced_stale()  # what was refused comes after what the registries have seen
        before, reached, held = self._stale(), newest(self.world.taken), self._held()
        with killed_at("redrive.after_bronze" if dies else "nowhere") as died:
            redrive(self.settings, Chosen(), now=self.fleet.now)
        self.played.faults += len(died)
        self._look(before, reached, held, self.stream.redrive())
        self._synced_stale()

    @rule(
        device=st.sampled_from(["sensor-0", "sensor-1", "room-1", "event-0", "event-2"]), place=st.sampled_from(ERASE_PLACES)
    )
    def erase_a_device(self, device: str, place: str) -> None:
        """Somebody wants to be forgotten, and that may be killed on its way; what was sent by then, landed or not, is seen
        no more. What was summed up over several devices is left for the next runs."""
        # What came of it after a first erasure stands in quarantine as a refusal without a payload, and stays there.
        home = set[Place]() if device in self.world.erased else self._waiting_or_landed(device)
        self.world.erased.add(device)
        self.stream.forget(device)
        self.pinned = None  # an erasure waits for runs that began before it
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("iot_platform.erase.run.wait_until_quiet", lambda *_: None)
            patch.setattr("iot_platform.erase.run.remake", lambda *_: Remade())
            request = Request(device, force=True, now=lambda: self.fleet.now)
            with killed_at(place) as died:
                erase(self.lake, request)
            done = erase(self.lake, request)
        self.played.faults += 1 + len(died)
        assert done.is_clean, (done.problems, done.verification)
        self.gone |= home
        for dates in self.closed.values():
            for day, rows in dates.items():
                dates[day] = {key: row for key, row in rows.items() if row.get("device_id") != device}

    # ---- runs

    @rule()
    def settle(self) -> None:
        """All that is asked for is made, once; then every table is what a recomputation gives, and nothing is stale."""
        for table, days in self._held().items():
            for day in days:
                release(self.lake, table, day)
        self._drain_and_look()
        for table, days in self._synced_stale().items():
            for day in sorted(days):
                made = materialize_date(self.lake, self.engine, TRANSFORMS[table], day, now=self.fleet.now)
                assert not made.skipped, f"{table} {day} was asked for and is up to date"
        assert self._stale() == {}, "it does not come to rest"
        open_days = {day for day in self._known_days() if day >= self.stream.closed}
        assert_recomputed(self.lake, self.world, open_days, self.closed)
        assert_balanced(self.lake)

    @rule(shuffle=st.integers(0, 2**16), share=st.floats(0.1, 1), place=st.sampled_from(RUN_PLACES), nth=st.integers(1, 12))
    def run_and_die(self, shuffle: int, share: float, place: str, nth: int) -> None:
        """Some of what is asked for is made, in any order of tables and dates, until the run is killed, if ever."""
        chance = random.Random(shuffle)
        wanted = [(table, day) for table, days in self._synced_stale().items() for day in sorted(days)]
        chosen = [one for one in wanted if chance.random() < share]
        chance.shuffle(chosen)
        with killed_at(place, nth) as died:
            for table, day in chosen:
                materialize_date(self.lake, self.engine, TRANSFORMS[table], day, now=self.fleet.now)
        self.played.faults += len(died)

    @rule(place=st.sampled_from(REGISTRY_PLACES), nth=st.integers(1, 2))
    def take_in_devices_and_die(self, place: str, nth: int) -> None:
        """The registries are brought up to date, until that is killed: whoever comes next does it from there."""
        with killed_at(f"registry.{place}", nth) as died:
            sync_registry(self.lake, self.engine, now=self.fleet.now)
        self.played.faults += len(died)

    @rule()
    def begin_a_run(self) -> None:
        """A run looks at its inputs, and is not heard of for a while."""
        self.pinned = Levels(self.lake)
        for table in KEYS:
            self.pinned.snapshot(table)
        for table in ("bronze/readings", "registry/devices", "registry/metrics"):
            self.pinned.snapshot(table)

    @precondition(lambda self: self.pinned is not None)
    @rule(shuffle=st.integers(0, 2**16), count=st.integers(1, 6))
    def the_run_commits_late(self, shuffle: int, count: int) -> None:
        """What was computed from old inputs may not take the place of what was made from newer ones."""
        pinned, chance = self.pinned, random.Random(shuffle)
        assert pinned is not None
        self.pinned = None
        self.played.faults += 1
        days = sorted(self._known_days())
        for _ in range(count if days else 0):
            table, day = chance.choice(list(KEYS)), chance.choice(days)
            recorded = self.lake.snapshot(table).recorded_level(day)
            try:
                materialize_date(self.lake, self.engine, TRANSFORMS[table], day, now=self.fleet.now, levels=pinned)
            except LakeError as error:
                note(str(error))
            assert self.lake.snapshot(table).recorded_level(day) >= recorded

    @rule(shuffle=st.integers(0, 2**16))
    def force(self, shuffle: int) -> None:
        """Somebody has a date made again though nothing moved."""
        chance, days = random.Random(shuffle), sorted(self._known_days())
        if days:
            table, day = chance.choice(list(KEYS)), chance.choice(days)
            materialize_date(self.lake, self.engine, TRANSFORMS[table], day, now=self.fleet.now, force=True)

    @rule(shuffle=st.integers(0, 2**16))
    def put_back(self, shuffle: int) -> None:
        """Somebody puts a date back to what it was before; it stays so until it is released."""
        chance, days = random.Random(shuffle), sorted(self._known_days())
        if days:
            with suppress(InputError, LakeError):  # it was made once at most, or those files are gone
                roll_back(self.lake, chance.choice(list(KEYS)), chance.choice(days))
                self.played.faults += 1

    # ---- what else moves

    @rule(
        device=st.sampled_from(["sensor-0", "sensor-1", "sensor-2", "mute-0"]),
        cadence=st.sampled_from([60.0, 900.0, 7_200.0]),
        back=st.integers(0, 9),
        served=st.sampled_from([None, None, 1, 4]),
        site=st.sampled_from([None, "hall", "yard"]),
    )
    def declare_a_device(self, device: str, cadence: float, back: int, served: int | None, site: str | None) -> None:
        installed = midnight(self.fleet.now.date() - DAY * back) + timedelta(hours=3)
        retired = installed + DAY * served if served else None
        contract = "generic_reading" if device == "mute-0" else "sensor_reading"  # of one nothing is ever heard
        self.world.declared[device] = Device(contract, cadence, installed, retired, site)
        lines = [
            f"{name},{one.contract},,{one.site or ''},,,,{one.cadence},{_iso(one.installed)},{_iso(one.retired)}"
            for name, one in self.world.declared.items()
        ]
        self._write("devices.csv", DEVICE_COLUMNS, lines)

    @rule(low=st.sampled_from([-1.0, 15.0]), high=st.sampled_from([30.0, 500.0]))
    def declare_bounds(self, low: float, high: float) -> None:
        self.world.bounds["sensor_reading", "co2"] = (low, high)
        self._write("metrics.csv", METRIC_COLUMNS, [f"sensor_reading,co2,ppm,{low},{high},x"])

    @rule()
    def close_yesterday(self) -> None:
        """The calendar says that a day is over, whoever was silent."""
        day = self.fleet.now.date() - DAY
        close(self.lake, day)
        self.world.closed_until = max(self.world.closed_until, midnight(day) + DAY)

    @rule(kept=st.sampled_from([2, 5]), settles=st.booleans())
    def close_and_expire(self, kept: int, settles: bool) -> None:
        """Old dates are closed, as far as they are finished, and their Bronze goes: they stay as they are for good."""
        if settles:
            self.settle()
        self._drain_and_look()
        self._synced_stale()
        before = self.stream.closed
        landed_before = landed(self.lake)[0]
        expire(Lake(self.settings.model_copy(update={"keep_bronze_days": kept})), self.fleet.now)
        self.gone |= {place for place in landed_before if self._is_closed(place)} - landed(self.lake)[0].keys()
        # A device that is declared for closed dates later on has no health there: nothing makes them again.
        fresh = {day for day in self._known_days() if before <= day < self.stream.closed}
        assert_recomputed(self.lake, self.world, fresh, {table: self._open(table, fresh) for table in KEYS})
        for table, dates in self.closed.items():
            rows = stored(self.lake, table)
            dates.update({day: rows.get(day, {}) for day in fresh})
        self.world.kept |= {day: silver(self.world, day) for day in fresh}

    @rule(days=st.sampled_from([0, 0, 8]))
    def compact_and_vacuum(self, days: int) -> None:
        """Files are merged and old ones removed, old commits summed up: no date is asked for because of that."""
        before = self._stale()
        maintain(self.lake, max(datetime.now(UTC), AFTERWARDS) + DAY * days)
        for table in ("bronze/readings", "silver/readings", "gold/daily_summary"):
            delta = self.lake.writable(table).delta
            try:
                delta.optimize.compact()
                delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
            except CommitFailedError:
                note("a writer was faster")
        self.pinned = None  # its files are gone: that run fails, and is asked for again
        assert self._stale() == before, "maintenance asked for runs"

    # ---- what is known

    def _is_closed(self, place: Place) -> bool:
        """Whether a message's date is one that is never made again."""
        said = self.fleet.log.partitions[place[:2]][place[2]].said
        return said is not None and said.moment.date() < self.stream.closed

    def _waiting_or_landed(self, device: str) -> set[Place]:
        """The device's messages that are in either table."""
        readings, waiting, redriven = landed(self.lake)
        said = {held.place[1:]: held.said for queue in self.fleet.log.partitions.values() for held in queue}
        homes = {*readings, *waiting, *redriven}
        return {place for place in homes if (one := said[place]) is not None and one.device == device}

    def _stale(self) -> Stale:
        return {table: set(days) for table, days in Levels(self.lake).stale().items() if days}

    def _synced_stale(self) -> Stale:
        sync_registry(self.lake, self.engine, now=self.fleet.now)
        assert not registry_is_stale(self.lake)
        return self._stale()

    def _known_days(self) -> set[date]:
        """Every date that a table may have rows of: those of readings, and those on which silence is judged."""
        return {*self.world.dates, *self._judged(registry(self.world).values(), newest(self.world.taken))}

    def _open(self, table: str, fresh: set[date]) -> dict[date, Rows]:
        """What a table holds of all dates but these: not what is looked at now."""
        return {day: rows for day, rows in stored(self.lake, table).items() if day not in fresh}

    def _judged(self, devices: Iterable[Device], now: dict[str, datetime]) -> set[date]:
        """The dates on which these devices could have reported by now."""
        days: set[date] = set()
        for device in devices:
            day, passed = device.installed.date(), max(now.get(device.contract, EPOCH), self.world.closed_until)
            until = passed if device.retired is None else min(passed, midnight(device.retired.date()) + DAY)
            while device.cadence is not None and midnight(day) < until:
                days.add(day)
                day += DAY
        return days

    def _held(self) -> Stale:
        return {table: set(days) for table, days in Levels(self.lake).held().items()}

    def _drain_and_look(self) -> None:
        before, reached, held = self._stale(), newest(self.world.taken), self._held()
        self._look(before, reached, held, self.stream.drain())

    def _look(self, before: Stale, reached: dict[str, datetime], held: Stale, fresh: list[Taken]) -> None:
        """Exactly the dates are stale that were before, or that the fresh readings touch; none that is held."""
        touched = self._touched(fresh, reached)
        expected = {table: days for table in touched if (days := before.get(table, set()) | touched[table])}
        found = self._stale()
        if not held:
            assert found == expected, "asked for and touched differ"
        for table, days in found.items():
            assert days <= expected.get(table, set()) - held.get(table, set()), f"{table}: asked for in vain"

    def _touched(self, fresh: list[Taken], reached: dict[str, datetime]) -> Stale:
        """The dates of each table that these readings bear on, said from the meaning of the tables alone."""
        bronze = set(self.world.dates)
        own = {one.said.moment.date() for one in fresh if one.said.device not in self.world.erased}
        silver = {day + DAY * n for day in own for n in (0, 1)} & bronze  # the head of a date is scored by the day before
        summary = {day + DAY * n for day in silver for n in range(7)} & bronze
        now = newest(self.world.taken)
        judged = bronze | self._judged(self._registered(), now)
        passed = {day for day in judged if any(_within(day, now[name]) != _within(day, reached.get(name)) for name in now)}
        one_day = ("sensor_windows", "device_type_windows", "location_hourly", "duration_p95", "anomaly_events")
        touched = {
            "silver/readings": silver,
            "silver/rejected_readings": own,
            **{f"gold/{name}": silver for name in one_day},
            "gold/daily_summary": summary | own,
            "gold/sensor_health": silver | passed,
        }
        return {table: {day for day in days if day >= self.stream.closed} for table, days in touched.items()}

    def _registered(self) -> list[Device]:
        """The devices that the registry has by now: it takes in what landed at the next run."""
        rows = self.lake.snapshot("registry/devices").delta.to_pyarrow_table().to_pylist()
        return [Device(row["contract"], row["cadence_seconds"], row["installed_at"], row["retired_at"]) for row in rows]

    def _write(self, name: str, header: str, lines: list[str]) -> None:
        folder = self.settings.declarations
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join([header, *lines]) + "\n")


def _within(day: date, moment: datetime | None) -> timedelta:
    """How much of the date has passed at this moment."""
    return min(max((moment or EPOCH) - midnight(day), timedelta(0)), DAY)


def _iso(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
