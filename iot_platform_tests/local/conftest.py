"""What the tests of the local programs share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import pytest

from iot_platform.settings import PROJECT_ROOT


@pytest.fixture(scope="session")
def deploy_program() -> Callable[[str], ModuleType]:
    """Loads ``deploy/<name>.py``, which is in no package, as a module of its own."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"iot_{name}", PROJECT_ROOT / "deploy" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
