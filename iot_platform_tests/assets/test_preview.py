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

from iot_platform.assets.plots import hourly_bars, hourly_line, markdown_image, named_bars
from iot_platform.assets.preview import COLUMNS, PLOTS, previews, shown_columns
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markdown: str) -> ElementTree.Element:
    """The image inside the Markdown, parsed."""
    found = re.fullmatch(r"!\[[\w ]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found, markdown
    return ElementTree.fromstring(base64.b64decode(found[1]))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def path_starts(svg: str, stroke_width: str) -> list[float]:
    """Where along the axis a shape's pieces begin."""
    (path,) = [p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.get("stroke-width") == stroke_width]
    return [float(x) for x in re.findall(r"M([\d.]+) ", path.get("d") or "")]


def test_a_bar_stands_in_its_hour_and_the_highest_reaches_the_top() -> None:
    svg = hourly_bars("readings", {0: 10, 23: 40, 5: 0})
    assert path_starts(svg, "11") == [50.5, 349.5]  # of the hours 0 and 23; none for the empty one
    assert "V18.0" in svg and "V64.5" in svg
    assert texts(svg) == ["readings", "40", "0", "00", "06", "12", "18"]
    assert texts(hourly_bars("none", {}))[1] == "0"


def test_a_line_is_broken_where_hours_are_missing_and_shows_its_limit() -> None:
    svg = hourly_line("health", {1: 100, 2: 50, 4: 0}, top=100, limit=90)
    assert path_starts(svg, "4") == [63.5, 76.5, 102.5]
    assert svg.count("L") == 1 and "stroke-dasharray" in svg
    assert "stroke-dasharray" not in hourly_line("health", {}, top=100)


def test_names_are_escaped_and_what_is_left_out_is_said() -> None:
    svg = named_bars("p95 <ms>", [(f"type & {n}", 1000.0 / (n + 1)) for n in range(14)])
    shown = texts(svg)
    assert shown[0] == "p95 <ms>" and shown[1] == "type & 0" and shown[-1] == "… and 2 more"
    assert texts(named_bars("p95", [("lock", 1_234_567.0), ("gate", 54_321.0), ("door", 0.12345)]))[2::2] == [
        "1.23M", "54.3k", "0.1235",
    ]  # fmt: skip
    assert texts(named_bars("p95", [("lock", 0.0)]))[1:] == ["lock", "0"]


@pytest.mark.parametrize("table", list(TABLES))
def test_a_preview_shows_few_columns_that_say_what_a_row_is(table: str) -> None:
    columns = shown_columns(TABLES[table])
    assert 0 < len(columns) <= COLUMNS and len(set(columns)) == len(columns)
    assert set(columns) <= set(TABLES[table].column_names) - {"processed_at", "event_date", "changes", "headers"}


def test_dates_with_rows_have_a_preview_and_a_plot_that_together_are_small(small: SmallLake) -> None:
    small.ingest(
        [{"event_time": at(D, hour) + timedelta(seconds=n), "value": 20 + n / 3} for hour in range(24) for n in range(9)]
    )
    small.day(D + DAY, readings=2, device_id="x" * 200, site="a|b")
    looks = previews(small.lake, small.lake.snapshot("bronze/readings"), [D, D + DAY, D + 2 * DAY])
    assert list(looks) == [D, D + DAY]  # the third has no rows
    first = looks[D]
    lines = str(first["preview"].value).splitlines()
    assert lines[0].startswith("| device_id | metric | event_time | value |") and len(lines) == 7
    assert "| d1 | temperature | 2026-03-10 00:00:00 | 20 |" in lines[2]
    picture = drawn(str(first["readings_by_hour"].value))
    assert [text.text for text in picture.iter(f"{SVG}text")][:2] == ["readings by hour (UTC)", "9"]
    assert all(len(str(value.value)) < 2500 for look in looks.values() for value in look.values())
    second = str(looks[D + DAY]["preview"].value)
    assert "x" * 39 + "…" in second and "x" * 41 not in second


def test_health_and_p95_are_drawn(small: SmallLake) -> None:
    small.put("gold/sensor_health", D, [
        {"device_id": "d1", "window_start": at(D, 3), "health_pct": 50.0, "event_date": D},
        {"device_id": "d2", "window_start": at(D, 3, 5), "health_pct": 100.0, "event_date": D},
    ])  # fmt: skip
    figures = [{"device_type": name, "p95": p95, "event_date": D} for name, p95 in (("a", 1.0), ("b", 9.0))]
    small.put("gold/duration_p95", D, figures)
    (health,) = previews(small.lake, small.lake.snapshot("gold/sensor_health"), [D]).values()
    assert path_starts(ElementTree.tostring(drawn(str(health["health_by_hour"].value)), encoding="unicode"), "4") == [89.5]
    (p95,) = previews(small.lake, small.lake.snapshot("gold/duration_p95"), [D]).values()
    assert [text.text for text in drawn(str(p95["p95_by_type"].value)).iter(f"{SVG}text")][1::2] == ["b", "a"]


def test_files_older_than_a_column_are_shown_and_files_that_cannot_be_read_are_left_out(small: SmallLake) -> None:
    small.day(D, readings=1)
    snapshot = small.lake.snapshot("bronze/readings")
    path = Path(snapshot.active[0].path)
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["device_type"]), path)
    assert "device_type" in str(previews(small.lake, snapshot, [D])[D]["preview"].value)
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
    assert drawn(markdown_image(PLOTS[table].draw(answer), "empty")).tag == f"{SVG}svg"
