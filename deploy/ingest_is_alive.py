"""The container's health check of the continuous ingest: exit code 0 while it says regularly that it runs."""

import sys

from iot_platform.ingest.lease import holder
from iot_platform.settings import load_settings

found = holder(load_settings())
sys.exit(0 if found and found.mode == "continuous" else 1)
