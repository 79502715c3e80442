"""dagster-dbt without dbt-core in this process: only the manifest is read here, dbt itself runs as a process of its own.

dagster-dbt works without dbt-core as well (for who runs another dbt); told that there is none it imports none of it.
Definitions load in less than half the time then: with dbt-core they took 2.7 s, of which importing it and selecting
nodes by it were 1.6 s.
"""

import sys

_CORE = "dbt.version"  # what dagster-dbt asks for to find out whether dbt-core is there

if _CORE not in sys.modules:  # else it is imported already, and there is nothing to spare
    sys.modules[_CORE] = None  # pyright: ignore[reportArgumentType]  # Python's own way to say "cannot be imported"
    try:
        import dagster_dbt.compat  # noqa: F401
    finally:
        del sys.modules[_CORE]

from dagster_dbt import DagsterDbtTranslator, dbt_assets  # noqa: E402

__all__ = ["DagsterDbtTranslator", "dbt_assets"]
