"""``iot query``: SQL over the tables and marts. The views stand in ``lake.query``, questions in ``lake.questions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import JsonOption, emit_json, out, table
from iot_platform.errors import InputError
from iot_platform.settings import load_settings

if TYPE_CHECKING:
    from iot_platform.lake.questions import Question


def query(
    sql: Annotated[
        str | None, typer.Argument(help="one SELECT over views such as silver_readings, gold_daily_summary, devices")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="a file of questions instead, e.g. examples/analysis.sql")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="of the file only this question; again for more")] = None,
    as_json: Annotated[bool, JsonOption] = False,
    limit: Annotated[int, typer.Option(help="rows shown to people; 0: all")] = 100,
) -> None:
    """Ask the tables and marts by SQL; nothing is changed, no service needed.

    Example: iot query "select device_id, avg(health_pct) from gold_sensor_health group by 1 order by 2"
    """
    if (sql is None) == (file is None):
        raise InputError("say what to ask", "Give one SELECT, or --file with a file of questions.")
    if name and not file:
        raise InputError("--name chooses questions of a file", "Give the file by --file, or leave --name out.")
    if file:
        _ask_file(file, name or [], as_json=as_json, limit=limit)
        return
    names, rows = _select(sql or "")
    if as_json:
        emit_json(_objects(names, rows))
    else:
        out.print(table("", names, rows, limit=limit))
        out.print(f"{len(rows)} rows")


def _ask_file(file: Path, wanted: list[str], *, as_json: bool, limit: int) -> None:
    from iot_platform.lake.questions import read_questions

    questions = read_questions(file, wanted)
    answers = [(question, *_answer(question)) for question in questions]
    if as_json:
        emit_json([
            {"name": question.name, "question": question.text, "rows": _objects(names, rows)}
            for question, names, rows in answers
        ])  # fmt: skip
        return
    for question, names, rows in answers:
        out.print(table(f"{question.name}: {question.text}", names, rows, limit=limit))


def _answer(question: Question) -> tuple[list[str], list[tuple[Any, ...]]]:
    try:
        return _select(question.sql)
    except InputError as error:
        raise InputError(f"{question.name}: {error.what}", error.todo) from None


def _select(sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    from iot_platform.lake import Lake
    from iot_platform.lake.query import select

    return select(Lake(load_settings()), sql)


def _objects(names: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    from iot_platform.lake.query import as_json

    return [dict(zip(names, map(as_json, row), strict=True)) for row in rows]
