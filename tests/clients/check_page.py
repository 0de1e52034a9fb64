"""The page in a browser: types, pure functions, and what it promises on a real daemon and as a report. Takes a minute.

Needs Node 20 and npm; Chromium comes from Debian's archive.
"""

import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import debian
from harness import ROOT, Checks, Daemon, command, rows

WEB = ROOT / "web"
PAGE = ROOT / "tests/page"
HTTP_PORT = "HTTP on http://"


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


def browser(folder: pathlib.Path) -> tuple[str, dict[str, str]]:
    """Chromium, and the environment that it needs. Its data are a package of their own, and have to be beside it."""
    program, data = debian.fetch("chromium", folder), debian.fetch("chromium-common", folder)
    place = data.root / "usr/lib/chromium"
    if not (place / "chromium").exists():
        shutil.copy2(program.root / "usr/lib/chromium/chromium", place / "chromium.unready")
        (place / "chromium.unready").rename(place / "chromium")
    return str(place / "chromium"), program.environment


def run(arguments, **more):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, **more)
    print(done.stdout, end="")
    if done.returncode != 0:
        raise AssertionError(f"{arguments[:3]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def address_of(daemon: Daemon) -> str:
    line = next(line for line in daemon.log if HTTP_PORT in line)
    return "http://" + line.split(HTTP_PORT)[1].split(":/")[0].split(": ")[0].strip()


def plant_burst():
    """Six megabytes within about a millisecond, over loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(b"x" * 60_000, receiver.getsockname())


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="kymo-page-") as name:
        folder = pathlib.Path(name)
        packages = npm_packages(folder)

        def format_of_the_page():
            program = str(packages / "node_modules/.bin/prettier")
            run([program, "--config", str(WEB / "package.json"), "--log-level", "warn", "--check", str(WEB), str(PAGE)])

        def types_of_the_page():
            run([str(packages / "node_modules/.bin/tsc"), "--noEmit", "-p", str(WEB)])

        def pure_functions():
            run(["node", "--test", "--test-reporter=dot", str(PAGE / "pure.test.mjs"), str(PAGE / "report.test.mjs")])

        def promises_in_a_browser():
            chromium, environment = browser(folder)
            with Daemon(folder / "data") as daemon:
                time.sleep(3)
                plant_burst()
                time.sleep(3)
                run(["node", str(PAGE / "browser.mjs"), address_of(daemon), chromium, str(packages)], env=environment)

        def promises_of_a_report():
            """Made of the files that the daemon has left."""
            chromium, environment = browser(folder)
            report, data = folder / "report.html", str(folder / "data")
            command("report", data, "-o", str(report))
            ticks = rows(command(
                "query", "SELECT CAST(time AS BIGINT) AS us, rx_bytes FROM network WHERE interface = 'lo' ORDER BY time",
                "--data", data, "--format", "json"))
            pairs = zip(ticks, ticks[1:])
            rates = [((next["rx_bytes"] - one["rx_bytes"]) / ((next["us"] - one["us"]) / 1e6), next["us"]) for one, next in pairs]
            most, time_us = max(rates)
            run(["node", str(PAGE / "report.mjs"), str(report), chromium, str(packages), repr(most), str(time_us)], env=environment)
            return f"{report.stat().st_size / 2**20:.1f} MiB"

        checks.run(format_of_the_page)
        checks.run(types_of_the_page)
        checks.run(pure_functions)
        checks.run(promises_in_a_browser)
        checks.run(promises_of_a_report)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
