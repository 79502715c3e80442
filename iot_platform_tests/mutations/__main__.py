"""``python -m iot_platform_tests.mutations``: deliberate bugs and the tests that catch them. Exit code 1 if one survives."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from iot_platform_tests.mutations.check import Moved, check, copied


def main() -> int:
    survived = 0
    with tempfile.TemporaryDirectory(prefix="iot-mutations-") as folder:
        try:
            for verdict in check(copied(Path(folder))):
                bug = verdict.bug
                names = ", ".join(test.partition("::")[2] for test in verdict.failed)
                print(f"{bug.name:34} {'caught' if verdict.is_caught else 'SURVIVED':9} by {names or 'none'}", flush=True)
                if not verdict.is_caught:
                    survived += 1
                    print(f"{'':34} not noticed by {', '.join(verdict.passed) or 'a test that is named for it'}", flush=True)
                    sys.stderr.write(verdict.said)
        except (Moved, RuntimeError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    print("every bug was caught" if not survived else f"{survived} bug(s) survived")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
