"""The documentation builds from a clone alone, and holds what the code says."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from iot_platform.contracts.tables import TABLES
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.docs_site import __main__ as program
from iot_platform.docs_site import site
from iot_platform.docs_site.graph import Asset, duration, freshness_in_words, partitions_in_words
from iot_platform.docs_site.links import broken_in_site
from iot_platform.docs_site.prose import Prose
from iot_platform.docs_site.table_pages import first_sentence
from iot_platform.errors import InputError, PlatformError
from iot_platform.settings import PROJECT_ROOT, Settings


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does, without lake, broker or network."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    assert program.main(["--out", str(folder)]) == 0
    return folder


def page(built: Path, path: str) -> str:
    return unescape((built / path).read_text(encoding="utf-8"))


def test_no_link_leads_nowhere_and_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    assert broken_in_site(built, skip=[site.DBT_PAGE]) == []
    assert len(list(built.rglob("*.html"))) > 40


def test_a_table_is_told_whole(built: Path) -> None:
    contract = TABLES["gold/sensor_health"]
    text = page(built, "tables/gold/sensor_health.html")
    assert contract.grain in text and ", ".join(contract.keys) in text
    for column in contract.columns:
        assert f'<tr id="{column.name}">' in text and column.description in text and column.unit in text
    assert 'href="../registry/devices.html#cadence_seconds"' in text and "<svg" in text
    assert "fleet_is_healthy" in text and "UTC dates from 2010-01-01 to tomorrow" in text
    assert "select" in text and ">= 0, <= 100, not null" in text


def test_a_mart_is_told_with_its_sql_and_where_its_columns_come_from(built: Path) -> None:
    text = page(built, "tables/marts/devices.html")
    assert 'href="../staging/stg_registry__devices.html#source"' in text and "{{ ref(" in text


def test_every_table_contract_that_is_an_asset_and_every_mart_has_a_page(built: Path) -> None:
    missing = {name for name in TABLES if not (built / "tables" / f"{name}.html").exists()}
    assert missing <= {"registry/first_readings"} | {name for name in TABLES if name.startswith("ops/")}
    assert (built / "tables" / "marts" / "devices.html").exists()
    assert (built / "tables" / "kafka" / "iot.device-events.html").exists()


def test_the_contracts_stand_with_their_schemas(built: Path) -> None:
    for contract in CONTRACTS.values():
        text = page(built, f"contracts/{contract.name}.html")
        assert all(f"<code>{field.name}</code>" in text for field in contract.fields)
        schema = f"{contract.name}.v{contract.version}.json"
        assert (built / "contracts" / schema).read_text() == (PROJECT_ROOT / "docs" / "contracts" / schema).read_text()


def test_decisions_guides_checks_and_dbts_own_docs_are_there(built: Path) -> None:
    for path in (PROJECT_ROOT / "docs" / "adr").glob("*.md"):
        assert (built / "adr" / f"{path.stem}.html").exists()
    assert "conservation" in page(built, "checks.html")
    assert "make demo" in page(built, "guides/readme.html")
    assert "device_health_daily" in (built / site.DBT_PAGE).read_text(encoding="utf-8")


def test_column_lineage_shows_only_tables_that_are_there(built: Path) -> None:
    text = page(built, "lineage.html")
    made_from = re.findall(r">((?:bronze|silver|gold|registry)/\w+)\.\w+<", text)
    assert len(made_from) > 100
    assert all((built / "tables" / f"{name}.html").exists() for name in set(made_from))


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="no site of this program"):
        site.build_site(tmp_path, tmp_path / "work")
    assert program.main(["--out", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_broken_link_keeps_the_site_that_stood_there(
    tmp_path: Path, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "manifest.json").write_bytes(dbt_manifest.read_bytes())
    (target / "static_index.html").write_text("dbt")
    monkeypatch.setattr(site, "dbt_docs", lambda _settings: target)
    out = tmp_path / "out"
    site.build_site(out, tmp_path / "work")
    broken = site.Page("guides/index.html", "Guides", '<a href="nowhere.html">x</a>')
    monkeypatch.setattr(site, "guide_list", lambda _written: broken)
    with pytest.raises(PlatformError, match=r"1 link\(s\) lead nowhere: guides/index.html: nowhere.html"):
        site.build_site(out, tmp_path / "work")
    assert (out / "guides" / "index.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "target"]


def test_a_dbt_project_that_cannot_be_read_is_told_in_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from iot_platform.marts import build

    answer = subprocess.CompletedProcess([], 1, '{"info": {"level": "error", "msg": "no such model"}}\n', "")
    monkeypatch.setattr(build, "run_dbt", lambda *_: answer)
    with pytest.raises(PlatformError, match="dbt cannot make its docs: no such model"):
        site.dbt_docs(settings)


def test_what_dagster_knows_is_said_in_words() -> None:
    from datetime import timedelta

    import dagster as dg

    window = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(minutes=90))
    assert freshness_in_words(window) == "made within 6 h, a warning after 90 min"
    cron = dg.FreshnessPolicy.cron(deadline_cron="0 7 * * *", lower_bound_delta=timedelta(hours=1))
    assert freshness_in_words(cron) == "made anew by 0 7 * * * (UTC)"
    assert [freshness_in_words(None), duration(172_800), duration(61)] == ["", "2 d", "61 s"]
    weekly = dg.WeeklyPartitionsDefinition("2026-01-05", timezone="UTC")
    assert partitions_in_words(weekly) == "0 0 * * 0 from 2026-01-05, UTC"
    assert partitions_in_words(dg.StaticPartitionsDefinition(["a"])) == "StaticPartitionsDefinition"
    assert first_sentence("One row a day. More.\nLines") == "One row a day" and first_sentence("") == ""


def test_an_asset_of_nobody_has_a_page_too() -> None:
    text = site.index({"x": Asset("x", "other", "")}, list[Prose]()).html
    assert "1 tables" in text
