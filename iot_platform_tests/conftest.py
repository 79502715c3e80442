"""What all tests share: state of their own, and one real broker, Spark session and S3 server for those that ask for them.

No test reads the developer's settings or touches the developer's state: every setting comes from the factory here.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest

from iot_platform.settings import Settings
from iot_platform_tests.faults.record import fault_record, pytest_terminal_summary

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.s3_server import S3Server

# These choose where jars come from and which Java runs; all other settings of the developer stay outside.
KEPT = {"IOT_JAVA", "IOT_JAR_CACHE", "IOT_MAVEN_REPOSITORY"}
TRACING = "COVERAGE_PROCESS_CONFIG"  # by which coverage's patch of subprocesses reaches them
# Minutes each, most of them spent waiting for processes, so that others run beside them.
LONGEST = (
    "test_end_to_end", "test_demo", "test_backfill", "test_marts", "test_dev", "test_dbt_marts", "test_dagster",
    "test_dagster_killed", "test_kills", "test_s3_lake", "test_spark_on_s3", "test_engines_on_demo_data",
    "test_engines_agree",
)  # fmt: skip
__all__ = ["fault_record", "pytest_terminal_summary"]  # found here by pytest: the fault table of every run


class MakeSettings(Protocol):
    """Settings with their own empty ``IOT_HOME``; keywords choose the rest."""

    def __call__(self, **chosen: Any) -> Settings: ...


def pytest_configure() -> None:
    """Let Ctrl-C through: shells and test runners that start this in the background ignore it, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seed", type=int, default=None, help="seed of the randomly placed faults, to run one again")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests are left out unless they are asked for: by -m, or one by its name.

    The longest files come first, then all that run services (stable, so files stay whole): no worker ends long after the
    others because it began with a long file last.
    """
    for item in items:
        if "fault_record" in getattr(item, "fixturenames", ()):
            item.add_marker("faults")
    if "long" not in config.option.markexpr and not any("::" in name for name in config.args):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    places = {name: place for place, name in enumerate(LONGEST)}
    slow = ("integration", "parity", "faults")

    def place(item: pytest.Item) -> tuple[int, bool]:
        return places.get(item.path.stem, len(places)), not any(item.get_closest_marker(name) for name in slow)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage does not follow into the child processes of tests marked ``untraced``: it would cost them a third more."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("untraced"):
            patch.delenv(TRACING, raising=False)
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Dagster keeps the state storage of the instance entered last; one that outlives its instance breaks what loads next.

    Instances of several fixtures do not always end in the reverse order of their beginning, and that is what it counts on.
    """
    state = sys.modules.get("dagster._core.storage.defs_state.base")
    storage = state._current_storage.get() if state else None
    if state and storage is not None and storage._instance_weakref() is None:
        state._current_storage.set(None)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """The closing line is the last that a test run prints: DuckDB's bindings complain of leaks while Python shuts down."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@dataclass(frozen=True)
class Broker:
    """The broker of the test session: its address, and settings that point at it."""

    bootstrap: str
    settings: Settings


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name == "DAGSTER_HOME" or (name.startswith(("IOT_", "AWS_")) and name not in KEPT):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # no test asks a cloud who it is
        yield


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory, _own_environment: None) -> Path:
    """The ``IOT_HOME`` of the services that the whole test session shares."""
    return tmp_path_factory.mktemp("session-home")


@pytest.fixture
def iot_home(tmp_path: Path) -> Path:
    """An empty ``IOT_HOME`` of this one test."""
    return tmp_path / "iot-home"


@pytest.fixture
def make_settings(iot_home: Path) -> MakeSettings:
    """Makes settings in this test's ``IOT_HOME``, e.g. ``make_settings(kafka_bootstrap=kafka.bootstrap)``."""

    def make(**chosen: Any) -> Settings:
        return Settings(**({"home": iot_home, "_env_file": None} | chosen))

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Default settings in this test's ``IOT_HOME``."""
    return make_settings()


@pytest.fixture(scope="session")
def kafka(session_home: Path) -> Iterator[Broker]:
    """A real broker that ends with this test session, however it ends; it has no topic."""
    from iot_platform.local.kafka import running_kafka

    # The whole home is this broker's: a test that needs tables or state makes its own settings.
    local = Settings(home=session_home / "kafka", _env_file=None)  # pyright: ignore[reportCallIssue]
    with running_kafka(local) as service:
        yield Broker(service.bootstrap, local.model_copy(update={"kafka_bootstrap": service.bootstrap}))


@pytest.fixture(scope="session")
def s3(session_home: Path) -> Iterator[S3Server]:
    """A real S3 server that ends with this test session, however it ends: for ``make_settings(**s3.lake())``."""
    from iot_platform_tests.s3_server import running_s3

    with running_s3(Settings(home=session_home / "s3", _env_file=None)) as server:  # pyright: ignore[reportCallIssue]
        yield server


@pytest.fixture(scope="session")
def dbt_manifest(tmp_path_factory: pytest.TempPathFactory, _own_environment: None) -> Path:
    """The dbt project's manifest, parsed once for all workers: for ``build_defs(settings, manifest=dbt_manifest)``."""
    from iot_platform.marts.build import manifest

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return manifest(Settings(home=shared / "dbt", _env_file=None))  # pyright: ignore[reportCallIssue]


@pytest.fixture
def parsed_home(settings: Settings, dbt_manifest: Path) -> Path:
    """This test's ``IOT_HOME``, in which the dbt project was parsed before: for tests that are not about the first start."""
    settings.marts.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(dbt_manifest, settings.marts.with_name(dbt_manifest.name))
    return settings.home


@pytest.fixture
def topics_file(tmp_path: Path) -> Path:
    """The shipped topics under names that no other test has: for ``make_settings(topics_file=topics_file)``."""
    import yaml

    from iot_platform.topics import load_topics

    suffix = uuid4().hex[:8]
    shipped = load_topics(Settings(home=tmp_path, _env_file=None))  # pyright: ignore[reportCallIssue]
    topics = {
        topic.contract: {
            "name": f"{topic.name}.{suffix}",
            "partitions": topic.partitions,
            "retention_days": topic.retention_days,
        }
        for topic in shipped.values()
    }
    path = tmp_path / "topics.yaml"
    path.write_text(yaml.safe_dump({"topics": topics}))
    return path


@pytest.fixture(scope="session")
def spark(session_home: Path) -> Iterator[SparkSession]:
    """The one Spark session of the tests: two cores, Delta and the Kafka source."""
    from iot_platform.engines.session import build_spark

    session = build_spark(
        Settings(home=session_home / "spark", spark_master="local[2]", _env_file=None),  # pyright: ignore[reportCallIssue]
        quick_start=True,
    )
    yield session
    session.stop()
