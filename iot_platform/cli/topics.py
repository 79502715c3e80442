"""``iot topics``: bring the broker to what the topics file says. What is done is in ``iot_platform.topics``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from iot_platform.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The Kafka topics. Example: iot topics create")


@app.callback()
def group() -> None:
    """The Kafka topics. Example: iot topics create"""


@app.command()
def create(
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects on stdout, for programs.")] = False,
) -> None:
    """Make the topics that the broker lacks, add partitions, set the retention. Example: iot topics create

    What there is stays: a second time nothing changes, and no topic or partition is ever taken away.
    """
    from iot_platform.topics import create_topics

    results = create_topics(load_settings())
    rows = [
        {
            "contract": result.topic.contract,
            "topic": result.topic.name,
            "partitions": result.partitions,
            "retention_days": result.topic.retention_days,
            "action": result.action,
        }
        for result in results
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE)
        for name in rows[0]:
            table.add_column(name.replace("_", " "), no_wrap=name in {"contract", "topic"})
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)
    for result in results:
        if result.note:
            typer.echo(result.note, err=True)
