"""What the lane builds on must not break unseen: the lane itself runs rarely."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def test_the_next_level_still_fits_this_tree():
    done = subprocess.run(["git", "apply", "--check", HERE / "next_level.patch"], cwd=ROOT,
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
