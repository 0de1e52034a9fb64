"""Alerts: one firing and one resolution for one CPU burn, both posted to a webhook; a thousand rules cost no tick."""

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
# Longer than a host takes processors away from its guests.
resolve_after = "3s"
message = "{{rule}}: {{value}} % of all CPUs, {{free_memory}} free"
notify = ["log", "hook"]
"""

RULES = 1_000


def one_burn_is_told_once(daemon, received):
    with burning(20, os.cpu_count()):
        wait_for(lambda: len(received) >= 1, 15, "the alert fires")
        time.sleep(3)
        assert len(received) == 1, received
    wait_for(lambda: len(received) >= 2, 20, "the alert resolves")
    time.sleep(3)
    assert [event["state"] for event in received] == ["firing", "resolved"], received
    firing = received[0]
    assert firing["rule"] == "burn" and firing["value"] > 80 and firing["labels"] == {"cpu": "total"}, firing
    assert firing["message"].startswith("burn: ") and "B free" in firing["message"], firing
    logged = [line for line in daemon.log if "burn" in line]
    assert len(logged) >= 2, daemon.log
    assert daemon.value("SELECT max(alerts_sent) AS n FROM kymo") >= 2
    return firing["message"]


def missed(daemon, seconds):
    """Share of missed ticks and CPU seconds per second, over a while."""
    def totals():
        return daemon.query("SELECT sum(s) AS s, sum(m) AS m FROM (SELECT max(scheduled_ticks) AS s, max(missed_ticks) AS m FROM collector GROUP BY collector)")[0]
    time.sleep(2)
    before, cpu = totals(), daemon.cpu_seconds()
    time.sleep(seconds)
    after, used = totals(), daemon.cpu_seconds() - cpu
    return (after["m"] - before["m"]) / (after["s"] - before["s"]), used / seconds


def a_thousand_rules_cost_no_tick(path):
    """In turns with one rule, so that what the machine does besides hits both alike."""
    rule = '[[alert]]\nname = "r{0}"\ncondition = "{1}"\nthreshold = {2}\nfor = "10s"\nmessage = "{{value}}"\n'
    conditions = ("cpu_usage_above", "memory_usage_above", "network_rx_above", "disk_usage_above", "load_above")

    def limit(condition, number):
        return 1e12 + number if condition in ("network_rx_above", "load_above") else 99 + number / 10_000

    def config(count):
        return "".join(
            rule.format(number, condition := conditions[number % len(conditions)], limit(condition, number))
            for number in range(count))

    figures = {1: [], RULES: []}
    for turn in range(3):
        for count in (1, RULES):
            with Daemon(path / f"rules-{turn}-{count}", config(count)) as daemon:
                figures[count].append(missed(daemon, 8))
    shares = {count: sorted(share for share, _ in runs)[1] for count, runs in figures.items()}
    # A shared machine takes the CPU away now and then, from both alike; hence the middle of three turns.
    assert shares[RULES] <= shares[1] + 0.005, figures
    return ", ".join(
        f"{count} rules: missed {sorted(share for share, _ in runs)[1]:.5f}, CPU {sorted(cpu for _, cpu in runs)[1]:.3f}"
        for count, runs in figures.items())


def main():
    checks = Checks()
    with folder() as path:
        with webhook() as (url, received), Daemon(path / "data", BURN.format(url=url)) as daemon:
            checks.run(one_burn_is_told_once, daemon, received)
        checks.run(a_thousand_rules_cost_no_tick, path)
    checks.finish()


if __name__ == "__main__":
    main()
