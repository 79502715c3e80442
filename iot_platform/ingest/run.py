"""Ingestion as its callers see it: ``drain`` what waits in Kafka, or ``run_continuously`` until told to stop.

Both run the same query over the same checkpoint; they differ in the trigger. What a micro-batch does is in ``sink``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.ingest.broker import Held, held_offsets, topic_ids
from iot_platform.ingest.dead_letter import mirrored
from iot_platform.ingest.failures import explain
from iot_platform.ingest.generation import Start, another_topic, choose_start
from iot_platform.ingest.lag import lag_of
from iot_platform.ingest.lease import lease
from iot_platform.ingest.progress import ProgressLog
from iot_platform.ingest.redrive import parse_rules
from iot_platform.ingest.result import DrainResult
from iot_platform.ingest.seen import seen_by
from iot_platform.ingest.sink import BatchResult, BronzeSink
from iot_platform.ingest.source import source_options
from iot_platform.lake.lake import Lake
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform.topics import load_topics

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

APP_NAME = "iot-ingest"
QUERY_NAME = "bronze"
WAIT_SECONDS = 900.0  # for another drain that runs already
TRIGGER_SECONDS = 2
POLL_SECONDS = 0.5
FINISH_SECONDS = 60.0  # a batch that runs when the stop comes is let finish
BROKER_PAUSE_SECONDS = 2.0
BatchHook = Callable[[BatchResult], None]


def utc_now() -> datetime:
    return datetime.now(UTC)


def drain(
    settings: Settings,
    spark: SparkSession | None = None,
    *,
    on_start: Callable[[int], None] | None = None,
    on_batch: BatchHook | None = None,
    accept_loss: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    now: Callable[[], datetime] = utc_now,
) -> DrainResult:
    """Land everything that is in Kafka now, exactly once; nothing waits: nothing is started and nothing committed.

    ``on_start`` is told how many offsets wait, ``on_batch`` of each micro-batch. Raises a ``PlatformError`` that
    says what to do; then what was committed stands and the rest is read by the next drain.
    """
    began = monotonic()
    result = DrainResult()
    running: list[StreamingQuery] = []
    taken = lease(settings, "drain", wait_seconds=wait_seconds, on_lost=lambda: _stop(running))
    with taken as held_lease, mirrored(settings) as wake_mirror:
        lake = Lake(settings)
        held = _held(settings)
        start = choose_start(
            settings, lake, held, force_new=held_lease.needs_new_generation, accept_loss=accept_loss
        )
        waiting = sum(topic.lag for topic in lag_of(held.offsets, start.position.ends).values())
        if on_start:
            on_start(waiting)
        if waiting:
            progress = ProgressLog(settings, "drain", held_lease)
            with told(progress):
                stream = Stream(settings, held, start, result, progress, now=now, on_batch=and_then(on_batch, wake_mirror))
                query = stream.begin(spark, available_now=True)
                running.append(query)
                stream.wait(query, lambda: False)
            if held_lease.lost.is_set():
                raise ServiceError("another process took over ingestion", "It brings what is left")
    result.seconds = monotonic() - began
    return result


def run_continuously(
    settings: Settings,
    stop: threading.Event,
    *,
    on_batch: BatchHook | None = None,
    on_state: Callable[[str], None] | None = None,
    on_ready: Callable[[], None] | None = None,
    accept_loss: bool = False,
    trigger_seconds: float = TRIGGER_SECONDS,
    now: Callable[[], datetime] = utc_now,
) -> DrainResult:
    """Land messages as they come until ``stop`` is set; a batch that runs then is finished.

    A drain that runs already is waited for. A broker that is away is waited for, and the stream goes on by itself;
    ``on_state`` is told in a line. ``on_ready`` is called after Spark is up (it takes the signal handlers; take them back
    there). ``accept_loss`` holds for the first start only: what is lost later is another loss.
    """
    began = monotonic()
    result = DrainResult()
    say = on_state or (lambda _: None)
    running: list[StreamingQuery] = []
    taken = lease(
        settings, "continuous", wait_seconds=WAIT_SECONDS, on_lost=lambda: _stop(running), give_up=stop.is_set
    )
    with (
        _unless_stopped(stop), taken as held_lease, told(progress := ProgressLog(settings, "continuous", held_lease)),
        mirrored(settings) as wake_mirror,
    ):  # fmt: skip
        lake = Lake(settings)
        force_new = held_lease.needs_new_generation
        while not stop.is_set() and not held_lease.lost.is_set():
            try:
                held = _held(settings)
                start = choose_start(settings, lake, held, force_new=force_new, accept_loss=accept_loss)
                force_new = accept_loss = False
                stream = Stream(settings, held, start, result, progress, now=now, on_batch=and_then(on_batch, wake_mirror))
                query = stream.begin(None, available_now=False, trigger_seconds=trigger_seconds)
                running[:] = [query]
                if on_ready:
                    on_ready()
                say("ingesting")
                stream.wait(query, stop.is_set)
            except ServiceError as error:
                if not running:
                    raise  # it never ran: a wrong address, a missing topic
                say(f"{error.what}; waiting for it")
                progress.state("waiting", str(error))
                stop.wait(BROKER_PAUSE_SECONDS)
        if held_lease.lost.is_set():
            raise ServiceError("another process took over ingestion", "It goes on where this one stood")
    result.seconds = monotonic() - began
    return result


def and_then(on_batch: BatchHook | None, wake: Callable[[], None]) -> BatchHook:
    """The caller is told of a batch, and the mirror of quarantine woken."""

    def landed(batch: BatchResult) -> None:
        if batch.quarantined:
            wake()
        if on_batch:
            on_batch(batch)

    return landed


@contextmanager
def told(progress: ProgressLog) -> Iterator[None]:
    """The block's end, good or bad, stands in the progress file."""
    try:
        yield
    except BaseException as error:
        progress.state("failed", str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}")
        raise
    progress.state("stopped")


@contextmanager
def _unless_stopped(stop: threading.Event) -> Iterator[None]:
    """Who was told to stop while he waited for the lease wants no reason why he did not get it."""
    try:
        yield
    except ServiceError:
        if not stop.is_set():
            raise


class Stream:
    """The streaming query, from Kafka to the two Bronze tables."""

    def __init__(
        self,
        settings: Settings,
        held: Held,
        start: Start,
        result: DrainResult,
        progress: ProgressLog,
        *,
        now: Callable[[], datetime],
        on_batch: BatchHook | None = None,
    ) -> None:
        from iot_platform.engines.session import log_file

        self.settings = settings
        self.start = start
        self.held = held
        self.result = result
        self.progress = progress
        self._on_batch = on_batch
        self._batch_began = 0.0
        self.log = str(log_file(settings, APP_NAME))
        self.failure: BaseException | None = None
        self._admin: AdminClient | None = None
        self.sink = BronzeSink(
            Lake(settings), start, held.topic_ids, parse_rules(settings), now=now, on_batch=self._landed, verify=self._verify
        )

    def begin(
        self, spark: SparkSession | None, *, available_now: bool, trigger_seconds: float = TRIGGER_SECONDS
    ) -> StreamingQuery:
        """Start the query; Spark too when no session is given. Errors come as ``PlatformError``."""
        from iot_platform.engines.session import build_spark
        from iot_platform.local.kafka import admin_client, bootstrap

        # The JVM only moves bytes here: well compiled code gained nothing over a million messages.
        session = spark or build_spark(self.settings, APP_NAME, quick_start=True)
        address = bootstrap(self.settings)
        self._admin = admin_client(self.settings, address)
        options = source_options(self.settings, address, self.start.starting)
        try:
            frame = session.readStream.format("kafka").options(**options).load()
            writer = (
                frame.writeStream.queryName(QUERY_NAME)
                .foreachBatch(self._land)
                .option("checkpointLocation", str(self.start.checkpoint.path))
            )
            if available_now:
                query = writer.trigger(availableNow=True).start()
            else:
                query = writer.trigger(processingTime=f"{trigger_seconds} seconds").start()
        except Exception as error:  # whatever Spark or Java says, the user gets one line
            raise explain(error, self.log) from None
        ends = {topic: sum(span.high for span in spans.values()) for topic, spans in self.held.offsets.items()}
        self.progress.begin(self.start.generation, self.start.starting, ends)
        return query

    def wait(self, query: StreamingQuery, is_stopping: Callable[[], bool]) -> None:
        """Wait until the query ends, or until it is to stop and no batch runs. Raises what ended it."""
        try:
            while not query.awaitTermination(POLL_SECONDS):  # pyright: ignore[reportArgumentType]  # takes parts too
                if self.progress.is_due:
                    self.progress.beat(*seen_by(query))
                if is_stopping():
                    wait_until(lambda: not query.status["isTriggerActive"], FINISH_SECONDS)
                    query.stop()
        except Exception as error:  # Py4J's and Spark's errors have no common base but this
            if is_stopping():  # the same signal may have ended the Java side
                return
            raise explain(self.failure or error, self.log) from None

    def _land(self, frame: object, batch_id: int) -> None:
        """Spark wraps what is raised here beyond recognition: it is kept as it was."""
        self._batch_began = monotonic()
        self.progress.batch_begins(batch_id)
        try:
            self.sink(frame, batch_id)  # pyright: ignore[reportArgumentType]
        except BaseException as error:
            self.failure = error
            raise

    def _verify(self) -> None:
        """What a batch read is still of the topics that the stream began with; Spark knows only their names.

        A topic made again under a running stream would be read on from where the old one ended, without a word.
        """
        # Not by its truth: a client counts what waits in its queue, and is false when that is empty.
        ids = topic_ids(self._admin, self.held.topic_ids) if self._admin is not None else {}
        if others := [topic for topic, known in self.held.topic_ids.items() if ids.get(topic, known) != known]:
            raise another_topic(others)

    def _landed(self, batch: BatchResult) -> None:
        """The sink says that a batch is in both tables."""
        self.result.add(batch)
        self.progress.batch(batch, monotonic() - self._batch_began, self.result.as_json())
        if self._on_batch:
            self._on_batch(batch)


def _held(settings: Settings) -> Held:
    return held_offsets(settings, [topic.name for topic in load_topics(settings).values()])


def _stop(running: list[StreamingQuery]) -> None:
    for query in running:
        with suppress(Exception):  # it may be gone already, with its JVM
            query.stop()


__all__ = ["BatchResult", "DrainResult", "PlatformError", "drain", "run_continuously"]
