"""The peers' newest versions, kept in the benchmark's own folder; nothing is installed."""

from benching.running import call, say

BORG, RUSTIC = "1.4.5", "0.11.4"
TESTING = "forky"


def path(folder, tools):
    """For PATH: where they are, if they were fetched, and the tools that `scripts/packages` keeps."""
    return ":".join(map(str, [folder / "restic/usr/bin", folder / "borg/bin", folder / "rustic/bin", *sorted(tools.glob("*/bin"))]))


def fetch(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "restic").exists():
        say("fetching restic")
        restic(folder)
    if not (folder / "borg").exists():
        say("building borg")
        call("python3", "-m", "venv", folder / "borg")
        call(folder / "borg/bin/pip", "install", "--quiet", f"borgbackup=={BORG}")
    if not (folder / "rustic").exists():
        say("building rustic")
        call("cargo", "install", "--quiet", "--locked", "--root", folder / "rustic", f"rustic-rs@{RUSTIC}")


def restic(folder):
    """From Debian testing, by a package list of its own beside the machine's: it is one static program."""
    site = next(line for line in call("apt-get", "indextargets", "--format", "$(SITE)").splitlines() if not line.endswith("security"))
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "testing.list").write_text(
        f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {site} {TESTING} main\n")
    apart = ["-o", f"Dir::Etc::SourceList={folder}/testing.list", "-o", "Dir::Etc::SourceParts=/dev/null",
             "-o", f"Dir::State::Lists={lists}", "-o", "APT::Default-Release=", "-o", "Dir::Cache::pkgcache=",
             "-o", "Dir::Cache::srcpkgcache="]
    call("apt-get", *apart, "update", "-qq")
    call("apt-get", *apart, "download", "-qq", "restic", cwd=folder)
    [deb] = folder.glob("restic_*.deb")
    call("dpkg-deb", "--extract", deb, folder / "restic")
