"""Drawings: what stands where, and that names are shown as they are."""

from iot_platform.docs_site.drawing import column_graph, layers, table_graph


def test_a_table_stands_right_of_everything_that_it_reads() -> None:
    reads = {"topic": (), "bronze": ("topic",), "silver": ("bronze", "registry"), "registry": ("bronze",)}
    reads["gold"] = ("silver",)
    assert layers(reads) == {"topic": 0, "bronze": 1, "registry": 2, "silver": 3, "gold": 4}


def test_a_table_that_reads_itself_or_a_circle_ends() -> None:
    assert layers({"own": ("own",), "one": ("other",), "other": ("one",)}) == {"own": 0, "one": 1, "other": 0}


def test_every_table_leads_to_its_page_and_every_input_is_a_line() -> None:
    drawn = table_graph({"a": (), "b": ("a",), "c": ("a", "b", "not drawn")}, lambda name: f"tables/{name}.html")
    assert [f'href="tables/{name}.html"' in drawn for name in "abc"] == [True] * 3
    assert drawn.count('class="edge"') == 3 and "<title>a → b</title>" in drawn
    assert table_graph({}, str).startswith("<div")


def test_each_source_of_each_column_is_one_line() -> None:
    two = (("silver/readings", "value"), ("registry", "x<y"))
    lineage = {"device_id": (("silver/readings", "device_id"),), "health_pct": two}
    drawn = column_graph("gold/health", lineage)
    assert drawn.count('class="edge"') == 3
    assert "silver/readings.value → health_pct" in drawn and "x&lt;y" in drawn
    assert column_graph("topic", {"made_here": ()}) == ""
