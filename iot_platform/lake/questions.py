"""A file of SQL questions: each has a name, says in words what it asks, and is one statement.

A question begins with the line ``-- ## name``, its name one word; the comment lines below it are the question, the rest is
the SQL. A file without such lines is one question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iot_platform.errors import InputError

HEADING = re.compile(r"^-- ##(.*)$", re.MULTILINE)  # with whatever name: one that is none is told, not passed over
NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Question:
    """``text``: what is asked, in words; may be empty."""

    name: str
    text: str
    sql: str


def read_questions(path: Path, names: Sequence[str] = ()) -> list[Question]:
    """The questions of a file, or those of these names.

    ``InputError`` when it cannot be read, has no such question, or one without a name of its own or without SQL.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})", "Give a text file with SQL.") from None
    pieces = HEADING.split(content)
    if len(pieces) == 1:
        pieces = ["", path.stem, content]
    questions = [_question(name.strip(), body) for name, body in zip(pieces[1::2], pieces[2::2], strict=True)]
    _check(path, questions, has_headings=bool(HEADING.search(content)))
    known = {question.name for question in questions}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{path} has no question {', '.join(unknown)}", f"There are: {', '.join(sorted(known))}")
    return [question for question in questions if not names or question.name in names]


def _check(path: Path, questions: Sequence[Question], *, has_headings: bool) -> None:
    counted = Counter(question.name for question in questions)
    for question in questions:
        if has_headings and not NAME.fullmatch(question.name):
            raise InputError(f"{path}: {question.name!r} is no name", "Use letters, digits and _: `-- ## busiest_hours`.")
        if counted[question.name] > 1:
            raise InputError(f"{path}: two questions are called {question.name}", "Give each a name of its own.")
        if not question.sql:
            raise InputError(f"{path}: {question.name} has no SQL", "Write one SELECT below its comment.")


def _question(name: str, body: str) -> Question:
    lines = body.strip().splitlines()
    asked = 0
    while asked < len(lines) and lines[asked].startswith("--"):
        asked += 1
    text = " ".join(line.removeprefix("--").strip() for line in lines[:asked])
    return Question(name, text, "\n".join(lines[asked:]).strip())
