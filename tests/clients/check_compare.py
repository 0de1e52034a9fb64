"""`kymo compare` names what was planted between two recordings of one load, and nothing between two equal ones.

    python3 check_compare.py [seconds]     how long each recording is (default 10)

What the machine does meanwhile is a difference, too, such as processes of an earlier check that are gone. So where equal loads
differ, they are recorded once more, and what differs again has failed.
"""

import pathlib
import sys

from harness import Checks, command, folder, rows, run_kymo

# Sends so many bytes over loopback about every 10 ms, and works a little. The kernel looks at who has a CPU at its ticks, so a load in
# step with these would seem to take none, or much.
LOAD = """
import random, socket, sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
receiver.settimeout(1)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(receiver.getsockname())
due = time.monotonic()
end = due + seconds
while due < end:
    for _ in range(0, size, 8000):
        sender.send(bytes(8000))
        receiver.recv(8000)
    due += random.uniform(0.008, 0.012)
    time.sleep(max(0, due - time.monotonic()))
"""
USUAL, MORE = 80_000, 120_000


def record(data, size, seconds):
    command("record", "-q", "-o", str(data), "--", sys.executable, "-c", LOAD, str(size), str(seconds), timeout=seconds + 60)


def compare(one, other):
    """The exit code, and all that is named."""
    done = run_kymo("compare", str(one), str(other), "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, rows(done.stdout)


def named(one, other):
    """What of equal loads differs, but for what did so from the start on."""
    code, found = compare(one, other)
    differs = {(row["table"], row["series"], row["column"]) for row in found if row["what"] != "before"}
    assert code == bool(differs), (code, found)
    return differs


def nothing_differs_between_equal_loads(data, seconds):
    differs = named(data / "one", data / "two")
    if not differs:
        return run_kymo("compare", str(data / "one"), str(data / "two")).stdout.splitlines()[-1]
    for name in ("three", "four"):
        record(data / name, USUAL, seconds)
    again = named(data / "three", data / "four")
    assert not differs & again, (differs, again)
    return f"{len(differs)} of the host's own, not twice: {sorted(differs)[:3]}"


def a_planted_change_is_named_first(data):
    code, found = compare(data / "one", data / "more")
    assert code == 1
    first = found[0]
    assert (first["what"], first["rank"], first["table"], first["series"]) == ("changed", 1, "network", "lo"), found
    columns = {row["column"]: row for row in found if row["rank"] == 1}
    for column in ("rx_bytes", "tx_bytes"):
        row = columns[column]
        # Each datagram has 28 bytes of headers.
        planted = 100 * (MORE - USUAL) * 8028 / 8000
        assert abs(row["change"] - planted) <= max(row["noise"], 0.05 * planted), row
        assert row["noise"] < 0.2 * row["change"] and row["unit"] == "bytes/s", row
    assert row["surprise"] > 5, row
    text = run_kymo("compare", str(data / "one"), str(data / "more")).stdout
    assert text.splitlines()[2].startswith("network lo "), text
    return text.splitlines()[2]


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    checks = Checks()
    with folder() as temporary:
        data = pathlib.Path(temporary)
        for name, size in {"one": USUAL, "two": USUAL, "more": MORE}.items():
            record(data / name, size, seconds)
        checks.run(nothing_differs_between_equal_loads, data, seconds)
        checks.run(a_planted_change_is_named_first, data)
    checks.finish()
