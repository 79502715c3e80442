"""What tests of the engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings


@pytest.fixture
def engine(settings: Settings) -> Iterator[DuckDBEngine]:
    made = DuckDBEngine(settings)
    yield made
    made.close()
