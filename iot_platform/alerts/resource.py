"""The ``alerts`` resource: where messages go, as Dagster shows it. Secrets stand in it as names of variables.

``settings.py`` reads all settings, from the environment or from ``.env``. Dagster shows a resource's configuration to
whoever opens the UI and stores it with the code location, so that a secret may only be there as ``EnvVar``: its name is
shown, its value is read by Dagster where a sensor or run uses the resource. A secret that came from ``.env`` and is in no
variable of the process cannot be named; it is not shown at all and taken from the settings.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import SecretStr

from iot_platform.settings import Settings

SECRETS = ("slack_webhook_url", "smtp_password")


class AlertChannels(dg.ConfigurableResource):
    """Slack and e-mail, off while empty."""

    slack_webhook_url: str = ""
    smtp_host: str = ""
    smtp_security: str = ""
    smtp_username: str = ""
    smtp_password: str = ""
    smtp_from: str = ""
    smtp_to: str = ""
    dagster_url: str = ""

    @classmethod
    def of(cls, settings: Settings) -> AlertChannels:
        """As the settings say."""
        plain = {name: str(getattr(settings, name)) for name in cls.model_fields if name not in SECRETS}
        secret = {name: dg.EnvVar(variable) for name in SECRETS if (variable := settings.exported(name))}
        return cls(**plain, **secret)

    def settings(self, settings: Settings) -> Settings:
        """The settings with the secrets that Dagster resolved."""
        values: dict[str, Any] = {name: SecretStr(value) for name in SECRETS if (value := getattr(self, name))}
        return settings.model_copy(update=values)

    def __repr__(self) -> str:
        return "AlertChannels()"  # pydantic's would show the resolved secrets

    __str__ = __repr__
