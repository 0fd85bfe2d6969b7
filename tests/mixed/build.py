"""Builds the two programs of the lane `just mixed`, each from a clone of this repository.

The old one is the commit that `base` names, or the first argument. The new one is the present tree
with `next_level.patch`, which adds a command and a field of a row at the next level. Prints their
paths as settings of a shell; the old one also sets clusters up."""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MIXED = ROOT / "target" / "mixed"


def git(*args, into=ROOT, **more):
    done = subprocess.run(["git", *map(str, args)], cwd=into, check=True, text=True,
                          stdout=subprocess.PIPE, **more)
    return done.stdout


def checked_out(name, commit):
    """A clone at `commit`, as clean as new; what didn't change keeps its times for cargo."""
    tree = MIXED / name
    if not tree.exists():
        git("clone", "--quiet", "--shared", "--no-checkout", ROOT, tree)
    git("checkout", "--quiet", "--force", "--detach", commit, into=tree)
    git("clean", "--quiet", "--force", "-d", into=tree)
    return tree


def built(tree, name):
    """The program of a tree; both trees share what they build on."""
    target = MIXED / "target"
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--workspace", "--bin", "megalith",
         "--target-dir", target],
        cwd=tree, check=True, stdout=sys.stderr)
    program = MIXED / f"megalith-{name}"
    shutil.copy2(target / "debug" / "megalith", program)
    return program


def main():
    named = sys.argv[1] if len(sys.argv) > 1 else (HERE / "base").read_text().strip()
    base = git("rev-parse", "--verify", f"{named}^{{commit}}").strip()
    present = git("rev-parse", "HEAD").strip()
    MIXED.mkdir(parents=True, exist_ok=True)
    old = built(checked_out("old", base), "old")
    tree = checked_out("new", present)
    changes = git("diff", "--binary", "HEAD", "--", ":!tests/mixed")
    if changes:
        git("apply", "-", into=tree, input=changes)
    git("apply", HERE / "next_level.patch", into=tree)
    new = built(tree, "new")
    print(f"MEGALITH_BIN={old} MEGALITH_OLD_BIN={old} MEGALITH_NEW_BIN={new}")


if __name__ == "__main__":
    main()
