"""What the tests of assets share."""

from __future__ import annotations

import pytest

from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import SmallLake


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))
