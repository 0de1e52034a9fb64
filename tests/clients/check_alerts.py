"""Alerts: one CPU burn gives one firing and one resolution, both posted to a webhook. A thousand rules cost no tick."""

import os
import time

from harness import Checks, Daemon, burning, folder, wait_for, webhook

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
        with webhook() as (url, received), Daemon(path / "data", BURN.format(url=url)) as daemon:
            checks.run(one_burn_is_told_once, daemon, received)
        checks.run(a_thousand_rules_cost_no_tick, path)
    checks.finish()


if __name__ == "__main__":
    main()
