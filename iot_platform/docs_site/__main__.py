"""``make docs``: ``python -m iot_platform.docs_site [--out FOLDER]``, by default into ``dist/docs``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from iot_platform.docs_site.site import build_site
from iot_platform.errors import PlatformError
from iot_platform.settings import PROJECT_ROOT

PLACE = PROJECT_ROOT / "dist" / "docs"


def main(arguments: list[str]) -> int:
    """The program; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m iot_platform.docs_site", description="Build the documentation.")
    parser.add_argument("--out", type=Path, default=PLACE, help="folder of the site (default dist/docs)")
    chosen = parser.parse_args(arguments)
    try:
        # dbt is given an empty home: the same site from every clone, whatever lies in its lake.
        with tempfile.TemporaryDirectory() as work:
            built = build_site(chosen.out.resolve(), Path(work))
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{built.pages} pages: {built.folder / 'index.html'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
