"""Publishing: a reader opens the old file or the new one, whole, and never waits for the writer."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import pytest

from iot_platform.errors import PlatformError
from iot_platform.marts.publish import build_file, publish
from iot_platform.settings import Settings

OPENINGS = 1_000  # of all readers together
READERS = ((1, 160), (1, 160), (4, 85), (4, 85))  # of each process: threads, and how often each of them opens the file
READER = """
import sys, threading, duckdb
path, threads, openings = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
wrong, seen = [], []

def read():
    before = -1
    for _ in range(openings):
        try:
            with duckdb.connect(path, read_only=True) as connection:
                one = connection.execute("select n, count(*) from one group by n").fetchall()
                two = connection.execute("select n, count(*) from two group by n").fetchall()
            assert one == two and len(one) == 1 and one[0][1] == 1000, (one, two)
            # Threads of a process share what DuckDB has open, and may be given a file that another still holds.
            assert threads > 1 or one[0][0] >= before, "an older file after a newer one"
            before = one[0][0]
            seen.append(before)
        except BaseException as error:
            wrong.append(repr(error))
            return

running = [threading.Thread(target=read) for _ in range(threads)]
for thread in running: thread.start()
for thread in running: thread.join()
print(*seen)
sys.exit("; ".join(wrong) or 0)
"""


def version(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    for table in ("one", "two"):
        connection.execute(f"create or replace table {table} as select {number} as n from range(1000)")


def test_a_thousand_openings_see_whole_files_only_while_new_ones_are_built_and_published(settings: Settings) -> None:
    assert sum(threads * openings for threads, openings in READERS) == OPENINGS
    build_file(settings).parent.mkdir(parents=True)
    with duckdb.connect(build_file(settings)) as writer:
        version(writer, 0)
        publish(writer, settings.marts)
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, str(settings.marts), str(threads), str(openings)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for threads, openings in READERS
        ]  # fmt: skip
        # Their output is some kilobytes each, which a pipe holds.
        number = 0
        while any(reader.poll() is None for reader in readers):
            number += 1
            version(writer, number)
            publish(writer, settings.marts)
        ended = [(reader.communicate(timeout=30), reader.returncode) for reader in readers]
    assert [(errors, code) for (_, errors), code in ended] == [("", 0)] * len(READERS)
    seen = [int(line) for (output, _), _ in ended for line in output.split()]
    assert len(seen) == OPENINGS and len(set(seen)) >= 10
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
