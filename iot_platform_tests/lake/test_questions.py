"""A file of questions: each by its name, in words, with its SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot_platform.errors import InputError
from iot_platform.lake.questions import Question, read_questions

FILE = """-- About this file.

-- ## first
-- How many
-- are there?
select count(*)  -- all
from devices;

-- ## second
select ';'
"""
FIRST = Question("first", "How many are there?", "select count(*)  -- all\nfrom devices;")
SECOND = Question("second", "", "select ';'")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.sql"
    path.write_text(FILE)
    return path


def test_a_question_has_its_name_its_words_and_its_sql(file: Path) -> None:
    assert read_questions(file) == [FIRST, SECOND]
    assert read_questions(file, ["second"]) == [SECOND]


def test_a_file_without_headings_is_one_question(tmp_path: Path) -> None:
    path = tmp_path / "one.sql"
    path.write_text("-- Why?\nselect 1")
    assert read_questions(path) == [Question("one", "Why?", "select 1")]


def test_what_is_not_there_is_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no question third. There are: first, second"):
        read_questions(file, ["first", "third"])
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path / "none.sql")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-- ## busiest-hours\nselect 1", "'busiest-hours' is no name"),
        ("-- ## a\nselect 1;\n-- ##\nselect 2", "'' is no name"),
        ("-- ## a\nselect 1;\n-- ## a\nselect 2", "two questions are called a"),
        ("-- ## a\n-- Why?\n-- ## b\nselect 2", "a has no SQL"),
        ("-- Why?\n", "one has no SQL"),
    ],
)
def test_a_heading_that_is_none_a_name_given_twice_and_missing_sql_are_one_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "one.sql"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_questions(path)
