"""Ingestion: Kafka to ``bronze/readings`` and ``bronze/quarantine``, exactly once, by Spark Structured Streaming.

``batch`` decides each record, ``sink`` commits a micro-batch, ``run`` is what callers use; ``lag`` needs no Spark.
"""

from iot_platform.ingest.lag import TopicLag, committed_offsets, end_offsets, lag
from iot_platform.ingest.lease import Holder, holder
from iot_platform.ingest.run import DrainResult, drain, run_continuously
from iot_platform.ingest.sink import BatchResult

__all__ = [
    "BatchResult", "DrainResult", "Holder", "TopicLag", "committed_offsets", "drain", "end_offsets", "holder", "lag",
    "run_continuously",
]  # fmt: skip
