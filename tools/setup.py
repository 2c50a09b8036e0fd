"""Starts setup_steps.py, which needs Python 3.11 or newer.

This file is read by every Python there is, so that one that is too old gets a line instead of a traceback.
"""

import os
import sys

OLDEST = (3, 11)

if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        sys.stderr.write(
            "setup: Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.12 ...\n" % sys.version_info[:2]  # noqa: UP031
        )
        sys.exit(2)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    from setup_steps import main

    sys.exit(main())
