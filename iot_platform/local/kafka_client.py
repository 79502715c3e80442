"""Asking a broker, whichever it is: a client for topics and metadata that is quiet and gives up in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot_platform.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient, ClusterMetadata  # pyright: ignore[reportPrivateImportUsage]


def admin_client(settings: Settings, address: str) -> AdminClient:
    """A client for topics and metadata, with the user's further options, that says nothing on the terminal."""
    from confluent_kafka.admin import AdminClient

    return AdminClient(
        {
            "bootstrap.servers": address,
            "log_level": 0,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            **settings.kafka_options,
        }
    )


def cluster(settings: Settings, address: str, seconds: float) -> ClusterMetadata | None:
    """The metadata that the broker gives, or None when it gives none in time."""
    from confluent_kafka import KafkaException

    try:
        return admin_client(settings, address).list_topics(timeout=seconds)
    except KafkaException:
        return None
