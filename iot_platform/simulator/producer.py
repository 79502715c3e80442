"""The one way in which this package sends to Kafka: nothing is lost without being counted, named and kept.

What belongs here: sending, back-pressure, acknowledgements. What a message says is made elsewhere.
"""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iot_platform.errors import ServiceError
from iot_platform.local.process import make_folder
from iot_platform.settings import Settings
from iot_platform.simulator.spool import Outgoing, Spool

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer
    from confluent_kafka.admin import ClusterMetadata

ANSWER_SECONDS = 10
LOOK_SECONDS = 2
DELIVERY_SECONDS = 300.0
LAST_FLUSH_SECONDS = 10.0
BUFFERED_MESSAGES = 100_000
BUFFERED_KBYTES = 64 * 1024
# Above what any contract allows: a message that is too large must arrive to be quarantined as such.
MESSAGE_MAX_BYTES = 32 * 1024 * 1024

@dataclass(frozen=True)
class Delivered:
    """Where the broker put a record."""

    topic: str
    partition: int
    offset: int
    tag: Any


@dataclass(frozen=True)
class Cluster:
    """What the broker says of itself and of the topics asked for (topic -> partitions)."""

    address: str
    cluster_id: str
    partitions: dict[str, int]


class MessageProducer:
    """Sends with ``acks=all`` and idempotence; use it as a context manager.

    While the broker is away the local buffer fills, ``send`` waits, and the client reconnects by itself; a record that
    is not acknowledged within ``delivery_seconds`` is counted in ``failed`` and kept in the ``spool`` (unless it stands in
    one already: ``keep_failed``). Once ``is_stopped`` says so nothing waits for long.
    """

    def __init__(
        self,
        settings: Settings,
        run: str,
        *,
        on_delivered: Callable[[Delivered], None] | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        delivery_seconds: float = DELIVERY_SECONDS,
        buffered_messages: int = BUFFERED_MESSAGES,
        keep_failed: bool = True,
    ) -> None:
        from iot_platform.local.kafka import bootstrap

        self.address = bootstrap(settings)
        self.sent = 0
        self.delivered = 0
        self.failed = 0
        self.first_failure = ""
        self._errors: set[int] = set()
        self._tried_again = 0
        self.is_cut_off = False
        self.on_delivered = on_delivered
        self.spool = Spool(settings, run) if keep_failed else None
        self._is_stopped = is_stopped
        self._log = _client_log(settings)
        self._producer = self._connect(settings, delivery_seconds, buffered_messages)

    def _connect(self, settings: Settings, delivery_seconds: float, buffered_messages: int) -> Producer:
        from confluent_kafka import KafkaException, Producer

        config: dict[str, Any] = {
            "bootstrap.servers": self.address,
            "client.id": "iot-platform",
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 20,
            # The partitioner of the Java client: a device keeps its partition whoever sends for it.
            "partitioner": "murmur2_random",
            "message.max.bytes": MESSAGE_MAX_BYTES,
            "message.timeout.ms": round(delivery_seconds * 1000),
            "queue.buffering.max.messages": buffered_messages,
            "queue.buffering.max.kbytes": BUFFERED_KBYTES,
            "reconnect.backoff.max.ms": 2_000,
            "socket.keepalive.enable": True,
            "error_cb": _collector(self._errors),
        }
        try:
            return Producer(config | settings.kafka_options, logger=self._log)
        except (KafkaException, TypeError, ValueError) as error:
            raise ServiceError(f"Kafka's client refuses its options: {error}", "Correct IOT_KAFKA_OPTIONS") from None

    def cluster(self, topics: Collection[str]) -> Cluster:
        """Ask the broker; ``ServiceError`` when it does not answer within 10 s or lacks one of the topics."""
        metadata = self._metadata()
        found = {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}
        absent = [topic for topic in topics if topic not in found]
        if absent:
            raise ServiceError(
                f"the broker at {self.address} has no topic {', '.join(absent)}", "Make it with `iot topics create`"
            )
        return Cluster(self.address, str(metadata.cluster_id or ""), {topic: found[topic] for topic in topics})

    def _metadata(self) -> ClusterMetadata:
        from confluent_kafka import KafkaException

        for _ in range(ANSWER_SECONDS // LOOK_SECONDS):
            try:
                return self._producer.list_topics(timeout=LOOK_SECONDS)
            except KafkaException:
                self._producer.poll(0)
            if self._all_down():  # refused everywhere: waiting longer would not help
                break
        raise ServiceError(
            f"the Kafka broker at {self.address} does not answer",
            "Start it with `iot services up`, or correct IOT_KAFKA_BOOTSTRAP",
        )

    def _all_down(self) -> bool:
        from confluent_kafka import KafkaError

        return KafkaError._ALL_BROKERS_DOWN in self._errors

    def send(self, message: Outgoing) -> None:
        """Hand over one record; waits while the buffer is full. Its fate is counted when the broker has answered.

        Raises ``ServiceError``, and takes nothing, while no broker takes messages and the spool is full.
        """
        from confluent_kafka import KafkaException

        def acknowledge(error: KafkaError | None, answer: Message) -> None:
            if error is None:
                self._acknowledged(message, answer)
            else:
                self.is_cut_off = error.code() in _away()
                self._keep(message, error.str())

        if self.spool and self.spool.is_full:
            raise ServiceError(
                f"no broker takes messages, and those that wait fill {self.spool.limit_bytes >> 20} MB in"
                f" {self.spool.path.parent}: no further one is taken in",
                "Start the broker, then run `iot resend`; IOT_SPOOL_MEGABYTES sets how many may wait",
            )
        self.sent += 1
        while True:
            try:
                self._producer.produce(
                    message.topic, value=message.value, key=message.key,
                    headers=list(message.headers), on_delivery=acknowledge,
                )  # fmt: skip
            except BufferError:
                if self._is_stopped():
                    self._keep(message, "interrupted while the buffer was full")
                    return
                self._producer.poll(0.2)
            except KafkaException as error:
                self._keep(message, error.args[0].str())
                return
            else:
                self._producer.poll(0)
                return

    @property
    def may_resend(self) -> bool:
        """Whether the broker took something since messages failed that nobody tried to send again."""
        return self.failed > self._tried_again and not self.is_cut_off

    def resent(self, *, is_cut_off: bool) -> None:
        """Somebody sent the spool again; one whom the broker left meanwhile does it once more after the next answer."""
        if is_cut_off:
            self.is_cut_off = True
        else:
            self._tried_again = self.failed

    def wait(self, seconds: float) -> None:
        """Let time pass while acknowledgements are taken in."""
        self._producer.poll(max(0.0, seconds))

    def flush(self, *, give_up: bool = False) -> None:
        """Wait until every record was acknowledged or has failed.

        ``give_up``, or stopped meanwhile: what the broker does not take within 10 s more counts as undelivered.
        """
        while self._producer.flush(1.0):
            if give_up or self._is_stopped():
                if self._producer.flush(LAST_FLUSH_SECONDS):
                    self._producer.purge()
                give_up = False

    def __enter__(self) -> MessageProducer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.flush(give_up=kind is not None)
        finally:
            if self.spool:
                self.spool.close()

    def _acknowledged(self, message: Outgoing, answer: Message) -> None:
        self.delivered += 1
        self.is_cut_off = False
        if self.on_delivered:
            partition, offset = answer.partition(), answer.offset()
            assert partition is not None and offset is not None  # an acknowledged record has both
            self.on_delivered(Delivered(message.topic, partition, offset, message.tag))

    def _keep(self, message: Outgoing, reason: str) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or reason
        if self.spool:
            self.spool.keep(message, reason)


def _collector(codes: set[int]) -> Callable[[KafkaError], None]:
    """Notes the codes of errors; holds no producer, so that one ends with its last use."""
    return lambda error: codes.add(error.code())


def _away() -> set[int]:
    """Errors of the connection; others are a message's own, and the next one may do better."""
    from confluent_kafka import KafkaError

    return {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._PURGE_QUEUE,
            KafkaError._PURGE_INFLIGHT}  # fmt: skip


def undelivered_error(producer: MessageProducer) -> ServiceError:
    """The one line for a run that could not deliver all."""
    where = f"; they are kept in {producer.spool.path}" if producer.spool else ""
    return ServiceError(
        f"{producer.failed} messages were not delivered ({producer.first_failure}){where}",
        "See `iot services status`; the next live run sends them first, or `iot resend`",
    )


def _client_log(settings: Settings) -> logging.Logger:
    """The client's own talk goes to a file; the terminal gets one line from us when something is wrong."""
    path: Path = settings.logs / "producer.log"
    logger = logging.Logger("iot_platform.producer", logging.INFO)
    make_folder(settings.logs)
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger
