"""What can go wrong in a stream, as one line: Spark's, Kafka's and Delta's errors turned into the platform's.

Nothing is lost by any of them: what was not committed to both tables is read again.
"""

from __future__ import annotations

import re

from iot_platform import errors
from iot_platform.errors import DataError, LakeError, PlatformError, ServiceError

_DATA_LOSS = re.compile(
    r"data may have been lost|may have been missed|KAFKA_DATA_LOSS|OffsetOutOfRange|offset was changed from"
    r"|Partition .* (?:has been|was) (?:deleted|lost)",
    re.IGNORECASE,
)
_NO_TOPIC = re.compile(r"UnknownTopicOrPartition|does not host this topic|topics? .*does not exist", re.IGNORECASE)
_NO_BROKER = re.compile(
    r"TimeoutException|Timed out waiting for a node|DisconnectException|Connection to node|bootstrap\.servers"
    r"|BrokerNotAvailable|NetworkException|Timeout of \d+ms expired",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(
    r"No space left|Disk quota exceeded|Permission denied|Read-only file system|Mkdirs failed", re.IGNORECASE
)
_CORRUPT = re.compile(r"DELTA_|is not a Parquet file|_delta_log|FAILED_READ_FILE|Malformed", re.IGNORECASE)
_OURS = re.compile(r"^iot_platform\.errors\.(\w+): (.+)$", re.MULTILINE)
_PYTHON = re.compile(r"^(?:[\w]+\.)*\w*(?:Error|Exception): .+$", re.MULTILINE)
_CAUSED = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+[\w$]*(?:Exception|Error)(?:: |$)")


def explain(error: BaseException, log: str) -> PlatformError:
    """The one-line error for whatever ended a stream; ``log`` is where the whole story stands."""
    if isinstance(error, PlatformError):
        return error
    text = str(error)
    ours = _OURS.findall(text)
    if ours:  # raised by a worker in another process: only its text came back
        name, said = ours[-1]
        kind = getattr(errors, name, PlatformError)
        return kind(said.rstrip(". "))
    line = telling_line(text)
    if _DATA_LOSS.search(text):
        return DataError(
            f"Kafka no longer holds messages that were not read yet: {line}",
            "They expired or their topic was made again; nothing was skipped. Run `iot ingest`: it names what was lost",
        )
    if _NO_TOPIC.search(text):
        return ServiceError(f"a topic is gone: {line}", "Make it with `iot topics create`")
    if _NO_SPACE.search(text):
        return LakeError(f"cannot write: {line}", "Free space or make the folder writable, then run it again")
    if _NO_BROKER.search(text):
        return ServiceError(f"the Kafka broker does not answer: {line}", "Run `iot services up`, then this again")
    if _CORRUPT.search(text):
        return LakeError(f"a Bronze table cannot be read or written: {line}", f"See {log}")
    return PlatformError(f"ingestion stopped: {line}", f"What was committed stands, the rest is read again. See {log}")


def telling_line(text: str) -> str:
    """The innermost cause that a stack trace names, else its first line; class names of Java and frames left out."""
    _, _, python = text.partition("Traceback (most recent call last)")
    raised = _PYTHON.findall(python)
    if raised:
        return str(raised[-1]).rstrip(". ")[:300]
    lines = [line.strip() for line in text.splitlines()]
    causes = [line for line in lines if line.startswith("Caused by: ")] or [line for line in lines if line]
    line = causes[-1] if causes and causes[-1].startswith("Caused by: ") else (causes[0] if causes else "no reason given")
    return (_CAUSED.sub("", line)[:300] or line[:300]).rstrip(". ")
