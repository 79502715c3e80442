"""Rows of files of every form: what is read, and what is told apart as broken."""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import zstandard

from iot_platform.errors import InputError
from iot_platform.simulator.replay.files import find_files
from iot_platform.simulator.replay.mapping import Mapping
from iot_platform.simulator.replay.rows import Row, open_rows, read_all


def mapping(**chosen: object) -> Mapping:
    values = {"contract": "sensor_reading", "timestamp": "iso", "columns": {"timestamp": "t", "value": "v"}} | chosen
    return Mapping(**values)  # pyright: ignore[reportArgumentType]


def read(path: Path, **chosen: object) -> list[Row]:
    form = mapping(**chosen)
    with ExitStack() as stack:
        rows = open_rows(find_files(path, form)[0], form, stack)
        for column in form.columns.values():
            rows.getter(column)
        return list(read_all(rows))


def test_a_csv_file_is_read_with_line_numbers_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefft,v\r\n2024-01-01,1\r\n\r\n2024-01-02,\"a\nb\"\r\n2024-01-03,3".encode())
    rows = read(path)
    assert [(row.line, row.cells, row.problem) for row in rows] == [
        (2, ["2024-01-01", "1"], ""),
        (4, ["2024-01-02", "a\nb"], ""),
        (6, ["2024-01-03", "3"], ""),
    ]


def test_rows_with_more_or_fewer_fields_than_the_header_have_a_problem_and_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,v\n1\n1,2,3\n1,2\n")
    assert [(row.raw, row.problem) for row in read(path)] == [
        ("1", "1 fields, the header has 2"),
        ("1,2,3", "3 fields, the header has 2"),
        ("1,2", ""),
    ]


def test_an_unclosed_quote_swallows_no_good_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('t,v\n1,"2\n3,4\n5,6\n')
    rows = read(path)
    found = [(row.line, bool(row.problem), row.raw) for row in rows]
    assert found == [(2, True, '1,"2'), (3, False, "3,4"), (4, False, "5,6")]
    assert "quote is not closed" in rows[0].problem


def test_bytes_that_the_encoding_does_not_know_make_only_their_row_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,v\n\xb0C,1\nok,2\n")
    assert [row.problem for row in read(path)] == ["byte 0xb0 is no utf-8", ""]
    assert [row.problem for row in read(path, encoding="latin-1")] == ["", ""]


def test_without_a_header_columns_are_positions_and_short_rows_have_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2 9\n1\n")
    rows = read(path, header=False, delimiter=" ", columns={"timestamp": 0, "value": 1})
    assert [(row.line, row.problem) for row in rows] == [(1, ""), (2, "1 fields, 2 are needed")]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_packed_files_of_all_formats_give_the_same_rows(tmp_path: Path, packing: str) -> None:
    import polars as pl

    frame = pl.DataFrame({"t": ["2024-01-01", "2024-01-02"], "v": [1.5, None]})
    (tmp_path / "a.csv").write_text("t,v\n2024-01-01,1.5\n2024-01-02,\n")
    (tmp_path / "a.jsonl").write_text('{"t": "2024-01-01", "v": 1.5}\n{"t": "2024-01-02", "v": null}\n')
    frame.write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        data = (tmp_path / name).read_bytes()
        half = len(data) // 2
        packed = {
            "": data,
            ".gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
            ".zst": zstandard.compress(data[:half]) + zstandard.compress(data[half:]),  # two frames
        }[packing]
        path = tmp_path / f"packed-{name}{packing}"
        path.write_bytes(packed)
        form = mapping()
        with ExitStack() as stack:
            rows = open_rows(find_files(path, form)[0], form, stack)
            time, value = rows.getter("t"), rows.getter("v")
            found = [(time(row.cells), str(value(row.cells) or "")) for row in rows]
        assert found == [("2024-01-01", "1.5"), ("2024-01-02", "")]


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_off_says_so_after_the_rows_it_holds(tmp_path: Path, packing: str) -> None:
    data = b"t,v\n" + b"".join(f"2024-01-01,{n * 7919 % 10007}\n".encode() for n in range(200_000))
    packed = gzip.compress(data) if packing == ".gz" else zstandard.compress(data)
    path = tmp_path / f"a.csv{packing}"
    path.write_bytes(packed[: len(packed) - 1000])
    rows = read(path)
    assert len(rows) > 1000
    assert "rest of the file cannot be read" in rows[-1].problem
    assert not rows[0].problem


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv.gz", b"t,v\n1,2\n"), ("a.csv.zst", b"t,v\n"), ("a.parquet", b"no parquet")]
)
def test_a_file_that_is_not_what_its_name_says_is_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read: .*\. Give a file"):
        read(tmp_path / name)


def test_json_lines_that_are_none_have_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"t": 1, "v": {"x": 2}}\nnot json\n\n[1]\n{"t": NaN}\n{"t": "\xff"}\n')
    form = mapping(columns={"timestamp": "t", "value": "v.x"})
    with ExitStack() as stack:
        rows = open_rows(find_files(path, form)[0], form, stack)
        get = rows.getter("v.x")
        found = list(rows)
    assert [row.line for row in found] == [1, 2, 4, 5, 6]
    assert get(found[0].cells) == 2 and get({"v": 3}) is None and get({"v.x": 5}) == 5
    problems = [row.problem for row in found]
    assert problems[0] == "" and problems[1].startswith("no JSON:") and problems[2] == "no JSON object"
    assert "NaN" in problems[3] and "utf-8" in problems[4]
    assert json.loads(json.dumps(found[4].raw)) == '{"t": "\\xff"}'


def test_nanosecond_times_of_parquet_are_cut_to_microseconds(tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"t": [1_700_000_000_123_456_789], "v": [1]})
    frame.with_columns(pl.col("t").cast(pl.Datetime("ns"))).write_parquet(path)
    assert read(path)[0].cells["t"].isoformat() == "2023-11-14T22:13:20.123456"


def test_columns_that_a_file_lacks_are_named(tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "a.csv"
    path.write_text("t,x,x\n1,2,3\n")
    with pytest.raises(InputError, match="has no column 'v'; it has t, x, x"):
        read(path)
    with pytest.raises(InputError, match="more than one column 'x'"):
        read(path, columns={"timestamp": "t", "value": "x"})
    with pytest.raises(InputError, match="3 columns, no position 7"):
        read(path, columns={"timestamp": "t", "value": 7})
    pl.DataFrame({"t": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has no column 'v'"):
        read(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="1 columns, no position 1"):
        read(tmp_path / "a.parquet", columns={"timestamp": 0, "value": 1})
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="names, no positions"):
        read(tmp_path / "a.jsonl", columns={"timestamp": 0, "value": 1})
    (tmp_path / "b.csv").write_text('"t,v\n1,2\n')
    with pytest.raises(InputError, match="header cannot be read"):
        read(tmp_path / "b.csv")


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    assert read(tmp_path / "a.csv") == []


def test_files_are_found_below_a_folder_with_the_variables_of_their_path(tmp_path: Path) -> None:
    for name in ("r1/co2.csv", "r2/co2.csv.gz", "r2/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = find_files(tmp_path, mapping(path="{room}/{metric}.csv"))
    assert [(file.name, file.variables) for file in found] == [
        ("r1/co2.csv", {"room": "r1", "metric": "co2"}),
        ("r2/co2.csv.gz", {"room": "r2", "metric": "co2"}),
    ]
    assert find_files(tmp_path / "r1" / "co2.csv", mapping(path="{room}/{metric}.csv"))[0].variables["room"] == "r1"
    with pytest.raises(InputError, match="does not fit path"):
        find_files(tmp_path, mapping(path="{metric}.txt"))
    with pytest.raises(InputError, match="name of its own"):
        find_files(tmp_path, mapping(path="{a}/{a}.csv"))
    with pytest.raises(InputError, match="no such file or folder"):
        find_files(tmp_path / "nowhere", mapping())
    with pytest.raises(InputError, match=r"no file under .* matches '\*.parquet'"):
        find_files(tmp_path, mapping(files="*.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is CSV, Parquet or JSON lines"):
        find_files(tmp_path / "empty", mapping())
