"""No secret of the alerts is written anywhere: a real run fails, is alerted, and then every file is searched."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value

from iot_platform.alerts import send_summary
from iot_platform.alerts.book import read_book
from iot_platform.alerts.resource import AlertChannels
from iot_platform.automation.run import persistent_instance, run_assets
from iot_platform.definitions import build_defs
from iot_platform.local.process import LOOPBACK
from iot_platform.reports.daily import daily_summary
from iot_platform.settings import Settings
from iot_platform_tests.alerts.receivers import PASSWORD, USER, WEBHOOK_PATH, Webhook
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.conftest import MakeSettings

# Dagster's own snapshot of a schedule reads a property that Dagster deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")
SECRETS = (WEBHOOK_PATH, "webhook-secret-9f2c", PASSWORD)


@pytest.fixture
def from_environment(monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings, webhook: Webhook) -> Settings:
    """Settings as a deployment has them: the secrets in the environment. Nothing speaks SMTP at that port."""
    for name, value in {
        "IOT_SLACK_WEBHOOK_URL": webhook.url, "IOT_SMTP_HOST": LOOPBACK, "IOT_SMTP_PORT": "1", "IOT_SMTP_USERNAME": USER,
        "IOT_SMTP_PASSWORD": PASSWORD, "IOT_SMTP_FROM": "iot@example.org", "IOT_SMTP_TO": "ops@example.org",
        "IOT_KAFKA_BOOTSTRAP": f"{LOOPBACK}:1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("iot_platform.assets.derived.RETRY", None)  # what fails does so for good, without pauses
    return make_settings()


def test_a_failed_run_its_alert_and_all_that_is_kept_of_them_hold_no_secret(
    from_environment: Settings, small: SmallLake, webhook: Webhook, dbt_manifest: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = from_environment
    small.day(D)
    definitions = build_defs(settings, manifest=dbt_manifest)
    repository = definitions.get_repository_def()
    in_the_way = settings.home / "lake" / "silver"
    in_the_way.write_text("a file")
    ran = run_assets(settings, D, D, ["silver/readings"], definitions=definitions)
    assert not ran.is_success
    webhook.status, webhook.body = 403, f"{WEBHOOK_PATH} {PASSWORD}"
    said: list[str] = []
    with persistent_instance(settings) as instance:
        for _ in range(2):
            context = dg.build_sensor_context(
                instance=instance, repository_def=repository, resources=dict(definitions.resources or {})
            )
            with context:
                result = repository.get_sensor_def("alerts")(context)
            assert isinstance(result, dg.SensorResult) and isinstance(result.skip_reason, dg.SkipReason)
            said += [result.skip_reason.skip_message or "", result.cursor or ""]
            webhook.status = 200
        events = [entry.to_json() for entry in instance.all_logs(ran.run_id)]
        run = instance.get_run_by_id(ran.run_id)
        assert run
        said += [*events, str(run.run_config), str(run.tags), serialize_value(RepositorySnap.from_def(repository))]
    in_the_way.unlink()
    slack, mail = send_summary(settings, daily_summary(small.lake, D), at(D + DAY, 6))
    assert slack.is_delivered and not mail.is_delivered
    assert "slack: HTTP 403" in said[0] and read_book(settings).incidents and webhook.titles
    files = {path: path.read_bytes() for path in settings.home.rglob("*") if path.is_file()}
    assert any(path.suffix == ".db" for path in files) and any("ops/incidents" in str(path) for path in files)
    printed = capfd.readouterr()
    for secret in SECRETS:
        assert [path for path, content in files.items() if secret.encode() in content] == []
        assert secret not in printed.out + printed.err
        assert [text for text in said if secret in text] == []


def test_dagster_shows_the_variables_by_name(from_environment: Settings, dbt_manifest: Path) -> None:
    definitions = build_defs(from_environment, manifest=dbt_manifest)
    snapshot = RepositorySnap.from_def(definitions.get_repository_def())
    (shown,) = [one for one in snapshot.resources or () if one.name == "alerts"]
    text = repr(shown.configured_values)
    assert "IOT_SLACK_WEBHOOK_URL" in text and "IOT_SMTP_PASSWORD" in text
    assert "ops@example.org" in text and PASSWORD not in text


def test_the_resource_gives_the_secrets_that_dagster_resolved_and_never_shows_them(
    from_environment: Settings, webhook: Webhook, make_settings: MakeSettings
) -> None:
    with dg.build_resources({"alerts": AlertChannels.of(from_environment)}) as resources:
        resolved = resources.alerts
        bare = from_environment.model_copy(update=make_settings(slack_webhook_url="", smtp_password="").model_dump())
        assert resolved.settings(bare).slack_webhook_url.get_secret_value() == webhook.url
        assert webhook.url not in f"{resolved} {resolved!r}"


def test_a_secret_that_no_variable_holds_is_taken_from_the_settings_and_not_shown(make_settings: MakeSettings) -> None:
    settings = make_settings(slack_webhook_url="https://hooks.example.org/services/from-dotenv")
    with dg.build_resources({"alerts": AlertChannels.of(settings)}) as resources:
        assert resources.alerts.slack_webhook_url == ""
        assert resources.alerts.settings(settings).slack_webhook_url == settings.slack_webhook_url
