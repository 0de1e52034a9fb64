"""Makes the pictures of the page and of `kymo top`, which README and docs show: of a host that does not exist, at a time that stands still.

    python3 benches/pictures.py [FOLDER]    uses target/release/kymo, or KYMO_BIN; needs numpy, pyarrow, Node 20 and npm

They go to docs/src/pictures, or to FOLDER. Chromium and pngquant come from Debian's archive.
"""

import os
import pathlib
import subprocess
import sys
import time

import simulated
import top_pictures

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
import check_page  # noqa: E402
import debian  # noqa: E402
from harness import ROOT, Daemon, folder  # noqa: E402

DAY_S = 86_400
# The page takes the last time of day at which the clock said 14:41:14 for now. Retention reaches that far back.
END_OF_DAY_S = (14 * 60 + 41) * 60 + 14
SIZE_BYTES_MAX = 250_000
COLOURS = 192
# The alert of the file system fires by itself, so that one does. The others only have their names in the simulated past.
CONFIG = """
[storage]
host = "db-07"

[[alert]]
name = "io-pressure"
table = "pressure"
when = "resource = 'io' AND kind = 'some' AND rate(total_us) > 400000"
for = "10m"

[[alert]]
name = "rx-drops"
table = "network"
when = "rate(rx_dropped) > 100"

[[alert]]
name = "cpu-usage"
condition = "cpu_usage_above"
threshold = 95.0
for = "10m"

[[alert]]
name = "disk-full"
table = "filesystem"
when = "mountpoint = '/' AND total_bytes > 0"
for = "0s"
"""


def start(place):
    """A lake of the simulated host, and the daemon that has it: the times of its end and burst, and the daemon."""
    end_us = ((int(time.time()) - END_OF_DAY_S) // DAY_S * DAY_S + END_OF_DAY_S) * 1_000_000
    host = simulated.simulate(place / "data" / "lake", Daemon.declared(), end_us)
    return end_us, host.burst_us, Daemon(place / "data", CONFIG)


def main():
    into = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/src/pictures"
    into.mkdir(parents=True, exist_ok=True)
    with folder() as place:
        chromium, environment = check_page.browser(place)
        pngquant = debian.fetch("pngquant", place)
        packages = check_page.npm_packages(place)
        end_us, burst_us, daemon = start(place)
        with daemon:
            # The alert fires, and status says what this host lacks.
            time.sleep(5)
            script = ROOT / "tests/page/pictures.mjs"
            arguments = [check_page.address_of(daemon), chromium, str(packages), str(into), str(end_us), str(burst_us)]
            subprocess.run(["node", str(script), *arguments], check=True, timeout=300, env=environment)
        top_pictures.draw(place / "data", burst_us, into)
    pictures = sorted(into.glob("*.png"))
    quantise = [pngquant.program("pngquant"), "--force", "--ext", ".png", "--strip", "--speed", "1", "--nofs", str(COLOURS)]
    subprocess.run([*quantise, *map(str, pictures)], check=True, env=pngquant.environment)
    for picture in pictures:
        size = picture.stat().st_size
        print(f"{os.path.relpath(picture)}: {size / 1000:.0f} kB")
        if size > SIZE_BYTES_MAX:
            sys.exit(f"{picture} has {size} bytes, more than {SIZE_BYTES_MAX}")


if __name__ == "__main__":
    main()
