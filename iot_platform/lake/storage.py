"""How the lake's files are reached, by every library that reads or writes them: a folder, or a bucket of S3.

What belongs here: addresses and credentials, given the same way to delta-rs, pyarrow and DuckDB. DuckDB reads a bucket
through pyarrow's file system, registered as one of fsspec: its own S3 support is an extension that would be downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iot_platform.errors import InputError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, Error
    from fsspec import AbstractFileSystem
    from pyarrow.fs import FileSystem

S3 = "s3://"
FROM_PYTHON = "Traceback (most recent call last)"
# What a server other than AWS takes for a region; any will do, and looking for one would ask the cloud.
ANY_REGION = "us-east-1"
# Of one request: a log, or some megabytes of a file. The library's own bounds add up to minutes for a server that accepts
# and never answers; with these a question ends after two requests, while one that is refused for its haste is still
# repeated ten times.
CONNECT_SECONDS = 3
REQUEST_SECONDS = 20
RETRY_SECONDS = 30


@dataclass(frozen=True)
class Storage:
    """Where the lake lies and what opens it. Picklable: Spark's workers write with it. Its text shows no secret.

    Without keys the libraries look for them where AWS's own programs do: profiles, then the machine's role.
    """

    root: str
    endpoint: str = ""
    region: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Storage:
        """What the settings say. Raises ``InputError`` for half a pair of keys, or a server that would not be encrypted."""
        root = settings.lake_root
        if not root.startswith(S3):
            return cls(root)
        endpoint = settings.aws_endpoint_url.rstrip("/")
        key, secret = (one.get_secret_value() for one in (settings.aws_access_key_id, settings.aws_secret_access_key))
        if bool(key) != bool(secret):
            raise InputError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together", "Set both, or neither.")
        if endpoint.startswith("http://") and not settings.aws_allow_http:
            raise InputError(
                f"AWS_ENDPOINT_URL {endpoint} is not encrypted", "Use https, or allow it with AWS_ALLOW_HTTP=true."
            )
        if endpoint and "://" not in endpoint:
            raise InputError(f"AWS_ENDPOINT_URL {endpoint!r} has no scheme", "Write https://host:port.")
        region = settings.aws_region or (ANY_REGION if endpoint else "")
        return cls(root, endpoint, region, key, secret, settings.aws_session_token.get_secret_value())

    @property
    def is_s3(self) -> bool:
        return self.root.startswith(S3)

    @property
    def delta_options(self) -> dict[str, str] | None:
        """What delta-rs takes. Conditional puts make a commit on S3 atomic: of two writers of a version one loses."""
        if not self.is_s3:
            return None
        options = {
            "aws_conditional_put": "etag",
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true" if self.endpoint.startswith("http://") else "",
            "aws_region": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{REQUEST_SECONDS}s",
            "retry_timeout": f"{RETRY_SECONDS}s",
        }
        return {name: value for name, value in options.items() if value}

    def filesystem(self) -> tuple[FileSystem, str]:
        """pyarrow's file system of the lake, and the root's path on it."""
        from pyarrow import fs

        if self.is_s3:
            scheme, _, host = self.endpoint.partition("://")
            opened = fs.S3FileSystem(
                access_key=self.access_key_id or None,
                secret_key=self.secret_access_key or None,
                session_token=self.session_token or None,
                region=self.region or None,
                scheme=scheme or None,
                endpoint_override=host or None,
                connect_timeout=CONNECT_SECONDS,
                request_timeout=REQUEST_SECONDS,
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
            )
            return opened, self.root.removeprefix(S3)
        if "://" in self.root:
            return fs.FileSystem.from_uri(self.root)
        return fs.LocalFileSystem(), self.root

    def connect(self, config: Mapping[str, Any] | None = None) -> DuckDBPyConnection:
        """A DuckDB database in memory, in UTC, that reads the lake's files and downloads nothing."""
        import duckdb

        never = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        connection = duckdb.connect(":memory:", config=never | dict(config or {}))
        connection.execute("set TimeZone = 'UTC'")
        self.show_to(connection)
        return connection

    def show_to(self, connection: DuckDBPyConnection) -> None:
        """Let a database that somebody else opened read the lake's files."""
        if self.is_s3 and not connection.filesystem_is_registered("s3"):
            connection.register_filesystem(self._for_duckdb())

    def _for_duckdb(self) -> AbstractFileSystem:
        from fsspec.implementations.arrow import ArrowFSWrapper

        # Not remembered by fsspec, which would hold on to the keys and give them to whoever asks for the same address.
        return ArrowFSWrapper(self.filesystem()[0], skip_instance_cache=True)


def is_failed_read(error: Error) -> bool:
    """Whether a file of the lake could not be read: DuckDB says so, or hands on what pyarrow raised in its place."""
    import duckdb

    return isinstance(error, duckdb.IOException | duckdb.InvalidInputException) or FROM_PYTHON in str(error)
