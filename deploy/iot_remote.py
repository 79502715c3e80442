"""What spark-submit is given on a cluster; all that it does stands in the environment shipped with it."""

import sys

from iot_platform.remote.main import main

if __name__ == "__main__":
    sys.exit(main())
