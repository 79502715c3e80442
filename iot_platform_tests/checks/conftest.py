"""What the tests of checks share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from iot_platform.checks.inspection import Inspection
from iot_platform.checks.thresholds import load_thresholds
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import NOW, D, SmallLake
from iot_platform_tests.conftest import MakeSettings

Inspect = Callable[..., Inspection]


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))


@pytest.fixture
def inspect(small: SmallLake, make_settings: MakeSettings, tmp_path: Path) -> Inspect:
    """A look at the small lake with the shipped thresholds, changed by keywords: ``inspect(late_rate={"fail": 0})``."""

    def look(days: tuple[date, ...] = (D,), **own: Any) -> Inspection:
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(own))
        return Inspection(small.lake, load_thresholds(make_settings(thresholds_file=path)), NOW, days)

    return look
