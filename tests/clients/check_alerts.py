"""Alerts.

    check_alerts.py          what fires goes on over a restart, ends without rows, and is told late rather than never
    check_alerts.py alone    needs an idle machine: one CPU burn gives one firing and one resolution, both posted to a webhook,
                             and a thousand rules cost no tick"""

import contextlib
import json
import os
import shutil
import sys
import time

from harness import ROOT, Checks, Daemon, burning, command, folder, run_kymo, wait_for, webhook

BURN = """
[notifier.hook]
url = "{url}"

[[alert]]
name = "burn"
condition = "cpu_usage_above"
threshold = 80.0
for = "500ms"
resolve_after = "3s"
message = "{{rule}}: {{value}} % of all CPUs, {{free_memory}} free"
notify = ["log", "hook"]
"""

# A host whose memory the checks fill. Its disks are those of the recorded one.
TREE = """
[host]
procfs = "{tree}/proc"
sysfs = "{tree}/sys"

[collector.memory]
interval = "{interval}"
metrics = ["memory"]

[collector.disks]
interval = "100ms"
metrics = ["disk"]

[notifier.hook]
url = "{url}"
"""

FULL = """
[[alert]]
name = "full"
condition = "memory_usage_above"
threshold = 90.0
for = "{hold}"
resolve_after = "1s"
absent_after = "3s"
notify = ["log", "hook"]
"""

ABSENT = """
[[alert]]
name = "disk"
table = "disk"
when = "device = '{device}'"
absent = "fire"
absent_after = "3s"
notify = ["hook"]
"""

# Longer than any fixed limit between two rows used to be.
SLOW_SECONDS = 61

RULES = 1_000
# Longer than any of this takes on a busy machine.
PATIENCE = 60
# A shared machine takes the CPU away now and then, from both alike: hence medians.
TURNS = 3
MISSED_SHARE_MAX = 0.005


def seconds_pass(daemon, count):
    """Waits until the rules have seen rows of so many further seconds, however long that takes."""
    newest = daemon.value("SELECT arrow_cast(max(time), 'Int64') AS t FROM cpu")
    enough = f"SELECT max(time) > to_timestamp_micros({newest + count * 1_000_000}) AS there FROM cpu"
    wait_for(lambda: daemon.value(enough), PATIENCE, f"rows of {count} s")


def one_burn_is_told_once(daemon, received):
    with burning(4 * PATIENCE, os.cpu_count()):
        wait_for(lambda: len(received) >= 1, PATIENCE, "the alert fires")
        seconds_pass(daemon, 3)
        assert len(received) == 1, received
    wait_for(lambda: len(received) >= 2, PATIENCE, "the alert resolves")
    seconds_pass(daemon, 3)
    assert [event["state"] for event in received] == ["firing", "resolved"], received
    firing = received[0]
    assert firing["rule"] == "burn" and firing["value"] > 80 and firing["labels"] == {"cpu": "total"}, firing
    assert firing["message"].startswith("burn: ") and "B free" in firing["message"], firing
    logged = [line for line in daemon.log if "burn" in line]
    assert len(logged) >= 2, daemon.log
    wait_for(lambda: daemon.value("SELECT max(alerts_sent) AS n FROM kymo") >= 2, PATIENCE, "both are counted")
    return firing["message"]


class Host:
    """A tree of /proc that says how much memory is available."""

    def __init__(self, path):
        self.path = path
        shutil.copytree(ROOT / "tests/fixtures/vm/proc", path / "proc")
        # The host's first process, which sees its network.
        shutil.copytree(path / "proc/net", path / "proc/1/net")
        (path / "sys/class").mkdir(parents=True)
        self.set_available(90)

    def set_available(self, percent):
        kib = f"{percent * 10_000} kB\n"
        text = f"MemTotal: 1000000 kB\nMemFree: {kib}MemAvailable: {kib}Buffers: 0 kB\nCached: 0 kB\n"
        # At once: a reader sees the old text or the new one.
        (self.path / "proc/new").write_text(text)
        (self.path / "proc/new").rename(self.path / "proc/meminfo")

    def config(self, url, interval="100ms"):
        return TREE.format(tree=self.path, url=url, interval=interval)


def states(received):
    return [event["state"] for event in received]


def rows_of_alerts(daemon):
    rows = daemon.query("SELECT rule, labels, state, peak FROM alert ORDER BY time")
    return [(row["rule"], row["labels"], row["state"]) for row in rows]


def stays(received, count, seconds):
    """Nothing more is told for some seconds."""
    time.sleep(seconds)
    assert len(received) == count, received


def firing_survives_restarts_and_ends_once(path):
    path.mkdir()
    host = Host(path / "host")
    with webhook() as (url, received):
        config = host.config(url) + FULL.format(hold="1s")
        host.set_available(1)
        with Daemon(path / "data", config) as daemon:
            wait_for(lambda: received, PATIENCE, "the alert fires")
            kept = path / "data/alerts"
            wait_for(lambda: kept.exists() and b"waiting" not in kept.read_bytes(), PATIENCE, "the alert is kept as told")
            daemon.kill()
        with Daemon(path / "data", config) as daemon:
            assert json.loads(command("alert", "list", "--format", "json", "--address", daemon.url))[0]["state"] == "firing"
            stays(received, 1, 4)
            host.set_available(2)
        host.set_available(90)
        with Daemon(path / "data", config) as daemon:
            wait_for(lambda: len(received) == 2, PATIENCE, "it resolves")
            stays(received, 2, 4)
            rows = rows_of_alerts(daemon)
        with Daemon(path / "data", config) as daemon:
            stays(received, 2, 4)
            assert rows_of_alerts(daemon) == rows
    firing, resolved = received
    assert states(received) == ["firing", "resolved"], received
    assert resolved["since_us"] == firing["time_us"] and resolved["peak"] == 99.0 and resolved["value"] == 10.0, received
    assert rows == [("full", "", "firing"), ("full", "", "resolved")], rows


def a_damaged_file_is_told_and_set_aside(path):
    path.mkdir()
    host = Host(path / "host")
    host.set_available(1)
    with webhook() as (url, received):
        config = host.config(url) + FULL.format(hold="0s")
        with Daemon(path / "data", config):
            wait_for(lambda: received, PATIENCE, "the alert fires")
        kept = path / "data/alerts"
        kept.write_bytes(kept.read_bytes().replace(b"full", b"fool"))
        with Daemon(path / "data", config) as daemon:
            wait_for(lambda: len(received) == 2, PATIENCE, "it is told again")
            status = json.loads(command("status", "--format", "json", "--address", daemon.url))
            assert any("alerts is damaged: its checksum is wrong" in found for found in status["found_at_start"]), status
            assert (path / "data/alerts.aside").exists()
    assert states(received) == ["firing", "firing"], received


def a_device_that_never_appears_is_told(path):
    path.mkdir()
    host = Host(path / "host")
    with webhook() as (url, received):
        rules = ABSENT.format(device="sdz") + ABSENT.format(device="vda").replace('"disk"\ntable', '"other"\ntable')
        with Daemon(path / "data", host.config(url) + rules) as daemon:
            wait_for(lambda: received, PATIENCE, "its absence is told")
            stays(received, 1, 5)
            (series,) = json.loads(command("alert", "list", "--format", "json", "--address", daemon.url))[0]["firing_alerts"]
            assert series["labels"] == {"device": "sdz"} and series["no_data"], series
            # It is attached.
            disks = host.path / "proc/diskstats"
            vda = next(line for line in disks.read_text().splitlines() if " vda " in line)
            disks.write_text(disks.read_text() + vda.replace(" vda ", " sdz ").replace(vda.split()[1], "99", 1) + "\n")
            wait_for(lambda: len(received) == 2, PATIENCE, "it resolves")
    assert states(received) == ["no data", "resolved"], received
    assert all(event["labels"] == {"device": "sdz"} for event in received), received


def a_stopped_collector_ends_what_fires(path):
    path.mkdir()
    host = Host(path / "host")
    host.set_available(1)
    with webhook() as (url, received), Daemon(path / "data", host.config(url) + FULL.format(hold="0s")) as daemon:
        wait_for(lambda: received, PATIENCE, "the alert fires")
        command("collector", "stop", "memory", "--address", daemon.url)
        stopped = time.monotonic()
        wait_for(lambda: len(received) == 2, PATIENCE, "it is told that there are no rows")
        took = time.monotonic() - stopped
        assert states(received) == ["firing", "gone"], received
        assert 2 < took, took
        assert rows_of_alerts(daemon) == [("full", "", "firing"), ("full", "", "gone")]
    return f"after {took:.1f} s"


@contextlib.contextmanager
def slow_host(path):
    """A host whose memory is full, and is read once a minute only."""
    path.mkdir()
    host = Host(path / "host")
    host.set_available(1)
    with webhook() as (url, received):
        config = host.config(url, f"{SLOW_SECONDS}s") + FULL.format(hold=f"{SLOW_SECONDS - 1}s")
        with Daemon(path / "data", config) as daemon:
            yield daemon, received


def a_hold_spans_slow_rows(daemon, received):
    wait_for(lambda: received, 3 * SLOW_SECONDS + PATIENCE, "the alert fires at the second or third row")
    assert states(received) == ["firing"], received
    assert daemon.value("SELECT count(*) AS n FROM memory") in (2, 3)


def a_receiver_that_is_down_is_named_and_gets_it_later(path):
    path.mkdir()
    host = Host(path / "host")
    host.set_available(1)
    with webhook() as (url, _):
        port = int(url.rstrip("/").rsplit(":", 1)[1])
    # Nothing listens there now, nor in the next daemon's first seconds.
    config = host.config(url) + FULL.format(hold="0s")
    with Daemon(path / "data", config) as daemon:
        wait_for((path / "data/alerts").exists, PATIENCE, "the alert is kept")
        daemon.stop()
        assert b"waiting" in (path / "data/alerts").read_bytes()
    with Daemon(path / "data", config) as daemon:
        def problems():
            return json.loads(run_kymo("status", "--format", "json", "--address", daemon.url).stdout)["degraded_reasons"]
        said = wait_for(problems, PATIENCE, "status names the notifier")
        assert len(said) == 1 and ": notifier hook: " in said[0] and "refused" in said[0], said
        # Longer than three tries took.
        time.sleep(8)
        with webhook(port) as (_, received):
            wait_for(lambda: received, 2 * PATIENCE, "it is delivered")
            wait_for(lambda: not problems(), PATIENCE, "status is well again")
            daemon.stop()
            with Daemon(path / "data", config):
                stays(received, 1, 4)
            assert states(received) == ["firing"], received


def missed(daemon, seconds):
    """The share of missed ticks, and the CPU seconds a second, over some seconds."""
    def totals():
        return daemon.query("SELECT sum(s) AS s, sum(m) AS m FROM (SELECT max(scheduled_ticks) AS s, max(missed_ticks) AS m FROM collector GROUP BY collector)")[0]
    time.sleep(2)
    before, cpu = totals(), daemon.cpu_seconds()
    time.sleep(seconds)
    after, used = totals(), daemon.cpu_seconds() - cpu
    return (after["m"] - before["m"]) / (after["s"] - before["s"]), used / seconds


def a_thousand_rules_cost_no_tick(path):
    """In turns with one rule, so that whatever else the machine does meets both alike."""
    rule = '[[alert]]\nname = "r{0}"\ncondition = "{1}"\nthreshold = {2}\nfor = "10s"\nmessage = "{{value}}"\n'
    conditions = ("cpu_usage_above", "memory_usage_above", "network_rx_above", "disk_usage_above", "load_above")

    def limit(condition, number):
        return 1e12 + number if condition in ("network_rx_above", "load_above") else 99 + number / 10_000

    def config(count):
        return "".join(
            rule.format(number, condition := conditions[number % len(conditions)], limit(condition, number))
            for number in range(count))

    def medians(of):
        return {count: sorted(run[of] for run in runs)[len(runs) // 2] for count, runs in figures.items()}

    figures = {1: [], RULES: []}
    for turn in range(TURNS):
        for count in (1, RULES):
            with Daemon(path / f"rules-{turn}-{count}", config(count)) as daemon:
                figures[count].append(missed(daemon, 8))
    shares = medians(0)
    assert shares[RULES] <= shares[1] + MISSED_SHARE_MAX, figures
    cpus = medians(1)
    return ", ".join(f"{count} rules: missed {shares[count]:.5f}, CPU {cpus[count]:.3f}" for count in figures)


def main():
    checks = Checks()
    with folder() as path:
        if sys.argv[1:] == ["alone"]:
            with webhook() as (url, received), Daemon(path / "data", BURN.format(url=url)) as daemon:
                checks.run(one_burn_is_told_once, daemon, received)
            checks.run(a_thousand_rules_cost_no_tick, path)
            checks.finish()
        with slow_host(path / "slow") as slow:
            checks.run(firing_survives_restarts_and_ends_once, path / "restart")
            checks.run(a_damaged_file_is_told_and_set_aside, path / "damaged")
            checks.run(a_device_that_never_appears_is_told, path / "absent")
            checks.run(a_stopped_collector_ends_what_fires, path / "stopped")
            checks.run(a_receiver_that_is_down_is_named_and_gets_it_later, path / "down")
            checks.run(a_hold_spans_slow_rows, *slow)
    checks.finish()


if __name__ == "__main__":
    main()
