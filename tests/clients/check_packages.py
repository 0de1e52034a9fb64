"""The Debian package of the program: what is in it, what lintian and systemd say, and its life: install, run, upgrade, remove, purge.

It lives in this host's own root below an overlay in memory, in a mount namespace of its own: nothing of the host changes, and nothing
but lintian is downloaded. So it needs root, and no systemd runs there. `packaging/release` builds the package from KYMO_BIN.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import debian
from harness import KYMO, ROOT, Checks, Daemon, clean_environment, folder

# As little as `systemd-analyze security` may find, times ten.
EXPOSURE_MAX = 25
FILES = [
    "usr/bin/kymo", "usr/lib/systemd/system/kymo.service", "etc/kymo/config.toml", "usr/share/doc/kymo/copyright",
    "usr/share/doc/kymo/changelog.Debian.gz", "usr/share/man/man1/kymo.1.gz", "usr/share/man/man1/kymo-query.1.gz",
    "usr/share/bash-completion/completions/kymo", "usr/share/zsh/vendor-completions/_kymo",
    "usr/share/fish/vendor_completions.d/kymo.fish",
]
CONFIG = "etc/kymo/config.toml"


def run(*arguments, expect=0, environment=None):
    done = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**clean_environment(environment), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})
    assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


class Root:
    """This host's root, in which changes are kept in memory."""

    def __init__(self, place):
        run("mount", "-t", "tmpfs", "tmpfs", str(place))
        self.path, upper, work = (place / name for name in ("root", "upper", "work"))
        for one in (self.path, upper, work):
            one.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(self.path))
        run("mount", "-t", "proc", "proc", str(self.path / "proc"))
        for one in ("sys", "dev"):
            run("mount", "--rbind", f"/{one}", str(self.path / one))
        self.packages = self.path / "packages"
        self.packages.mkdir()

    def run(self, *arguments, expect=0):
        return run("chroot", str(self.path), *arguments, expect=expect)

    def install(self, package):
        # The unchanged host may lack libraries that a clean one would fetch, and has no use for questions about files.
        shutil.copy(package, self.packages / "kymo.deb")
        return self.run("dpkg", "--force-confdef", "--force-confold", "-i", "/packages/kymo.deb")

    def has_user(self):
        return "\nkymo:" in (self.path / "etc/passwd").read_text(encoding="utf-8")


def built(place):
    """The package, twice: its bytes depend on the program and the commit alone."""
    found = []
    for turn in ("one", "two"):
        run("packaging/release", "--fast", "--program", KYMO, "--out", str(place / turn), "deb")
        (package,) = (place / turn).glob("*.deb")
        found.append(package)
    assert found[0].read_bytes() == found[1].read_bytes(), "two builds differ"
    return found[0]


def it_has_its_files(package):
    listed = run("dpkg-deb", "-c", str(package))
    missing = [name for name in FILES if f"./{name}\n" not in listed and f" {name}\n" not in listed]
    assert not missing, f"{missing} are not in {listed}"
    assert run("dpkg-deb", "-I", str(package), "conffiles").split() == [f"/{CONFIG}"]
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    # Debian's changelog and the manifest say the same.
    assert run("dpkg-deb", "-f", str(package), "Version").strip() == f"{version}-1"
    assert f"({version}-1)" in (ROOT / "packaging/deb/changelog").read_text(encoding="utf-8")
    return f"{package.stat().st_size} bytes"


def lintian_finds_no_error(package, tools):
    lintian = debian.fetch("lintian", tools)
    perl = [lintian.root / "usr/share/perl5", *(lintian.root / "usr/lib").glob("*/perl5/*"), *(lintian.root / "usr/lib").glob("*/perl-base")]
    environment = {**lintian.environment, "PERL5LIB": ":".join(map(str, perl)), "LINTIAN_BASE": str(lintian.root / "usr/share/lintian")}
    done = subprocess.run(
        [lintian.program("lintian"), "--allow-root", "--fail-on", "error", str(package)], capture_output=True, text=True, timeout=180,
        env={**environment, "LC_ALL": "C.UTF-8"}, check=False)
    print(done.stdout, done.stderr, flush=True)
    assert done.returncode == 0, f"lintian ended with {done.returncode}"
    # It always has something to say of a package that never was in Debian: that it looked at it at all.
    assert "W: kymo:" in done.stdout, done.stdout + done.stderr
    return f"{done.stdout.count('W: ')} warnings"


def the_unit_is_hardened(root):
    unit = "/usr/lib/systemd/system/kymo.service"
    assert not root.run("systemd-analyze", "verify", "--man=no", unit).strip()
    told = root.run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)
    return re.search(r"Overall exposure level.*?(\d+\.\d+)", told)[1]


def it_is_installed(package, root):
    root.install(package)
    assert root.has_user()
    data = (root.path / "var/lib/kymo").stat()
    owner = root.run("stat", "-c", "%U:%G %a", "/var/lib/kymo").strip()
    assert owner == "kymo:kymo 750" and data.st_uid != 0, owner
    assert "/var/lib/kymo" in root.run("kymo", "check", "-c", f"/{CONFIG}")
    # It is started with the host, if a systemd runs there.
    assert (root.path / "etc/systemd/system/multi-user.target.wants/kymo.service").is_symlink()
    root.run("bash", "-c", ". /usr/share/bash-completion/completions/kymo; complete -p kymo")


def recorded(root):
    """Runs as its user with its configuration. How many rows it has then."""
    user = ("chroot", str(root.path), "setpriv", "--reuid=kymo", "--regid=kymo", "--clear-groups")
    daemon = Daemon("/var/lib/kymo", environment={"KYMO_CONFIG": f"/{CONFIG}"}, prefix=user, program="/usr/bin/kymo")
    with daemon:
        time.sleep(1)
        count = int(daemon.value("SELECT count(*) AS n FROM network"))
        assert daemon.stop() == 0
    return count


def it_runs_as_its_user(root):
    count = recorded(root)
    owners = {path.stat().st_uid for path in (root.path / "var/lib/kymo").rglob("*")}
    assert count > 0 and len(owners) == 1 and 0 not in owners, (count, owners)
    return f"{count} rows"


def an_upgrade_keeps_data_and_configuration(package, root, place):
    config = root.path / CONFIG
    config.write_text(config.read_text(encoding="utf-8") + 'host = "changed"\n', encoding="utf-8")
    before = sorted(path.name for path in (root.path / "var/lib/kymo").rglob("*.parquet"))
    assert before
    root.install(next_version(package, place))
    assert root.run("dpkg-query", "-W", "-f", "${Version}", "kymo").strip().endswith("-2")
    assert 'host = "changed"' in config.read_text(encoding="utf-8")
    assert sorted(path.name for path in (root.path / "var/lib/kymo").rglob("*.parquet")) == before
    assert "changed" in root.run("kymo", "check", "-c", f"/{CONFIG}")
    recorded(root)
    return f"{len(before)} files stay"


def next_version(package, place):
    """The package as the next revision, whose configuration has another default, which the host's changed one outlives."""
    content, newer = place / "content", place / "newer.deb"
    run("dpkg-deb", "-R", str(package), str(content))
    control = content / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)-1$", r"\1-2", control.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    with open(content / CONFIG, "a", encoding="utf-8") as config:
        config.write("# Newer.\n")
    run("dpkg-deb", "-Znone", "-b", str(content), str(newer))
    return newer


def a_removal_keeps_them_and_a_purge_does_not(root):
    root.run("dpkg", "--remove", "kymo")
    assert not (root.path / "usr/bin/kymo").exists()
    assert (root.path / CONFIG).exists() and any((root.path / "var/lib/kymo").rglob("*.parquet"))
    root.run("dpkg", "--purge", "kymo")
    left = [name for name in ("var/lib/kymo", "etc/kymo", "usr/share/doc/kymo") if (root.path / name).exists()]
    assert not left, left
    wants = root.path / "etc/systemd/system/multi-user.target.wants/kymo.service"
    assert not wants.is_symlink(), "the unit is still wanted"


def main():
    if sys.argv[1:] != ["inside"]:
        # Its mounts end with it.
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, "inside"])
    checks = Checks()
    with folder() as place:
        mounted = place / "mounted"
        mounted.mkdir()
        try:
            package = built(place)
            root = Root(mounted)
            checks.run(it_has_its_files, package)
            checks.run(lintian_finds_no_error, package, place)
            checks.run(it_is_installed, package, root)
            checks.run(the_unit_is_hardened, root)
            checks.run(it_runs_as_its_user, root)
            checks.run(an_upgrade_keeps_data_and_configuration, package, root, place)
            checks.run(a_removal_keeps_them_and_a_purge_does_not, root)
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", str(mounted)], check=False)
    checks.finish()


if __name__ == "__main__":
    main()
