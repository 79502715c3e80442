"""The embedded engine, with a spill folder of these tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings
from iot_platform_tests.transforms.rows import Row, make


class Make(Protocol):
    """``run("silver/readings", bronze_readings=[…])``: the rows that a transform makes of these."""

    def __call__(self, table: str, /, **given: Any) -> list[Row]: ...


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home = tmp_path_factory.mktemp("transforms-home")
    made = DuckDBEngine(Settings(home=home, duckdb_memory="1GB", _env_file=None))  # pyright: ignore[reportCallIssue]
    yield made
    made.close()


@pytest.fixture
def run(engine: DuckDBEngine) -> Make:
    def run(table: str, /, **given: Any) -> list[Row]:
        return make(engine, table, **given)

    return run
