"""A lake of a host that does not exist, as retention leaves it: 30 days of tiers, and all rows of the ten minutes around a burst of one
millisecond. The page's pictures are made of it, and it is what zooming is measured on.

The host is a database server of 16 cores. Its last hour has stalled I/O, a gap, the burst, a busy time and a few missed ticks. The same
seed makes the same host at another time.
"""

import numpy
import own_file
import pyarrow

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
DAYS = 30
# Seconds of 30 days would be gigabytes. Views that are longer than half a day are drawn from minutes.
DAYS_OF_SECONDS, DAYS_OF_SECONDS_OF_CORES = 6, 1
CORES = 16
HOST = "db-07"
TOTAL_BYTES = 62.7 * 2**30
TYPES = {"timestamp": pyarrow.timestamp("us", "UTC"), "text": pyarrow.string(), "int64": pyarrow.int64(), "float64": pyarrow.float64()}
# What one tick of the burst received.
BURST_BYTES, BURST_PACKETS, BURST_DROPPED = 150_012, 99, 33
# The burst stands out beside other ticks of a millisecond, which get at most 60 kB.
BURST_BEFORE_END_US = 29 * MINUTE + 6_582_000
RAW_US = 10 * MINUTE
# Tables of ten rows a second have no tier of seconds, so their rows are what an hour is drawn from.
KERNEL_RAW_US = 2 * HOUR
MODES = {"user_us": 0.70, "system_us": 0.20, "softirq_us": 0.07, "steal_us": 0.008}


class Host:
    """How busy everything is at a time, as numbers around 1."""

    def __init__(self, end_us, seed=7):
        self.end_us = end_us
        self.end = end_us / SECOND
        self.burst_us = end_us - BURST_BEFORE_END_US
        self.random = numpy.random.default_rng(seed)
        self.phases = self.random.uniform(0, 2 * numpy.pi, (8, 12))
        self.raw = ((self.burst_us - RAW_US // 2) // MINUTE * MINUTE, (self.burst_us + RAW_US // 2) // MINUTE * MINUTE)
        self.hole = (end_us - 43 * MINUTE - 42 * SECOND, end_us - 43 * MINUTE)
        self.late = [
            end_us - back
            for back in (2838 * SECOND, 2801 * SECOND, 954 * SECOND, 872 * SECOND, 815 * SECOND, BURST_BEFORE_END_US - 12_000)
        ]

    def drift(self, seconds, which):
        """Slow noise around 0, about from -1 to 1: waves whose lengths have no common measure."""
        total = numpy.zeros(len(seconds))
        for at, phase in enumerate(self.phases[which % 8]):
            total += numpy.sin(seconds * 2 * numpy.pi / (31 * 1.83**at) + phase + which)
        return total / 5

    def day(self, seconds):
        """Nights and weekends are calmer."""
        hours = seconds / 3600
        of_day = 0.62 + 0.38 * numpy.sin((hours - 8) * 2 * numpy.pi / 24) + 0.12 * numpy.sin(hours * 2 * numpy.pi / 8)
        week = numpy.where((hours / 24 + 3) % 7 < 5, 1.0, 0.7)
        return of_day * week

    def jobs(self, seconds):
        """Something small runs every five minutes."""
        return numpy.exp(-((seconds % 300) / 9))

    def hump(self, seconds, before_end, rise, hold, fall):
        start = self.end - before_end
        return numpy.interp(seconds, [start, start + rise, start + rise + hold, start + rise + hold + fall], [0, 1, 1, 0])

    def stalled(self, seconds):
        """I/O stalls for two minutes, and did on some earlier days."""
        earlier = sum(self.hump(seconds, days * 86_400, 300, 2400, 600) for days in (4.3, 9.1, 17.6, 23.2))
        return self.hump(seconds, 2850, 12, 108, 12) + 0.8 * earlier

    def crowded(self, seconds):
        """All cores are busy for a few minutes, and were on some earlier days."""
        earlier = sum(self.hump(seconds, days * 86_400, 1800, 5400, 900) for days in (2.6, 12.2, 20.9))
        return self.hump(seconds, 900, 190, 90, 50) + 0.7 * earlier

    def busy(self, seconds):
        """The share of all cores, 0 to 1, without waiting for I/O."""
        calm = 0.13 + 0.11 * self.day(seconds) + 0.02 * self.drift(seconds, 1) + 0.07 * self.jobs(seconds)
        return numpy.clip(calm + 0.05 * self.stalled(seconds) + 0.6 * self.crowded(seconds), 0.02, 0.98)

    def core(self, seconds, number):
        share = self.busy(seconds) * (0.82 + 0.36 * ((number * 7) % CORES) / CORES) + 0.03 * self.drift(seconds, number)
        return numpy.clip(share, 0.004, 1)

    def bytes_per_second(self, seconds, name):
        day, jobs, drift = self.day(seconds), self.jobs(seconds), self.drift(seconds, len(name) + ord(name[0]))
        stalled, crowded = self.stalled(seconds), self.crowded(seconds)
        mega = {
            "eth0.rx_bytes": 9.5 + 3 * day + 6 * jobs + drift + 10 * stalled + 9 * crowded,
            "eth0.tx_bytes": 5.5 + 3 * day + 1.2 * jobs + drift + 17 * stalled + 6 * crowded,
            "eth1.rx_bytes": 0.30 + 0.1 * day + 0.55 * jobs + 0.05 * drift,
            "eth1.tx_bytes": 0.14 + 0.05 * day + 0.1 * jobs + 0.02 * drift,
            "read_bytes": 8 + 4 * day + 22 * jobs + 3 * drift + 300 * stalled,
            "write_bytes": 27 + 11 * day + 4 * jobs + 4 * drift + 40 * stalled + 70 * crowded,
        }[name]
        return numpy.maximum(mega, 0.02) * 1e6


class Writer:
    """Writes columns as files of a lake: a file for each hour of rows, and for each day of a tier."""

    def __init__(self, lake, host, declared):
        self.lake, self.host = lake, host
        self.tables = {one["name"]: one for table in declared for one in [table, *table["tiers"]]}
        self.next_seq = {}

    def write(self, name, columns, width_us=HOUR):
        # Nothing was recorded in the hole, and files are in the order of time.
        kept = (columns["time"] < self.host.hole[0]) | (columns["time"] >= self.host.hole[1])
        order = numpy.flatnonzero(kept)[numpy.argsort(columns["time"][kept], kind="stable")]
        columns = {key: values[order] for key, values in columns.items()}
        starts = numpy.flatnonzero(numpy.diff(columns["time"] // width_us, prepend=-1))
        for first, last in zip(starts, [*starts[1:], len(columns["time"])], strict=True):
            self.file(name, {key: values[first:last] for key, values in columns.items()})

    def file(self, name, columns):
        arrays, fields, count = [], [], len(columns["time"])
        for column in self.tables[name]["columns"]:
            ty = TYPES[column["type"].lower()]
            if column["name"] == "host":
                continue
            values = columns.get(column["name"])
            if values is None:
                array = pyarrow.nulls(count, ty)
            elif values.dtype.kind in "UO":
                array = pyarrow.array(values, ty)
            elif pyarrow.types.is_floating(ty):
                array = pyarrow.array(values.astype(float), ty)
            else:
                array = pyarrow.array(values.astype(numpy.int64), pyarrow.int64()).cast(ty)
            arrays.append(array)
            fields.append(pyarrow.field(column["name"], ty))
        place = self.lake / name / f"host={HOST}"
        seq = self.next_seq.get(name, 1)
        self.next_seq[name] = own_file.write(place, int(columns["time"][0]), seq, arrays, fields)


def joined(parts):
    """Series below each other."""
    return {key: numpy.concatenate([part[key] for part in parts]) for key in parts[0]}


def labelled(columns, **labels):
    count = len(columns["time"])
    return {**columns, **{name: numpy.full(count, text, dtype=object) for name, text in labels.items()}}


def tier_of_counter(name, times, steps, interval_us, firsts, lasts):
    values = (1 << 40) + numpy.cumsum(steps)
    rates = steps / (numpy.diff(times, prepend=times[0] - interval_us) / 1e6)
    return {
        f"{name}_first": values[firsts],
        f"{name}_last": values[lasts],
        f"{name}_increase": numpy.add.reduceat(steps, firsts),
        f"{name}_min_rate": numpy.minimum.reduceat(rates, firsts),
        f"{name}_max_rate": numpy.maximum.reduceat(rates, firsts),
    }


def tier_of_gauge(name, values, firsts, lasts):
    return {
        f"{name}_min": numpy.minimum.reduceat(values, firsts),
        f"{name}_max": numpy.maximum.reduceat(values, firsts),
        f"{name}_sum": numpy.add.reduceat(values, firsts),
        f"{name}_count": lasts - firsts + 1,
        f"{name}_first": values[firsts],
        f"{name}_last": values[lasts],
    }


def reduced(times, interval_us, width_us, counters, gauges):
    """The tier of one series' rows, as the recorder makes it."""
    of = times // width_us
    firsts = numpy.flatnonzero(numpy.diff(of, prepend=-1))
    lasts = numpy.append(firsts[1:], len(times)) - 1
    elapsed_us = numpy.diff(times[lasts], prepend=times[0] - interval_us)
    columns = {"time": of[firsts] * width_us, "ticks": lasts - firsts + 1, "elapsed_us": elapsed_us}
    for name, steps in counters.items():
        columns |= tier_of_counter(name, times, steps, interval_us, firsts, lasts)
    for name, values in gauges.items():
        columns |= tier_of_gauge(name, values, firsts, lasts)
    return columns


def expired(host, begin, end, width_us, interval_us, counters, gauges):
    """The tier of one series whose rows are gone: from functions of the time, with peaks and calms of single ticks.

    A counter is a function and how far its ticks reach above the mean; a gauge as well, a limit, and how much its means vary.
    """
    times = numpy.arange(begin // width_us * width_us, end, width_us)
    seconds, random = times / SECOND + width_us / SECOND / 2, host.random
    ticks = numpy.full(len(times), width_us // interval_us)
    columns = {"time": times, "ticks": ticks, "elapsed_us": numpy.full(len(times), width_us)}
    for name, (rate, reach) in counters.items():
        mean = rate(seconds) * random.lognormal(0, 0.05, len(times))
        increase = (mean * width_us / SECOND).astype(numpy.int64)
        last = (1 << 40) + numpy.cumsum(increase)
        peak = mean * (1 + reach * (0.3 + 0.7 * random.random(len(times)) ** 4))
        columns |= {
            f"{name}_first": last - increase,
            f"{name}_last": last,
            f"{name}_increase": increase,
            f"{name}_min_rate": mean * random.uniform(0.1, 0.6, len(times)),
            f"{name}_max_rate": peak,
        }
    for name, (value, reach, limit, varied) in gauges.items():
        mean = numpy.minimum(value(seconds) * random.lognormal(0, varied, len(times)), limit)
        top = numpy.minimum(mean * (1 + reach * (0.3 + 0.7 * random.random(len(times)) ** 4)), limit)
        low = mean * (1 - min(reach, 1) * random.uniform(0.1, 0.5, len(times)))
        columns |= {
            f"{name}_min": low,
            f"{name}_max": top,
            f"{name}_sum": mean * ticks,
            f"{name}_count": ticks,
            f"{name}_first": mean,
            f"{name}_last": mean,
        }
    return columns


def around(host, columns):
    """Rows of a tier but those of the time whose rows are all there."""
    kept = (columns["time"] < host.raw[0]) | (columns["time"] >= host.raw[1])
    return {key: values[kept] for key, values in columns.items()}


def series(writer, table, labels, rows, gone, interval_us, tiers):
    """Tiers of one series, and its rows. `rows` are times, counters' steps and gauges; `gone` gives functions of the time."""
    host = writer.host
    times, counters, gauges = rows
    found = {table: [labelled({"time": times, **{n: (1 << 40) + numpy.cumsum(s) for n, s in counters.items()}, **gauges}, **labels)]}
    for suffix, width_us, days in tiers:
        made = reduced(times, interval_us, width_us, counters, gauges)
        old = around(host, expired(host, host.end_us - days * DAY, host.end_us, width_us, interval_us, *gone))
        found[table + suffix] = [labelled(joined([old, made]), **labels)]
    return found


def ticks(host, begin, end, interval_us, is_burst=False):
    """Times of ticks, without those that were missed."""
    times = numpy.arange(begin, end, interval_us)
    if not is_burst:
        return times
    missed = numpy.zeros(len(times), bool)
    for late in host.late:
        missed |= (times >= late) & (times < late + 1000 * (1 if late == host.late[-1] else 3))
    return times[~missed]


def of_second(times):
    """How much goes on at a moment within its second: a comb every 200 ms, and something whose period is not quite a second."""
    ms = times // 1000 % 1000
    comb = numpy.where((ms - 60) % 200 < 10, 2.2, 0.0) + numpy.where((ms >= 255) & (ms < 275), 3.2, 0.0)
    walk = numpy.where((times - times[0]) % 1_013_000 < 12_000, 4.5, 0.0)
    return comb + walk


def network(writer):
    host, random = writer.host, writer.host.random
    times = ticks(host, *host.raw, 1000, is_burst=True)
    seconds, parts = times / SECOND, []
    shape = of_second(times)
    # For some seconds, something asks for much, and then waits a moment.
    asked = host.hump(seconds, (host.end_us - host.burst_us) / SECOND + 57, 1, 25, 1)
    stripes = asked * numpy.where((times - times[0]) % 2_140_000 < 1_200_000, 24.0, 4.0) * numpy.where(times // 1000 % 90 < 60, 1.0, 0.6)
    for interface in ("eth0", "eth1"):
        counters, gone = {}, {}
        for name in ("rx_bytes", "tx_bytes"):
            rate = lambda at, name=name, interface=interface: host.bytes_per_second(at, f"{interface}.{name}")  # noqa: E731
            gone[name] = (rate, 3.0)
            packets = rate(seconds) / 1000 / (1200 if interface == "eth0" else 90)
            if interface == "eth0":
                more = shape * (1.8 if name == "rx_bytes" else 0.3)
                packets = packets * 0.75 + more + (stripes if name == "rx_bytes" else 0)
            sizes = (900, 1514) if interface == "eth0" else (60, 120)
            counters[name] = random.poisson(packets) * random.integers(*sizes, len(times))
        counters["rx_packets"] = counters["rx_bytes"] // 1200
        counters["rx_dropped"] = numpy.zeros(len(times), numpy.int64)
        gone["rx_packets"] = (lambda at, interface=interface: host.bytes_per_second(at, f"{interface}.rx_bytes") / 1150, 3.0)
        gone["rx_dropped"] = (lambda at: numpy.zeros(len(at)), 0.0)
        if interface == "eth0":
            at = int(numpy.searchsorted(times, host.burst_us))
            counters["rx_bytes"] = numpy.minimum(counters["rx_bytes"], 60_000)
            counters["rx_bytes"][at], counters["rx_packets"][at], counters["rx_dropped"][at] = BURST_BYTES, BURST_PACKETS, BURST_DROPPED
        tiers = [("_1s", SECOND, DAYS_OF_SECONDS), ("_1m", MINUTE, DAYS)]
        parts.append(series(writer, "network", {"interface": interface}, (times, counters, {}), (gone, {}), 1000, tiers))
    write_all(writer, parts)


def disk(writer):
    host, random = writer.host, writer.host.random
    times = ticks(host, *host.raw, 1000, is_burst=True)
    seconds = times / SECOND
    counters, gone = {}, {}
    for name, every in (("read_bytes", 18), ("write_bytes", 16)):
        rate = lambda at, name=name: host.bytes_per_second(at, name)  # noqa: E731
        gone[name] = (rate, 2.0)
        runs = random.random(len(times) // 4 + 1).repeat(4)[: len(times)] < 1 / every * 8
        counters[name] = numpy.where(runs, rate(seconds) / 1000 * every / 8 * random.uniform(0.6, 1.4, len(times)), 0) // 4096 * 4096
        counters[name] = counters[name].astype(numpy.int64)
    flight = random.poisson(0.15 + (counters["read_bytes"] + counters["write_bytes"]) / 100_000)
    in_flight = lambda at: 0.6 + 0.5 * host.day(at) + 9 * host.stalled(at) + 2 * host.crowded(at)  # noqa: E731
    labels = {"device": "nvme0n1", "kind": "disk", "parent": ""}
    tiers = [("_1s", SECOND, DAYS_OF_SECONDS), ("_1m", MINUTE, DAYS)]
    rows = (times, counters, {"in_flight": flight})
    write_all(writer, [series(writer, "disk", labels, rows, (gone, {"in_flight": (in_flight, 4.0, 64, 0.1)}), 1000, tiers)])


def cpu(writer):
    host, random = writer.host, writer.host.random
    times = ticks(host, *host.raw, 10_000)
    seconds, parts = times / SECOND, []
    wait = lambda at: 0.16 * host.stalled(at) + 0.01 * host.day(at)  # noqa: E731
    sums = None
    for core in range(CORES):
        # The kernel counts a core's tick of 10 ms as one of these.
        busy, waiting = host.core(seconds, core), wait(seconds)
        drawn, counters, at = random.random(len(times)), {}, numpy.zeros(len(times))
        for name, share in {**{name: busy * share for name, share in MODES.items()}, "iowait_us": waiting}.items():
            counters[name] = numpy.where((drawn >= at) & (drawn < at + share), 10_000, 0)
            at = at + share
        counters["nice_us"] = numpy.zeros(len(times), numpy.int64)
        sums = counters if sums is None else {name: sums[name] + counters[name] for name in counters}
        parts.append((str(core), counters, sum(counters[name] for name in MODES) / 10_000, lambda at, core=core: host.core(at, core), 1))
    parts.insert(0, ("total", sums, sum(sums[name] for name in MODES) / 10_000 / CORES, host.busy, CORES))
    found = []
    for label, counters, utilization, busy, cores in parts:
        gone = {name: (lambda at, s=share, b=busy, n=cores: b(at) * s * n * 1e6, 1.0) for name, share in MODES.items()}
        gone |= {"iowait_us": (lambda at, n=cores: wait(at) * n * 1e6, 1.0), "nice_us": (lambda at: numpy.zeros(len(at)), 0.0)}
        gauges = {"utilization": (busy, 1.9, 1.0, 0.04 if cores > 1 else 0.3)}
        tiers = [("_1s", SECOND, DAYS_OF_SECONDS_OF_CORES if cores == 1 else DAYS_OF_SECONDS), ("_1m", MINUTE, DAYS)]
        found.append(
            series(writer, "cpu", {"cpu": label}, (times, counters, {"utilization": utilization}), (gone, gauges), 10_000, tiers)
        )
    write_all(writer, found)


def kernel(writer, table, labels, counters, gauges):
    """Series of ten rows a second: rows of the last hours, and minutes of 30 days. Functions of the time give rates and values."""
    host, random = writer.host, writer.host.random
    times = numpy.arange((host.end_us - KERNEL_RAW_US) // MINUTE * MINUTE, host.end_us, 100_000)
    seconds = times / SECOND
    steps = {name: random.poisson(numpy.maximum(rate(seconds), 0) / 10 / size) * size for name, (rate, size) in counters.items()}
    values = {name: value(seconds) for name, value in gauges.items()}
    gone = {name: (rate, 1.5) for name, (rate, _) in counters.items()}
    return series(
        writer,
        table,
        labels,
        (times, steps, values),
        (gone, {name: (value, 0.02, numpy.inf, 0) for name, value in gauges.items()}),
        100_000,
        [("_1m", MINUTE, DAYS)],
    )


def write_all(writer, parts):
    """Series of one table together, as its files have them. The tier of ten minutes' rows is where its own rows are."""
    for name in parts[0]:
        width_us = DAY if name.endswith(("_1s", "_1m")) else HOUR
        writer.write(name, joined([one for part in parts for one in part[name]]), width_us)


def of_kernel(writer):
    host = writer.host
    crowded, stalled, day = host.crowded, host.stalled, host.day
    grown = lambda at: host.hump(at, 900, 220, 20, 60)  # noqa: E731
    used = lambda at: (19.4 + 0.5 * day(at) + 7 * grown(at)) * 2**30  # noqa: E731
    cached = lambda at: (33.2 + 1.5 * numpy.clip(host.hump(at, 2850, 100, 1e5, 1), 0, 1) - 3 * grown(at)) * 2**30  # noqa: E731
    buffers = lambda at: numpy.full(len(at), 1.31 * 2**30)  # noqa: E731
    gauges = {
        "used_bytes": used,
        "cached_bytes": cached,
        "buffers_bytes": buffers,
        "free_bytes": lambda at: TOTAL_BYTES - used(at) - cached(at) - buffers(at),
        "total_bytes": lambda at: numpy.full(len(at), TOTAL_BYTES),
    }
    write_all(writer, [kernel(writer, "memory", {}, {}, gauges)])
    stalls = {
        ("cpu", "some"): lambda at: 0.018 + 0.36 * crowded(at) + 0.008 * host.drift(at, 3),
        ("memory", "some"): lambda at: 0.0004 + 0.05 * grown(at),
        ("memory", "full"): lambda at: 0.0001 + 0.01 * grown(at),
        ("io", "some"): lambda at: 0.016 + 0.45 * stalled(at) * (1 + 0.16 * host.drift(at, 5)),
        ("io", "full"): lambda at: 0.008 + 0.21 * stalled(at) * (1 + 0.1 * host.drift(at, 6)),
    }
    write_all(
        writer,
        [
            kernel(writer, "pressure", {"resource": resource, "kind": kind}, {"total_us": (lambda at, s=share: s(at) * 1e6, 500)}, {})
            for (resource, kind), share in stalls.items()
        ],
    )
    burst = host.burst_us / SECOND
    counters = {
        "retransmitted_segments": (lambda at: 0.4 * day(at) + 12 * crowded(at) + 40 * (abs(at - burst) < 0.6), 1),
        "listen_drops": (lambda at: numpy.zeros(len(at)), 1),
        "rx_segments": (lambda at: host.bytes_per_second(at, "eth0.rx_bytes") / 1150, 1),
        "tx_segments": (lambda at: host.bytes_per_second(at, "eth0.tx_bytes") / 1150, 1),
    }
    write_all(writer, [kernel(writer, "tcp", {}, counters, {"established": lambda at: numpy.round(390 + 60 * day(at))})])


# command, id, group, share of a core, memory in MiB, MB/s written
PROCESSES = [
    ("postgres", 4711, "/system.slice/postgresql.service", 0.62, 1987, 9.0),
    ("ksoftirqd/3", 33, "/", 0.05, 0, 0),
    ("node", 20984, "/machine.slice/ci-runner.scope", 0.41, 612, 0.4),
    ("nginx", 1288, "/system.slice/nginx.service", 0.24, 88, 2.1),
    ("postgres", 4718, "/system.slice/postgresql.service", 0.19, 1956, 18),
    ("python3", 31207, "/user.slice", 0.11, 340, 0),
    ("containerd", 902, "/system.slice/containerd.service", 0.04, 71, 0),
    ("kymo", 760, "/system.slice/kymo.service", 0.023, 58, 0.9),
    ("sshd", 812, "/system.slice/ssh.service", 0.002, 9, 0),
]
# path, cores, memory in GiB, share of time in which its I/O was stalled
GROUPS = [
    ("/system.slice", 2.6, 31.2, 0.124),
    ("/system.slice/postgresql.service", 1.3, 11.9, 0.121),
    ("/system.slice/nginx.service", 0.24, 0.40, 0.002),
    ("/system.slice/kymo.service", 0.023, 0.057, 0.0),
    ("/user.slice", 0.12, 1.1, 0.004),
    ("/machine.slice", 0.44, 6.8, 0.017),
    ("/machine.slice/ci-runner.scope", 0.41, 6.2, 0.017),
]


def workloads(writer):
    host, random = writer.host, writer.host.random
    times = numpy.arange(host.raw[0], host.raw[1], SECOND)
    after = (times >= host.burst_us) & (times < host.burst_us + 2 * SECOND)
    parts = []
    for at, (command, pid, group, share, mebi, mega) in enumerate(PROCESSES):
        noise = numpy.abs(1 + 0.18 * host.drift(times / SECOND, at) + 0.06 * random.standard_normal(len(times)))
        rise = {4711: 0.56, 33: 0.91}.get(pid, 0)
        ratio = share * noise + rise * after
        columns = {
            "time": times,
            "pid": numpy.full(len(times), pid),
            "cpu_ratio": ratio,
            "cpu_user_us": numpy.cumsum(ratio * 0.8 * SECOND),
            "cpu_system_us": numpy.cumsum(ratio * 0.2 * SECOND),
            "rss_bytes": numpy.full(len(times), mebi << 20),
            "threads": numpy.full(len(times), 1 + at),
            "read_bytes": numpy.cumsum(noise * mega * 2e5),
            "write_bytes": numpy.cumsum((noise + 11 * after * (pid == 4711)) * mega * 1e6),
        }
        parts.append(labelled(columns, command=command, slot=str(at), cgroup=group))
    writer.write("process", joined(parts))
    parts = []
    for at, (path, cores, gibi, stalled) in enumerate(GROUPS):
        noise = numpy.abs(1 + 0.12 * host.drift(times / SECOND, at + 20) + 0.05 * random.standard_normal(len(times)))
        usage = cores * noise + after * (1.3 if "postgres" in path or path == "/system.slice" else 0)
        columns = {
            "time": times,
            "usage_us": numpy.cumsum(usage * SECOND),
            "memory_bytes": numpy.full(len(times), gibi * 2**30),
            "io_some_us": numpy.cumsum(stalled * noise * SECOND),
            "write_bytes": numpy.cumsum(noise * cores * 4e6),
            "read_bytes": numpy.cumsum(noise * cores * 2e6),
        }
        parts.append(labelled(columns, cgroup=path))
    writer.write("cgroup", joined(parts))


def events(writer):
    """Alerts that fired, what was missed, and what kymo and the host say of themselves."""
    host, end = writer.host, writer.host.end_us
    day = lambda days: end - int(days * DAY)  # noqa: E731
    changes = [("io-pressure", "resource=io", day(one), day(one) + 50 * MINUTE, 0.43) for one in (23.2, 17.6, 9.1, 4.3)]
    changes += [("cpu-usage", "", day(one) + 20 * MINUTE, day(one) + 120 * MINUTE, 96.1) for one in (20.9, 12.2, 2.6)]
    changes += [
        ("io-pressure", "resource=io", end - 2830 * SECOND, end - 2715 * SECOND, 0.46),
        ("rx-drops", "interface=eth0", host.burst_us, host.burst_us + 11 * SECOND, 33_000.0),
        ("cpu-usage", "", end - 720 * SECOND, end - 590 * SECOND, 97.2),
        ("disk-full", "mountpoint=/var", end - 95 * SECOND, None, 90.4),
    ]
    rows = []
    for rule, labels, begin, until, value in changes:
        rows.append((begin, rule, labels, "firing", value, value, begin))
        if until:
            rows.append((until, rule, labels, "resolved", value * 0.4, value * 1.1, begin))
    keys = ("time", "rule", "labels", "state", "value", "peak", "since_us")
    columns = {key: numpy.array([row[at] for row in rows], dtype=None if at in (0, 4, 5, 6) else object) for at, key in enumerate(keys)}
    writer.write("alert", columns, DAY)
    gaps = [("burst", "late", late, late + (1000 if late == host.late[-1] else 3_000)) for late in host.late]
    gaps += [(name, "suspended", *host.hole) for name in ("burst", "system", "kernel", "slow")]
    columns = {
        "time": numpy.array([until for *_, until in gaps]),
        "collector": numpy.array([one[0] for one in gaps], dtype=object),
        "reason": numpy.array([one[1] for one in gaps], dtype=object),
        "from_us": numpy.array([one[2] for one in gaps]),
        "to_us": numpy.array([one[3] for one in gaps]),
        "lost": numpy.array([max(1, (one[3] - one[2]) // 1000) for one in gaps]),
    }
    writer.write("gap", columns, DAY)
    times = numpy.arange(end - HOUR, end, SECOND)
    seconds, count = times / SECOND, len(times)
    load = CORES * host.busy(seconds)
    columns = {"time": times, "load1": load, "load5": load, "load15": load, "running": numpy.round(load + 1)}
    columns |= {"blocked": numpy.zeros(count), "uptime_us": 41 * DAY + times - times[0]}
    writer.write("host", columns)
    own = {"time": times, "cpu_us": numpy.cumsum(host.random.normal(23_000, 900, count)), "rss_bytes": numpy.full(count, 58 << 20)}
    writer.write("kymo", own)
    parts = []
    for name, ticks_a_second in (("burst", 1000), ("system", 100), ("kernel", 10), ("slow", 1)):
        lost = {until: max(1, (until - since) // 1000) for one, reason, since, until in gaps if (one, reason) == (name, "late")}
        missed = sum(numpy.where(times >= until, count, 0) for until, count in lost.items()) + numpy.zeros(len(times), numpy.int64)
        columns = {"time": times, "scheduled_ticks": (1 << 30) + ticks_a_second * numpy.arange(len(times)), "missed_ticks": missed}
        parts.append(labelled(columns, collector=name))
    writer.write("collector", joined(parts))


def simulate(lake, declared, end_us):
    """Writes the lake. Returns the host, which knows when the burst was."""
    writer = Writer(lake, Host(end_us), declared)
    for part in (network, disk, cpu, of_kernel, workloads, events):
        part(writer)
    return writer.host
