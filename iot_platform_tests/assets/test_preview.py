"""What a date looks like in its metadata: first rows, small plots that are valid images, and all of it small."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pyarrow.parquet as pq
import pytest

from iot_platform.assets.plots import BLUE, HOURS, IN_PLACE, RED, hourly_bars, hourly_line, named_bars, short
from iot_platform.assets.preview import HEALTHY, PLOTS, previews, shown_columns
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.marts.facts import PREVIEW_COLUMNS
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markdown: str) -> ElementTree.Element:
    """The image inside the Markdown, parsed; such Markdown is short enough to be shown in place."""
    found = re.fullmatch(r"!\[[\w ,%]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found and len(markdown) < IN_PLACE, markdown
    return ElementTree.fromstring(base64.b64decode(found[1]))


def texts(markdown: str) -> list[str]:
    return [element.text or "" for element in drawn(markdown).iter(f"{SVG}text")]


def path(markdown: str, stroke: str) -> str:
    (found,) = [element for element in drawn(markdown).iter(f"{SVG}path") if element.get("stroke") == stroke]
    return found.get("d") or ""


def test_a_bar_stands_in_its_hour_and_the_highest_reaches_the_top() -> None:
    # Of the hours 0 and 23; none for the empty one.
    assert path(hourly_bars("readings", {0: 10, 23: 40, 5: 0}), BLUE) == "M46 64V49M322 64V4"
    assert texts(hourly_bars("readings", {0: 10, 23: 40_000})) == ["40k", "00", "06", "12", "18"]
    assert texts(hourly_bars("none", {}))[0] == "0" and path(hourly_bars("none", {}), BLUE) == ""


def test_a_line_is_broken_where_hours_are_missing_and_shows_its_limit() -> None:
    line = hourly_line("health", {1: 100, 2: 50, 4: 0}, top=100, limit=90)
    assert path(line, BLUE) == "M58 4h0L70 34M94 64h0"
    assert path(line, RED) == "M40 10H328"


def test_a_full_day_is_short_enough_to_be_shown_in_place() -> None:
    day = {hour: 1e9 * (1 + hour % 5) for hour in HOURS}
    assert len(texts(hourly_bars("readings by hour, UTC", day))) == 5
    apart = {hour: 99.123 for hour in HOURS if hour % 2}
    assert len(texts(hourly_line("mean health by hour, UTC, in %", apart, top=100, limit=90))) == 5
    many = [("a device type with a long name", 12_345.6 * n) for n in range(99, 0, -1)]
    assert len(named_bars("device type", "p95, ms", many)) < IN_PLACE


def test_bars_of_names_are_as_long_as_their_figures_and_what_is_left_out_is_said() -> None:
    lines = named_bars("type", "ms", [(f"a|{n}", 1000.0 / (n + 1)) for n in range(14)]).splitlines()
    assert lines[0] == "| type | ms | |" and lines[-1] == "… and 2 more"
    assert lines[2] == f"| a/0 | 1000 | {'█' * 16} |" and lines[3] == f"| a/1 | 500 | {'█' * 8} |"
    assert named_bars("type", "ms", [("lock", 0.0)]).splitlines()[2:] == ["| lock | 0 |  |"]


@pytest.mark.parametrize(
    ("value", "shown"), [(1_234_567.0, "1.23M"), (54_321.0, "54.3k"), (0.12345, "0.1235"), (9999.0, "9999"), (3e9, "3G")]
)
def test_figures_are_short(value: float, shown: str) -> None:
    assert short(value) == shown


@pytest.mark.parametrize("table", list(TABLES))
def test_a_preview_shows_few_columns_that_say_what_a_row_is(table: str) -> None:
    columns = shown_columns(TABLES[table])
    assert 0 < len(columns) <= PREVIEW_COLUMNS and len(set(columns)) == len(columns)
    assert set(columns) <= set(TABLES[table].column_names) - {"processed_at", "event_date", "changes", "headers"}


def test_a_preview_shows_the_figures_that_its_table_is_for() -> None:
    assert {"expected", "actual", "health_pct"} < set(shown_columns(TABLES["gold/sensor_health"]))
    assert shown_columns(TABLES["silver/readings"])[:4] == ["device_id", "metric", "event_time", "value"]


def test_the_line_in_the_plot_of_health_is_where_its_table_says_failing() -> None:
    assert re.findall(r"health_pct < (\S+) as is_failing", TRANSFORMS["gold/sensor_health"].sql) == [f"{HEALTHY:g}"]


def test_dates_with_rows_have_a_preview_and_a_plot_that_together_are_small(small: SmallLake) -> None:
    small.ingest(
        [{"event_time": at(D, hour) + timedelta(seconds=n), "value": 20 + n / 3} for hour in range(24) for n in range(9)]
    )
    small.day(D + DAY, readings=2, device_id="x" * 200, site="a|b")
    looks = previews(small.lake, small.lake.snapshot("bronze/readings"), [D, D + DAY, D + 2 * DAY])
    assert list(looks) == [D, D + DAY]  # the third has no rows
    first = looks[D]
    assert list(first) == ["readings_by_hour", "preview"]
    lines = str(first["preview"].value).splitlines()
    assert lines[0].startswith("| device_id | metric | event_time | value |") and len(lines) == 7
    assert "| d1 | temperature | 00:00:00 | 20 |" in lines[2]  # the date is said by the partition
    assert texts(str(first["readings_by_hour"].value))[0] == "9"
    assert all(len(str(value.value)) < IN_PLACE for look in looks.values() for value in look.values())
    second = str(looks[D + DAY]["preview"].value)
    assert "x" * 39 + "…" in second and "x" * 41 not in second


def test_a_preview_of_long_rows_shows_fewer_of_them(small: SmallLake) -> None:
    small.day(D, readings=9, **dict.fromkeys(("device_id", "metric", "unit", "status"), "y" * 60))
    preview = str(previews(small.lake, small.lake.snapshot("bronze/readings"), [D])[D]["preview"].value)
    assert len(preview) < IN_PLACE and 3 <= len(preview.splitlines()) < 7


def test_health_and_p95_are_drawn(small: SmallLake) -> None:
    small.put("gold/sensor_health", D, [
        {"device_id": "d1", "window_start": at(D, 3), "health_pct": 50.0, "event_date": D},
        {"device_id": "d2", "window_start": at(D, 3, 5), "health_pct": 100.0, "event_date": D},
    ])  # fmt: skip
    figures = [{"device_type": name, "p95": p95, "event_date": D} for name, p95 in (("a", 1.0), ("b", 9.0))]
    small.put("gold/duration_p95", D, figures)
    (health,) = previews(small.lake, small.lake.snapshot("gold/sensor_health"), [D]).values()
    assert path(str(health["mean_health_by_hour"].value), BLUE) == "M82 19h0"  # 75 % at 3 o'clock
    (p95,) = previews(small.lake, small.lake.snapshot("gold/duration_p95"), [D]).values()
    assert [line.split()[1] for line in str(p95["p95_by_type"].value).splitlines()[2:]] == ["b", "a"]


def test_files_older_than_a_column_are_shown_and_files_that_cannot_be_read_are_left_out(small: SmallLake) -> None:
    small.day(D, readings=1)
    snapshot = small.lake.snapshot("bronze/readings")
    path = Path(snapshot.active[0].path)
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["unit"]), path)
    assert "unit" in str(previews(small.lake, snapshot, [D])[D]["preview"].value)
    path.unlink()
    assert previews(small.lake, snapshot, [D]) == {}


def test_a_registry_is_shown_without_a_date(small: SmallLake) -> None:
    small.put("registry/metrics", None, [{"contract": "c", "metric": "m", "unit": "°C", "source": "contract"}])
    looks = previews(small.lake, small.lake.snapshot("registry/metrics"), [None])
    assert "| c | m | °C |" in str(looks[None]["preview"].value) and list(looks[None]) == ["preview"]


@pytest.mark.parametrize("table", list(PLOTS))
def test_a_plot_asks_for_columns_that_its_table_has_and_draws_nothing_too(table: str) -> None:
    with duckdb.connect() as connection:
        answer = connection.execute(PLOTS[table].sql.format(files=f"({select_files(TABLES[table], [])})")).fetchall()
    assert answer == []
    assert PLOTS[table].draw(answer)
