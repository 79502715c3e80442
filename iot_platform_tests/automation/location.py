"""The code location that the daemons load in tests: whatever definitions the test chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

_chosen: list[dg.Definitions] = []


@dg.definitions
def defs() -> dg.Definitions:
    """What the test chose last."""
    return _chosen[-1]


@contextmanager
def workspace(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Iterator[WorkspaceProcessContext]:
    """What a daemon works on: these definitions, loaded in this process."""
    _chosen.append(definitions)
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name=__name__, attribute="defs"), location_name="tested"
    )
    try:
        with create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as context:
            yield context
    finally:
        _chosen.pop()
