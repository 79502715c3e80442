"""What Spark, Kafka, Delta and the system say, as one line that says what to do."""

from __future__ import annotations

import pytest

from iot_platform.errors import DataError, LakeError, PlatformError, ServiceError
from iot_platform.ingest.failures import explain, telling_line

TRACE = """org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 1 times
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:1)
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
"""


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (TRACE, LakeError, "No space left on device"),
        ("[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] Some data may have been lost", DataError, "no longer holds"),
        ("x\nCaused by: org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This server does not host this"
         " topic-partition.", ServiceError, "topic is gone"),
        ("o.a.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment.", ServiceError, "broker"),
        ("[DELTA_TRUNCATED_TRANSACTION_LOG] cannot be reconstructed", LakeError, "Bronze table"),
        ("java.lang.IllegalStateException: something new", PlatformError, "something new"),
        ("", PlatformError, "no reason given"),
    ],
)  # fmt: skip
def test_every_failure_is_one_line(text: str, kind: type[PlatformError], says: str) -> None:
    told = explain(RuntimeError(text), "/logs/x.log")
    assert type(told) is kind
    assert says in str(told)
    assert "\n" not in str(told)
    assert "\tat" not in str(told)


WORKER = """[PYTHON_EXCEPTION] An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "worker.py", line 1, in main
{raised}
\tat org.apache.spark.api.python.BasePythonRunner
"""


def test_an_error_of_ours_in_a_worker_comes_back_as_itself() -> None:
    told = explain(RuntimeError(WORKER.format(raised="iot_platform.errors.LakeError: cannot write x. Free space")), "")
    assert type(told) is LakeError
    assert str(told) == "cannot write x. Free space"


def test_of_any_other_error_in_a_worker_its_last_line_tells() -> None:
    told = explain(RuntimeError(WORKER.format(raised="pyarrow.lib.ArrowInvalid: x\nMemoryError: no more")), "/log")
    assert "MemoryError: no more" in str(told)
    assert "/log" in str(told)


def test_our_own_errors_stay_as_they_are() -> None:
    ours = LakeError("what", "todo")
    assert explain(ours, "") is ours


def test_the_innermost_cause_is_the_telling_one() -> None:
    assert telling_line(TRACE) == "No space left on device"
    assert telling_line("java.lang.NullPointerException") == "java.lang.NullPointerException"
