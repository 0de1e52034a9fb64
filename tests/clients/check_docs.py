"""The documents hold: every snippet of README and docs/ runs as it stands there, answers have the columns that are shown, and links lead
somewhere. Snippets of data/README.md are run by check_lake.py.

A fence names a language and, after a comma, what is special: `no-run` (it installs, or needs systemd), `stays` (it runs until it is
interrupted), `exact` (tests/it/recipes.rs tests it with planted rows). A text fence right behind sql is its answer.
"""

import collections
import csv
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from harness import KYMO, ROOT, Checks, Daemon, burning, clean_environment, command, folder, run_kymo, wait_for

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs/src").glob("*.md"))
FENCE = re.compile(r"^```(\w+)(?:,([\w-]+))?\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A snippet has ended by then. One that stays has said something, and ends as soon after it was interrupted.
PATIENCE = 30
# Data of all tables soon, in files too. Files stay as they are while a snippet reads them.
CONFIG = """
[storage]
flush_interval = "1s"
compaction_interval = "0s"

[[alert]]
name = "first"
condition = "memory_usage_above"
threshold = 0.0
"""


class Snippet:
    def __init__(self, page, match):
        self.language, self.special, self.code, self.answer = match.groups()
        line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
        self.place = f"{page.relative_to(ROOT)}:{line}"


def snippets():
    return [Snippet(page, match) for page in PAGES for match in FENCE.finditer(page.read_text(encoding="utf-8"))]


def http_of(daemon):
    status = json.loads(command("status", "--format", "json", "--address", daemon.url))
    (address,) = [one["address"] for one in status["listeners"] if one["name"] == "HTTP"]
    return address


class Runner:
    """Runs snippets in a folder that has the daemon's `data`, with `kymo` on the path and the daemon in the place of the default ports."""

    def __init__(self, daemon, place):
        self.daemon, self.place = daemon, place
        self.ports = {"127.0.0.1:50051": daemon.address, "127.0.0.1:9464": http_of(daemon)}
        (place / "bin").mkdir()
        (place / "bin/kymo").symlink_to(KYMO)
        self.environment = clean_environment({
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "KYMO_ADDRESS": daemon.address, "KYMO_SERVER__ADDRESS": "127.0.0.1:0"})

    def run(self, snippet):
        getattr(self, f"run_{snippet.language}")(snippet)

    def run_sql(self, snippet):
        text = command("query", snippet.code, "--address", self.daemon.url, "--format", "csv")
        columns, *found = csv.reader(io.StringIO(text))
        assert found, "no rows"
        assert all(len(row) == len(columns) for row in found), found
        if snippet.answer:
            shown = re.split(r" {2,}", snippet.answer.splitlines()[0].strip())
            assert shown == columns, f"the answer shown has the columns {shown}, and the statement gives {columns}"

    def run_sh(self, snippet):
        self.execute(snippet, ["bash", "-euo", "pipefail", "-c", self.here(snippet.code)])

    def run_console(self, snippet):
        # A command's lines follow a dollar sign; those that are quoted go on.
        commands = re.findall(r"^\$ (.*\n(?:[^$\n].*\n)*)", snippet.code, re.MULTILINE)
        assert commands, "no line begins with a dollar sign"
        for one in commands:
            self.execute(snippet, ["bash", "-euo", "pipefail", "-c", self.here(one)])

    def run_python(self, snippet):
        assert self.execute(snippet, [sys.executable, "-c", self.here(snippet.code)]), "it prints nothing"

    def run_toml(self, snippet):
        file = self.place / "snippet.toml"
        file.write_text(snippet.code, encoding="utf-8")
        done = run_kymo("check", "-c", str(file))
        assert done.returncode == 0 and done.stdout.startswith("ok"), done.stdout + done.stderr

    def here(self, code):
        for default, real in self.ports.items():
            code = code.replace(default, real)
        return code

    def execute(self, snippet, arguments):
        if snippet.special == "stays":
            return self.interrupt(arguments)
        process = subprocess.Popen(
            arguments, cwd=self.place, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True)
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            # With all that it started.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        assert process.returncode == 0, f"exit code {process.returncode}: {output[-1000:]}{errors[-1000:]}"
        return output

    def interrupt(self, arguments):
        """Runs it in a folder of its own until it has said something, and has Ctrl-C end it."""
        alone = self.place / "alone"
        alone.mkdir(exist_ok=True)
        with open(self.place / "output", "w+", encoding="utf-8") as output:
            # A shell has what it starts in the background ignore Ctrl-C.
            process = subprocess.Popen(
                ["env", "--default-signal=INT", *arguments], cwd=alone, env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
            said = lambda: (self.place / "output").read_text(encoding="utf-8")  # noqa: E731
            try:
                wait_for(lambda: said() or process.poll() is not None, PATIENCE, "it says something")
                time.sleep(0.5)
                assert process.poll() is None, f"it ended with {process.returncode}: {said()[-1000:]}"
                os.killpg(process.pid, signal.SIGINT)
                process.wait(PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            assert process.returncode in (0, 130, -signal.SIGINT), f"it ended with {process.returncode}: {said()[-1000:]}"
            return said()


def has_rows(daemon):
    """Whether each table that statements ask for has had time for some rows."""
    return daemon.value(
        "SELECT (SELECT count(*) FROM host) > 3 AND (SELECT count(*) FROM process) > 3 AND (SELECT count(*) FROM alert) > 0"
        " AND (SELECT count(*) FROM statement) > 0 AND (SELECT count(*) FROM collector) > 3")


def snippets_run(daemon, place):
    runner, ran, skipped, failed = Runner(daemon, place), collections.Counter(), [], []
    for snippet in snippets():
        if snippet.special in ("no-run", "exact") or snippet.language in ("yaml", "text"):
            skipped.append(f"{snippet.place} {snippet.language} {snippet.special or ''}")
            continue
        try:
            runner.run(snippet)
            ran[snippet.language] += 1
        except Exception as error:  # The others still run.
            failed.append(snippet.place)
            print(f"{snippet.place}: {snippet.code}{error}", file=sys.stderr, flush=True)
    print("not run:", *skipped, sep="\n    ")
    assert not failed, failed
    assert all(ran[language] > 2 for language in ("sql", "sh", "python", "toml")), ran
    return f"{dict(ran)}, not run: {len(skipped)}"


def questions_have_answers():
    cookbook = (ROOT / "docs/src/cookbook.md").read_text(encoding="utf-8")
    questions = re.findall(r"^### (\d+)\. ", cookbook, re.MULTILINE)
    answered = [match for match in FENCE.finditer(cookbook) if match[1] == "sql" and match[4]]
    assert questions == [str(number) for number in range(1, 21)] and len(answered) == 20, (questions, len(answered))


def links_lead_somewhere():
    count = 0
    for page in PAGES:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"
            count += 1
    listed = set(LINK.findall((ROOT / "docs/src/SUMMARY.md").read_text(encoding="utf-8"))) | {"SUMMARY.md"}
    assert listed == {page.name for page in (ROOT / "docs/src").glob("*.md")}, listed
    return f"{count} links"


def anchors(page):
    """As mdBook and code forges make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}


def main():
    checks = Checks()
    checks.run(questions_have_answers)
    checks.run(links_lead_somewhere)
    with folder() as place, Daemon(place / "data", CONFIG) as daemon:
        with burning(4, 1):
            wait_for(lambda: has_rows(daemon), 30, "rows of all tables")
        checks.run(snippets_run, daemon, place)
    checks.finish()


if __name__ == "__main__":
    main()
