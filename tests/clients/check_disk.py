"""Real disks that fail: one is full, one becomes read-only, and one vanishes. Each time kymo goes on sampling, alerting and
answering queries, says within a second what is wrong, and recovers by itself.

    python3 check_disk.py

Runs in a mount namespace of its own (unshare(1)), so no other program sees its mounts. It needs no root where the kernel lets
all users make user namespaces.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

from harness import Checks, Daemon, command, folder, run_kymo, wait_for, webhook

INSIDE = "--inside"
CONFIG = """
[collector.burst]
interval = "1ms"
metrics = ["network", "disk"]

[collector.system]
interval = "10ms"
metrics = ["cpu", "memory"]

[storage]
flush_interval = "2s"
hot_bytes_max = "{hot}"

[notifier.hook]
url = "{url}"

[[alert]]
name = "flood"
table = "network"
when = "interface = 'lo' AND rate(tx_bytes) > 20000000"
message = "{{value}}"
notify = ["hook"]
"""
LABELS = {"network": "interface", "disk": "device", "cpu": "cpu", "memory": "'-'"}
OWNERS = {"network": "burst", "disk": "burst", "cpu": "system", "memory": "system"}
# This includes the time of the status call.
TOLD_SECONDS = 1.0
WELL_SECONDS = 20


def run(*arguments):
    subprocess.run(arguments, check=True)


@contextlib.contextmanager
def mounted(path, size):
    path.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "kymo-check", str(path))
    try:
        yield
    finally:
        run("umount", "-l", str(path))


def status(daemon):
    """What `kymo status` says; its exit code says whether the daemon is degraded."""
    done = run_kymo("status", "--address", daemon.url, "--format", "json")
    now = json.loads(done.stdout)
    assert done.returncode == (1 if now["degraded"] else 0), done
    return now


def degraded(daemon):
    """The reasons, each with the time since when; `None` while all is well."""
    now = status(daemon)
    return now["degraded_reasons"] if now["degraded"] else None


def told_within(daemon, since):
    """The reasons that status gives, and how long after `since` it first gave some."""
    reasons = wait_for(lambda: degraded(daemon), 10, "status says degraded")
    assert all(reason.startswith("since 2") for reason in reasons), reasons
    return reasons, time.monotonic() - since


def counted(daemon):
    """Each tick has a row for each label, or is counted as lost. Returns the number of lost rows."""
    lost_in_all = 0
    for table, label in LABELS.items():
        (row,) = daemon.query(
            f"WITH newest AS (SELECT ticks, time FROM collector WHERE collector = '{OWNERS[table]}' ORDER BY time DESC LIMIT 1)"
            f" SELECT count(*) AS found, count(DISTINCT {label}) AS labels, max(newest.ticks) AS ticks,"
            f" (SELECT coalesce(sum(lost), 0) FROM gap WHERE collector = '{table}') AS lost"
            f" FROM {table} JOIN newest ON {table}.time <= newest.time")
        assert row["found"] + row["lost"] == row["ticks"] * row["labels"], (table, row)
        lost_in_all += row["lost"]
    return lost_in_all


def goes_on(daemon, received):
    """New rows arrive and an alert fires while the disk fails."""
    count = "SELECT count(*) AS n FROM network WHERE time > now() - interval '1 second'"
    first = len(received)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))

        def flood():
            for _ in range(100):
                sender.sendto(b"x" * 60_000, nobody.getsockname())
            return len(received) > first

        wait_for(flood, 15, "the alert fires")
    assert daemon.value(count) > 500
    newest = daemon.value("SELECT max(ticks) AS t FROM collector WHERE collector = 'burst'")
    wait_for(lambda: daemon.value("SELECT max(ticks) AS t FROM collector WHERE collector = 'burst'") > newest, 5, "a report")


def well_again(daemon):
    wait_for(lambda: not status(daemon)["degraded"], WELL_SECONDS, "it is well again")
    command("flush", "--address", daemon.url)
    now = status(daemon)
    assert not now["degraded"] and now["store"]["hot_rows"] < 100_000, now


def kept(daemon):
    """After a stop all rows are there, and `kymo verify` finds nothing wrong."""
    totals = {table: daemon.value(f"SELECT count(*) AS n FROM {table}") for table in LABELS}
    assert daemon.stop() == 0, daemon.log[-5:]
    command("verify", str(daemon.data))
    daemon.start()
    for table, total in totals.items():
        assert daemon.value(f"SELECT count(*) AS n FROM {table}") >= total, (table, total)


def a_full_disk_loses_nothing(path):
    with mounted(path, "48m"), webhook() as (url, received), Daemon(path / "data", CONFIG.format(hot="64MiB", url=url)) as daemon:
        time.sleep(3)
        since = time.monotonic()
        fill(path / "ballast")
        reasons, after = told_within(daemon, since)
        assert "No space left" in str(reasons), reasons
        goes_on(daemon, received)
        assert degraded(daemon)
        (path / "ballast").unlink()
        well_again(daemon)
        lost = counted(daemon)
        assert lost == 0, lost
        kept(daemon)
    assert after <= TOLD_SECONDS, f"told after {after:.2f} s"
    return f"told after {after:.2f} s: {reasons[0]}"


def what_memory_cannot_hold_is_counted(path):
    with mounted(path, "48m"), webhook() as (url, _), Daemon(path / "data", CONFIG.format(hot="1MiB", url=url)) as daemon:
        time.sleep(3)
        fill(path / "ballast")
        wait_for(lambda: daemon.value("SELECT coalesce(sum(lost), 0) AS n FROM gap WHERE reason = 'memory full'") > 1_000, 20, "rows are dropped")
        assert status(daemon)["store"]["hot_bytes"] <= 1 << 20
        (path / "ballast").unlink()
        well_again(daemon)
        lost = counted(daemon)
        assert lost > 1_000 and status(daemon)["losses"]["lost_rows"] == lost, (lost, status(daemon)["losses"])
        kept(daemon)
    return f"{lost} rows"


def a_read_only_disk_loses_nothing(path):
    """Mounts the folder read-only over itself: the kernel refuses to remount a disk that has files open for writing."""
    with mounted(path, "256m"), webhook() as (url, received), Daemon(path / "data", CONFIG.format(hot="64MiB", url=url)) as daemon:
        time.sleep(3)
        run("mount", "--bind", str(daemon.data), str(daemon.data))
        run("mount", "-o", "remount,bind,ro", str(daemon.data))
        try:
            # The first flush is the first operation that the disk refuses.
            reasons = wait_for(lambda: degraded(daemon), 4, "status says degraded")
            assert "Read-only file system" in str(reasons), reasons
            goes_on(daemon, received)
            assert degraded(daemon)
        finally:
            run("umount", str(daemon.data))
        well_again(daemon)
        lost = counted(daemon)
        assert lost == 0, lost
        kept(daemon)
    return reasons[0]


def a_disk_that_vanishes_is_waited_for(path):
    """The disk is unmounted with its files, and mounted again later."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mounted(path, "256m"))
        url, received = stack.enter_context(webhook())
        daemon = stack.enter_context(Daemon(path / "data", CONFIG.format(hot="64MiB", url=url)))
        time.sleep(3)
        before = daemon.value("SELECT min(arrow_cast(time, 'Int64')) AS t FROM network")
        # A second mount keeps the file system alive.
        other = path.with_name("other")
        other.mkdir()
        run("mount", "--bind", str(path), str(other))
        since = time.monotonic()
        run("umount", "-l", str(path))
        reasons, after = told_within(daemon, since)
        assert "is gone: waiting until it is back" in str(reasons), reasons
        goes_on(daemon, received)
        # Queries see only the rows in memory.
        assert daemon.value("SELECT min(arrow_cast(time, 'Int64')) AS t FROM network") > before
        run("mount", "--bind", str(other), str(path))
        run("umount", "-l", str(other))
        well_again(daemon)
        assert daemon.value("SELECT min(arrow_cast(time, 'Int64')) AS t FROM network") == before
        lost = counted(daemon)
        assert lost == 0, lost
        kept(daemon)
    assert after <= TOLD_SECONDS, f"told after {after:.2f} s"
    return f"told after {after:.2f} s: {reasons[0]}"


def fill(file):
    with open(file, "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        size = 1 << 20
        while size >= 1:
            try:
                while True:
                    if ballast.write(b"b" * size) < size:
                        break
            except OSError:
                pass
            size //= 16


def main():
    if INSIDE not in sys.argv:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.execvp("unshare", ["unshare", "--mount", *user, sys.executable, str(pathlib.Path(__file__).resolve()), INSIDE])
    checks = Checks()
    with folder() as path:
        for number, check in enumerate((
                a_full_disk_loses_nothing, what_memory_cannot_hold_is_counted, a_read_only_disk_loses_nothing,
                a_disk_that_vanishes_is_waited_for)):
            (path / str(number)).mkdir()
            checks.run(check, path / str(number) / "disk")
    checks.finish()


if __name__ == "__main__":
    main()
