"""The container's health check of the continuous ingest: exit code 0 while it runs and gets on, or waits for the broker."""

import sys

from iot_platform.ingest.standing import standing
from iot_platform.settings import load_settings

found = standing(load_settings())
print(found.said)
sys.exit(0 if found.state in {"running", "waiting", "restarting"} else 1)
