"""Programs from Debian's archive, unpacked into a folder of ours: nothing is installed, and no root is needed."""

import os
import pathlib
import shutil
import subprocess


class Unavailable(Exception):
    """A package that could not be had, and why."""


class Package:
    """A package and what it needs that this host lacks, unpacked below `root`."""

    def __init__(self, name: str, root: pathlib.Path):
        self.name = name
        self.root = root

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        for place in ("usr/bin", "usr/sbin", "bin", "sbin"):
            if (path := self.root / place / name).exists():
                return str(path)
        raise Unavailable(f"the package {self.name} has no program {name}")

    @property
    def environment(self) -> dict[str, str]:
        """The variables its programs need to find the libraries that came with it."""
        folders = {str(path.parent) for path in self.root.rglob("*.so*")}
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(folders))}


def fetch(name: str, into: pathlib.Path) -> Package:
    """Downloads and unpacks a package, with those libraries it depends on that are not installed."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{name} comes from Debian's archive, and this host has no {tool} to fetch it with")
    archives, root = into / f"{name}-archives", into / name
    archives.mkdir(parents=True)
    download([name, *missing_libraries(name)], archives)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", str(archive), str(root)], f"unpack {archive.name}")
    return Package(name, root)


def missing_libraries(name: str) -> list[str]:
    """What installing the package would bring along, as far as it is libraries; needs no root, as it only simulates."""
    simulated = attempt(["apt-get", "--simulate", "--no-install-recommends", "install", name])
    lines = [line.split() for line in simulated.stdout.splitlines() if line.startswith("Inst ")]
    return [words[1] for words in lines if words[1].startswith("lib")]


def download(names: list[str], into: pathlib.Path) -> None:
    done = attempt(["apt-get", "--quiet", "download", *names], into)
    if done.returncode != 0 and os.geteuid() == 0:
        # Fresh images come without lists of packages, and stale lists name files that are gone. Only root may renew.
        attempt(["apt-get", "--quiet", "update"])
        if len(names) == 1:
            names += missing_libraries(names[0])
        done = attempt(["apt-get", "--quiet", "download", *names], into)
    if done.returncode != 0:
        hint = "" if os.geteuid() == 0 else " (perhaps `apt-get update` is needed, which takes root)"
        raise Unavailable(f"apt-get download {' '.join(names)}: {last_line(done)}{hint}")


def run(arguments: list[str], what: str) -> None:
    done = attempt(arguments)
    if done.returncode != 0:
        raise Unavailable(f"{what}: {last_line(done)}")


def attempt(arguments: list[str], folder: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
