"""What Prometheus reads: promtool finds nothing wrong, Prometheus scrapes it without an error, and the kernel has the same values.

    check_prometheus.py [seconds]      for how long Prometheus scrapes once a second; 15 unless given
"""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import debian
from harness import Checks, Daemon, command, folder, wait_for

SCRAPED_S = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
PATIENCE = 60
SAMPLE = re.compile(r"^(?P<name>[a-z0-9_]+)(?:{(?P<labels>.*)})? (?P<value>\S+)$")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def http(daemon):
    """Where the daemon offers HTTP."""
    status = json.loads(command("status", "--format", "json", "--address", daemon.url))
    (address,) = [one["address"] for one in status["listeners"] if one["name"] == "HTTP"]
    return address


def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        return answer.read().decode()


def samples(text):
    """Values by name and labels."""
    found = {}
    for line in text.splitlines():
        if match := SAMPLE.match(line):
            key = match["name"], tuple(sorted(LABEL.findall(match["labels"] or "")))
            assert key not in found, f"twice: {line}"
            found[key] = float(match["value"])
    return found


def promtool_finds_nothing(address, package):
    text = scrape(address)
    done = subprocess.run(
        [package.program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, env=package.environment
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr
    return f"{len(samples(text))} series, {len(text)} bytes"


def kernel():
    """Some counters of /proc by the names that Prometheus sees."""
    found = {}
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, numbers = line.rsplit(":", 1)
        numbers = numbers.split()
        for index, what in ((0, "receive_bytes"), (1, "receive_packets"), (8, "transmit_bytes"), (9, "transmit_packets")):
            found[f"kymo_network_{what}_total", (("interface", name.strip()),)] = float(numbers[index])
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if re.fullmatch(r"cpu\d+", words[0]):
            for index, mode in ((1, "user"), (2, "nice"), (3, "system"), (6, "irq"), (7, "softirq")):
                found[f"kymo_cpu_{mode}_seconds_total", (("cpu", words[0][3:]),)] = int(words[index]) / 100
        elif words[0] in ("ctxt", "processes"):
            name = {"ctxt": "context_switches", "processes": "forks"}[words[0]]
            found[f"kymo_host_{name}_total", ()] = float(words[1])
    return found


def the_kernel_agrees(address):
    """A value is never newer than the kernel's, and at most as old as the slowest collector's tick."""
    before = kernel()
    wait_for(lambda: samples(scrape(address)).get(("kymo_host_forks_total", ()), 0) >= before["kymo_host_forks_total", ()], PATIENCE,
             "a tick of the slowest collector")
    shown = samples(scrape(address))
    after = kernel()
    wrong = [f"{key}: {low} ≤ {shown.get(key)} ≤ {after[key]}" for key, low in before.items() if key in shown
             and not low <= shown[key] <= after[key]]
    compared = [key for key in before if key in shown]
    assert len(compared) >= 10 and not wrong, (len(compared), wrong)
    return f"{len(compared)} values"


@contextlib.contextmanager
def prometheus(path, address, package):
    """A Prometheus that scrapes the daemon once a second; what its API answers to a query."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path.mkdir()
    config = path / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: kymo, static_configs: [{{targets: ['{address}']}}]}}]\n"
    )
    arguments = [package.program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={path / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"]
    with (path / "log").open("w") as log:
        server = subprocess.Popen(arguments, stdout=log, stderr=log, env=package.environment)

    def ask(expression):
        try:
            query = urllib.parse.urlencode({"query": expression})
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=PATIENCE) as answer:
                return [one["value"][1] for one in json.load(answer)["data"]["result"]]
        except OSError:
            return []

    try:
        yield ask
    finally:
        server.terminate()
        server.wait(PATIENCE)


def prometheus_scrapes_it(path, address, package):
    with prometheus(path, address, package) as ask:
        window = f"{int(SCRAPED_S) + PATIENCE}s"
        scrapes = f"count_over_time(up{{job='kymo'}}[{window}])"
        wait_for(lambda: (ask(scrapes) or ["0"])[0] >= "1", PATIENCE, "the first scrape")
        wait_for(lambda: float(ask(scrapes)[0]) >= SCRAPED_S, SCRAPED_S + PATIENCE, "all scrapes")
        (worst,) = ask(f"min_over_time(up{{job='kymo'}}[{window}])")
        assert worst == "1", f"a scrape failed: {worst}"
        (count,) = ask("scrape_samples_scraped{job='kymo'}")
        (slowest,) = ask(f"max_over_time(scrape_duration_seconds{{job='kymo'}}[{window}])")
        (ticks,) = ask("rate(kymo_collector_scheduled_ticks_total{collector='burst'}[10s])")
        assert 900 < float(ticks) < 1100, ticks
        (made,) = ask(scrapes)
    return f"{made} scrapes of {count} series, the slowest {1e3 * float(slowest):.1f} ms"


def main():
    checks = Checks()
    with folder() as path:
        package = debian.fetch("prometheus", path)
        with Daemon(path / "data") as daemon:
            wait_for(lambda: daemon.value("SELECT count(*) AS n FROM host") > 1, PATIENCE, "rows of every collector")
            address = http(daemon)
            checks.run(promtool_finds_nothing, address, package)
            checks.run(the_kernel_agrees, address)
            checks.run(prometheus_scrapes_it, path / "prometheus", address, package)
    checks.finish()


if __name__ == "__main__":
    main()
