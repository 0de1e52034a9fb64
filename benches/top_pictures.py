"""Draws screens of `kymo top` as SVG, which README and docs show: of the simulated host, with the keys that found its burst.

    python3 benches/top_pictures.py [FOLDER]    uses target/release/kymo, or KYMO_BIN; needs numpy and pyarrow

They go to docs/src/pictures, or to FOLDER. Signs of charts and frames are drawn as shapes, because fonts differ in their widths.
"""

import fcntl
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from xml.sax.saxutils import escape

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import KYMO, ROOT, folder  # noqa: E402

WIDTH, HEIGHT = 8, 17
PLAIN, BACKGROUND = "#d4d4d4", "#16181d"
COLOURS = {31: "#e5534b", 34: "#4f8ff7", 35: "#c678dd", 36: "#39b5c4", 37: "#9da5b4", 93: "#f0d060"}
SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07")
BARS, SHADES = "▁▂▃▄▅▆▇█", "░▒▓"
LINES = {"─": "M0 .5h1", "│": "M.5 0v1", "├": "M.5 0v1M.5 .5h.5", "└": "M.5 0v.5h.5"}
# How long a screen must stay as it is (the clock moves once a second), and when it is waited for no longer.
QUIET_S, PATIENCE_S = 0.7, 60


class Screen:
    """A terminal, as far as `kymo top` uses one."""

    def __init__(self, columns, rows):
        self.cells = [[(" ", PLAIN, False, False)] * columns for _ in range(rows)]
        self.x = self.y = 0
        self.style = (PLAIN, False, False)

    def text(self):
        return "\n".join("".join(cell[0] for cell in row) for row in self.cells)

    def take(self, text):
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                self.control(found.group(1) or "", found.group(2))
                at = found.end()
                continue
            if text[at] >= " " and self.x < len(self.cells[0]):
                self.cells[self.y][self.x] = (text[at], *self.style)
                self.x += 1
            at += 1

    def control(self, numbers, letter):
        if letter == "H":
            self.y, self.x = (int(number) - 1 for number in numbers.split(";"))
        elif letter == "J":
            self.cells = [[(" ", PLAIN, False, False)] * len(row) for row in self.cells]
        elif letter == "m":
            colour, bold, is_reversed = self.style
            for number in map(int, numbers.split(";")):
                if number == 0:
                    colour, bold, is_reversed = PLAIN, False, False
                bold, is_reversed = bold or number == 1, is_reversed or number == 7
                colour = COLOURS.get(number, colour)
            self.style = (colour, bold, is_reversed)


def look(arguments, presses, columns=120, rows=40):
    """The screen of `kymo top` after keys were pressed, each after the one before had shown what belongs to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TZ": "UTC"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen(
        [KYMO, "top", "--theme", "dark", *arguments], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    screen = Screen(columns, rows)
    for keys, shown in presses:
        os.write(ours, keys.encode())
        wait_for(ours, screen, shown)
    os.write(ours, b"q")
    child.wait(PATIENCE_S)
    os.close(ours)
    return screen


def wait_for(ours, screen, shown):
    """Reads until a text is shown and nothing more is written."""
    begun, pending = time.monotonic(), b""
    while select.select([ours], [], [], QUIET_S)[0] or shown not in screen.text():
        if time.monotonic() - begun > PATIENCE_S:
            sys.exit(f"{shown!r} is not shown, but\n{screen.text()}")
        if not select.select([ours], [], [], QUIET_S)[0]:
            continue
        pending += os.read(ours, 1 << 16)
        # Signs and sequences may be cut: frames end with one of the latter.
        end = pending.rfind(b"\x1b[?2026l")
        if end >= 0:
            screen.take(pending[:end].decode())
            pending = pending[end:]


def shape(sign):
    """A sign of a chart or a frame as a path in a unit square and its opacity, or nothing for text."""
    if "\u2800" <= sign <= "\u28ff":
        places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
        lit = [place for bit, place in enumerate(places) if (ord(sign) - 0x2800) >> bit & 1]
        return "".join(f"M{0.14 + 0.5 * x:g} {0.05 + 0.25 * y:g}h.25v.14h-.25z" for x, y in lit), 1, False
    if sign in BARS:
        height = (BARS.index(sign) + 1) / 8
        return f"M0 1v-{height:g}h1v{height:g}z", 1, False
    if sign in SHADES:
        return "M0 0h1v1h-1z", (SHADES.index(sign) + 1) / 4, False
    return (LINES[sign], 1, True) if sign in LINES else None


def scaled(path, column, row):
    """A path of a unit square in the cell of a column and a row."""

    def number(text, size):
        return f"{float(text) * size:g}"

    parts = []
    for command, numbers in re.findall(r"([MhvVz])([^MhvVz]*)", path):
        values = re.findall(r"-?\d*\.?\d+", numbers)
        if command == "M":
            parts.append(f"M{(column + float(values[0])) * WIDTH:g} {(row + float(values[1])) * HEIGHT:g}")
        elif command == "h":
            parts.append("h" + number(values[0], WIDTH))
        elif command == "v":
            parts.append("v" + number(values[0], HEIGHT))
        else:
            parts.append("z")
    return "".join(parts)


def svg(screen, title):
    columns, rows = len(screen.cells[0]), len(screen.cells)
    paths, texts, grounds = {}, [], []
    for row, cells in enumerate(screen.cells):
        run = None
        for column, (sign, colour, bold, is_reversed) in enumerate([*cells, (" ", None, False, False)]):
            if is_reversed:
                x, y = column * WIDTH, row * HEIGHT
                grounds.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="{colour}"/>')
                colour = BACKGROUND
            drawn = shape(sign)
            style = (colour, bold)
            if drawn and colour:
                path, opacity, is_line = drawn
                paths.setdefault((colour, opacity, is_line), []).append(scaled(path, column, row))
            # Each word has a place of its own, so columns stand also where a font is of another width.
            if run and (drawn or sign == " " or run[0] != style):
                texts.append(run_of(run, row))
                run = None
            if not drawn and sign != " ":
                run = run or (style, column, [])
                run[2].append(sign)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {columns * WIDTH + 16} {rows * HEIGHT + 16}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect x="-8" y="-8" width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>',
        *grounds,
    ]
    for (colour, opacity, is_line), parts in paths.items():
        look = f'fill="none" stroke="{colour}"' if is_line else f'fill="{colour}" fill-opacity="{opacity:g}"'
        lines.append(f'<path {look} d="{"".join(parts)}"/>')
    lines.append(f'<g font-family="ui-monospace,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="{HEIGHT * 0.76:g}">')
    return "\n".join([*lines, *texts, "</g>", "</svg>", ""])


def run_of(run, row):
    """Text of one style, as wide as its cells whatever the font is."""
    (colour, bold), column, signs = run
    text = "".join(signs)
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{column * WIDTH}" y="{row * HEIGHT + HEIGHT * 0.76:g}" textLength="{len(text) * WIDTH}"'
    return f'<text {place} lengthAdjust="spacingAndGlyphs" fill="{colour}"{weight}>{escape(text)}</text>'


def draw(data, burst_us, into):
    """The pictures of a simulated host: the moment of its burst, and its network."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(burst_us / 1e6))
    source = ["--data", str(data), "--at", stamp, "--window", "10s"]
    moment = f"PAUSED {time.strftime('%a %d %b %Y %H:%M:%S', time.gmtime(burst_us / 1e6))}.{burst_us // 100_000 % 10}"
    for name, title, presses in [
        ("top-moment", "kymo top at the moment of a burst", [("", "COMMAND"), ("jjj]", moment)]),
        ("top-network", "every column of the network", [("", "COMMAND"), ("6", "150 MB/s"), ("]", moment)]),
    ]:
        path = into / f"{name}.svg"
        path.write_text(svg(look(source, presses), title))
        print(f"{os.path.relpath(path)}: {path.stat().st_size / 1000:.0f} kB")


def main():
    import pictures

    into = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/src/pictures"
    into.mkdir(parents=True, exist_ok=True)
    with folder() as place:
        _, burst_us, daemon = pictures.start(place)
        with daemon:
            time.sleep(2)
        draw(place / "data", burst_us, into)


if __name__ == "__main__":
    main()
