"""S3 as boto3 reaches it, for what Dagster and a job tell each other: the address and keys of the lake's settings."""

from __future__ import annotations

from typing import Any

from iot_platform.errors import InputError
from iot_platform.lake.storage import S3
from iot_platform.settings import Settings


def s3_client(settings: Settings) -> Any:
    """A boto3 client. Without keys in the settings boto3 looks where AWS's own programs do."""
    import boto3

    return boto3.client("s3", endpoint_url=settings.aws_endpoint_url or None, **credentials(settings))


def credentials(settings: Settings) -> dict[str, str | None]:
    """Region and keys as boto3 takes them; none stands for boto3's own search."""
    return {
        "region_name": settings.aws_region or ("us-east-1" if settings.aws_endpoint_url else None),
        "aws_access_key_id": settings.aws_access_key_id.get_secret_value() or None,
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value() or None,
        "aws_session_token": settings.aws_session_token.get_secret_value() or None,
    }


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """``s3://bucket/a/b`` as bucket and prefix (without slashes at its ends). Raises ``InputError`` for anything else."""
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    if not address.startswith(S3) or not bucket:
        raise InputError(
            f"IOT_REMOTE_CODE {address!r} is no bucket",
            "Write s3://bucket/prefix, where `make package` was put.",
        )
    return bucket, prefix.strip("/")
