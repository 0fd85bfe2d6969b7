"""The lane needs two programs, which `just mixed` builds: without them there is nothing to run."""

import os

collect_ignore = [] if os.environ.get("MEGALITH_NEW_BIN") else ["test_upgrade.py"]
