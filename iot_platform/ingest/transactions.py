"""Delta commits of the stream: files, or nothing at all, under a transaction that is committed once.

delta-rs records a transaction and does not refuse a repeated one, so it is looked at first and the commit is made on
exactly the version that was looked at: whoever was faster, we look again. That also shuts out a fenced generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.errors import LakeError, ServiceError
from iot_platform.lake.data_files import DataFile
from iot_platform.lake.lake import Lake

ATTEMPTS = 100
FENCED = 2**63 - 1  # the version after which an app commits no more


class ExpectedMoved(LakeError):
    """Something that a commit was made on the strength of is no longer so; nothing was committed."""


def commit_once(
    lake: Lake,
    table: str,
    app: str,
    version: int,
    *,
    metadata: str | None = None,
    files: Sequence[DataFile] = (),
    expect: Mapping[str, int | None] | None = None,
) -> bool:
    """Commit these files under (app, version); False when the table has that or a later version of the app already.

    ``expect``: transactions of the table that must have these versions where the commit is made (None: not be there), else
    ``ExpectedMoved`` is raised.
    Raises ``LakeError`` when the table cannot be written, or other writers leave no room, and ``ServiceError`` when the
    app's generation was fenced: somebody else ingests now.
    """
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(table)
        last = snapshot.delta.transaction_version(app)
        if last is not None and last >= version:
            if last == FENCED != version:
                raise ServiceError(f"another process took over ingestion of {table}", "It goes on where this one stood")
            return False
        for mark, expected in (expect or {}).items():
            if (found := snapshot.delta.transaction_version(mark)) != expected:
                raise ExpectedMoved(f"{table}: {mark} moved from {expected} to {found}", "Run it again; nothing was lost")
        partition = snapshot.contract.partition
        assert partition
        try:
            snapshot.delta.create_write_transaction(
                [file.action(partition) for file in files],
                mode="append",
                schema=snapshot.delta.schema(),
                partition_by=[partition],
                commit_properties=CommitProperties(
                    custom_metadata={"userMetadata": metadata} if metadata else None,
                    max_commit_retries=0,
                    app_transactions=[Transaction(app, version)],
                ),
            )
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return True
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again when they are done")
