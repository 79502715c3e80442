"""Delta transactions without rows, from Python: a batch that brought a table nothing, and the fence of an old generation.

delta-rs records a transaction and does not refuse a repeated one, so it is looked at first and committed on exactly
the version that was looked at.
"""

from __future__ import annotations

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.lake.lake import Lake


def commit_transaction(lake: Lake, table: str, app: str, version: int, metadata: str | None = None) -> bool:
    """Commit a transaction without rows on exactly the version that was looked at; False when others were faster."""
    snapshot = lake.snapshot(table)
    last = snapshot.delta.transaction_version(app)
    if last is not None and last >= version:
        return True
    try:
        snapshot.delta.create_write_transaction(
            [],
            mode="append",
            schema=snapshot.delta.schema(),
            partition_by=[snapshot.contract.partition] if snapshot.contract.partition else None,
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": metadata} if metadata else None,
                max_commit_retries=0,
                app_transactions=[Transaction(app, version)],
            ),
        )
    except CommitFailedError:
        return False
    except (DeltaError, OSError) as error:
        raise lake.unwritable(table, error) from None
    return True
