"""Publishing: a reader opens the old file or the new one, whole, and never waits for the writer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from iot_platform.errors import PlatformError
from iot_platform.local.process import wait_until
from iot_platform.marts.publish import build_file, publish
from iot_platform.settings import Settings

READER = """
import sys, duckdb
from pathlib import Path
path, stop = sys.argv[1], Path(sys.argv[2])
while not stop.exists():
    with duckdb.connect(path, read_only=True) as connection:
        one = connection.execute("select n, count(*) from one group by n").fetchall()
        two = connection.execute("select n, count(*) from two group by n").fetchall()
    assert one == two and len(one) == 1 and one[0][1] == 1000, (one, two)
    print(one[0][0], flush=True)
"""


def version(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    for table in ("one", "two"):
        connection.execute(f"create or replace table {table} as select {number} as n from range(1000)")


def test_readers_see_whole_files_only_while_new_ones_are_published(settings: Settings, tmp_path: Path) -> None:
    build_file(settings).parent.mkdir(parents=True)
    stop, seen = tmp_path / "stop", tmp_path / "seen"
    with duckdb.connect(build_file(settings)) as writer, seen.open("w") as output:
        version(writer, 0)
        publish(writer, settings.marts)
        command = [sys.executable, "-c", READER, str(settings.marts), str(stop)]
        reader = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        number = 0

        def reader_saw_ten_versions() -> bool:
            nonlocal number
            number += 1
            version(writer, number)
            publish(writer, settings.marts)
            return len(set(seen.read_text().split())) >= 10 or reader.poll() is not None

        assert wait_until(reader_saw_ten_versions, 60)
        stop.touch()
        _, errors = reader.communicate(timeout=30)
    assert (reader.returncode, errors) == (0, "")
    numbers = [int(line) for line in seen.read_text().split()]
    assert numbers == sorted(numbers)
    assert sorted(path.name for path in settings.marts.parent.iterdir()) == ["build.duckdb", "marts.duckdb"]


def test_a_reader_that_has_the_old_file_open_keeps_it(settings: Settings) -> None:
    build_file(settings).parent.mkdir(parents=True)
    with duckdb.connect(build_file(settings)) as writer:
        version(writer, 1)
        publish(writer, settings.marts)
        with duckdb.connect(settings.marts, read_only=True) as reader:
            version(writer, 2)
            publish(writer, settings.marts)
            assert reader.execute("select distinct n from one").fetchall() == [(1,)]
        with duckdb.connect(settings.marts, read_only=True) as reader:
            assert reader.execute("select distinct n from one").fetchall() == [(2,)]


def test_a_publication_that_fails_leaves_the_old_file_and_no_rest(settings: Settings) -> None:
    build_file(settings).parent.mkdir(parents=True)
    with duckdb.connect(build_file(settings)) as writer:
        version(writer, 1)
        publish(writer, settings.marts)
        with pytest.raises(PlatformError, match=r"marts.duckdb cannot be published"):
            publish(writer, settings.marts, database="nowhere")
        version(writer, 2)
        publish(writer, settings.marts)  # the connection is as good as before
    with duckdb.connect(settings.marts, read_only=True) as reader:
        assert reader.execute("select distinct n from two").fetchall() == [(2,)]
    assert not list(settings.marts.parent.glob("*.part*"))
