"""What the tests of alerts share: receivers, and a small lake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.alerts.receivers import Mailbox, Webhook, running_smtp, running_webhook
from iot_platform_tests.assets.small_lake import SmallLake


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as webhook:
        yield webhook


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with running_smtp() as mailbox:
        yield mailbox


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))
