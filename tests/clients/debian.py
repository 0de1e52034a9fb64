"""Unpacks programs from Debian's archive into a folder. Nothing is installed, and no root is needed.

    python3 debian.py PACKAGE...      unpacks them into the folder that KYMO_CHECK_TOOLS names, for later runs
"""

import os
import pathlib
import shutil
import subprocess
import sys


class Unavailable(Exception):
    """A package could not be fetched; says why."""


class Package:
    """A package, with those libraries that this host lacks, unpacked below `root`."""

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
        """The environment in which its programs find the libraries that came with it."""
        folders = {str(path.parent) for path in self.root.rglob("*.so*")}
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(folders))}


def fetch(name: str, into: pathlib.Path) -> Package:
    """Unpacks a package, with those libraries it depends on that are not installed.

    It is below `into`, or below the folder that KYMO_CHECK_TOOLS names; there it is kept, and downloaded only once.
    """
    into = pathlib.Path(os.environ.get("KYMO_CHECK_TOOLS", into)) / "debian"
    if (into / name).exists():
        return Package(name, into / name)
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{name} comes from Debian's archive, and this host has no {tool} to fetch it with")
    archives, root = into / f"{name}-archives", into / f"{name}-unpacked"
    for folder in (archives, root):
        shutil.rmtree(folder, ignore_errors=True)
    archives.mkdir(parents=True)
    download(name, archives)
    for archive in sorted(archives.glob("*.deb")):
        done = attempt(["dpkg", "-x", str(archive), str(root)])
        if done.returncode != 0:
            raise Unavailable(f"unpack {archive.name}: {last_line(done)}")
    # It has its name when it is complete.
    root.rename(into / name)
    return Package(name, into / name)


def missing_libraries(name: str) -> list[str]:
    """The libraries that installing the package would add. It only simulates, so it needs no root."""
    simulated = attempt(["apt-get", "--simulate", "--no-install-recommends", "install", name])
    lines = [line.split() for line in simulated.stdout.splitlines() if line.startswith("Inst ")]
    return [words[1] for words in lines if words[1].startswith("lib")]


def download(name: str, into: pathlib.Path) -> None:
    """Downloads the package and its missing libraries. Renews the lists of packages if that fails."""
    def once() -> subprocess.CompletedProcess[str]:
        return attempt(["apt-get", "--quiet", "download", name, *missing_libraries(name)], into)

    done = once()
    if done.returncode != 0 and os.geteuid() == 0:
        # Fresh images have no lists of packages, and old lists name files that are gone. Only root may renew them.
        attempt(["apt-get", "--quiet", "update"])
        done = once()
    if done.returncode != 0:
        hint = "" if os.geteuid() == 0 else " (perhaps `apt-get update` is needed, which takes root)"
        raise Unavailable(f"apt-get download {name}: {last_line(done)}{hint}")


def attempt(arguments: list[str], folder: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    # Warnings do not say why it failed.
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and not line.startswith("W: ")]
    return lines[-1] if lines else f"exit code {done.returncode}"


if __name__ == "__main__":
    for package in sys.argv[1:]:
        try:
            print(fetch(package, pathlib.Path("tools")).root)
        except Unavailable as error:
            sys.exit(f"FAILED {error}")
