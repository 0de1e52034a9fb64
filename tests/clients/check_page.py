"""The page without a browser: its types, and what it computes between rows and pixels. Takes some seconds.

Needs Node 20 and npm.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from harness import ROOT, Checks

WEB = ROOT / "web"
PAGE = ROOT / "tests/page"


def npm_packages(folder: pathlib.Path) -> pathlib.Path:
    """The folder with the packages that the lock file names. It is complete once it has its name."""
    lock = (WEB / "package-lock.json").read_bytes()
    root = pathlib.Path(os.environ.get("KYMO_CHECK_TOOLS", folder)) / f"npm-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not root.exists():
        unready = root.with_suffix(".unready")
        shutil.rmtree(unready, ignore_errors=True)
        unready.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(WEB / name, unready)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=unready)
        unready.rename(root)
    return root


def run(arguments, **more):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, **more)
    print(done.stdout, end="")
    if done.returncode != 0:
        raise AssertionError(f"{arguments[:3]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="kymo-page-") as name:
        folder = pathlib.Path(name)
        packages = npm_packages(folder)

        def types_of_the_page():
            run([str(packages / "node_modules/.bin/tsc"), "--noEmit", "-p", str(WEB)])

        def pure_functions():
            run(["node", "--test", "--test-reporter=dot", str(PAGE / "pure.test.mjs")])

        checks.run(types_of_the_page)
        checks.run(pure_functions)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
