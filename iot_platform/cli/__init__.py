"""The command line ``iot``: one file a command or group, each thin. Errors become one line and an exit code here."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Exit code 0 done, 1 failed, 2 wrong use or bad input, 130 interrupted."""
    from rich.markup import escape

    from iot_platform.cli.app import app
    from iot_platform.cli.console import err
    from iot_platform.errors import PlatformError

    try:
        app()
    except PlatformError as error:
        err.print(f"[red]iot:[/red] {escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("iot: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, say) has what it wanted; a second complaint at exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
