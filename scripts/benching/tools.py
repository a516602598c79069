"""The tools side by side: dualsync with one path and with both, its peers, and bare pipelines of stock tools."""

import json
import shutil

from benching.running import call, programs, shell, timed

# Operation, method of a tool, day of the corpus.
OPERATIONS = [
    ("first backup", "first", 0),
    ("nothing changed", "again", 0),
    ("day two", "day_two", 1),
    ("verify", "verify", 1),
    ("restore", "restore", 1),
    ("one file", "one_file", 1),
]


class Tool:
    """One way to keep the corpus. An operation that a tool does not have is a method it does not have."""

    def __init__(self, name, corpus, store, work):
        self.name, self.corpus, self.store = name, corpus, store
        self.home = work / name.replace(" ", "-").replace("|", "-")
        self.commands, self.requests, self.prefix = {}, {}, []
        self.reads = [corpus.files]

    def fresh(self):
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.store.fresh(self.home)

    def command(self, operation, command, **environment):
        """Runs and remembers the command as a person would type it, without this machine's paths."""
        line = command[-1] if command[0] == "bash" else " ".join(map(str, command))
        for path, word in [(self.home, "HOME"), (self.corpus.folder, "CORPUS"), (programs(), "BIN")]:
            line = line.replace(str(path), word)
        self.commands.setdefault(operation, line.removeprefix("set -o pipefail; "))
        return timed([str(word) for word in [*self.prefix, *command]], self.home.parent,
                     **{name: str(value) for name, value in environment.items()})

    def target(self):
        to = self.home / "restored"
        shutil.rmtree(to, ignore_errors=True)
        to.unlink(missing_ok=True)
        return to

    def done(self):
        """Nothing restored is kept: disks are finite."""
        if self.home.exists():
            self.target()


class Restic(Tool):
    """restic on `what`: corpus A, the whole tree or the image."""

    def __init__(self, what, corpus, store, work):
        super().__init__(f"restic {what}", corpus, store, work)
        self.what = {"files": corpus.files, "tree": corpus.tree, "image": corpus.image}[what]
        self.reads = [self.what]
        self.force = ["--force"] if what == "image" else []  # the image: read it, whatever the inode says
        if what != "files":
            self.one_file = None

    def restic(self, operation, *words):
        [repository], environment = self.store.restic(self.home)
        return self.command(operation, ["restic", "--quiet", "--repo", repository, *words], **environment,
                            RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=self.home / "cache")

    def fresh(self):
        super().fresh()
        self.restic("make the repository", "init")

    def first(self):
        return self.restic("first backup", "backup", *self.force, self.what)

    def again(self):
        return self.restic("nothing changed", "backup", *self.force, self.what)

    day_two = again

    def verify(self):
        return self.restic("verify", "check", "--read-data")

    def restore(self):
        return self.restic("restore", "restore", "latest", "--target", self.target())

    def one_file(self):
        return self.restic("one file", "restore", "latest", "--target", self.target(), "--include",
                           self.corpus.files / self.corpus.some_file)


class Rustic(Tool):
    """rustic on corpus A."""

    def __init__(self, corpus, store, work):
        super().__init__("rustic files", corpus, store, work)

    def rustic(self, operation, *words):
        return self.command(operation, ["rustic", "--no-progress", "--log-level", "warn", "--repository", self.home / "repository",
                                        "--password", "bench", "--cache-dir", self.home / "cache", *words])

    def fresh(self):
        super().fresh()
        self.rustic("make the repository", "init")

    def first(self):
        return self.rustic("first backup", "backup", self.corpus.files)

    def again(self):
        return self.rustic("nothing changed", "backup", self.corpus.files)

    day_two = again

    def verify(self):
        return self.rustic("verify", "check", "--read-data")

    def restore(self):
        return self.rustic("restore", "restore", "latest", self.target())


class Borg(Tool):
    """borg on corpus A, with its defaults but encrypted as the others are."""

    def __init__(self, corpus, store, work):
        super().__init__("borg files", corpus, store, work)
        self.count = 0

    def borg(self, operation, command):
        return self.command(operation, command, BORG_PASSPHRASE="bench", BORG_BASE_DIR=self.home,
                            BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")

    def fresh(self):
        super().fresh()
        self.count = 0
        self.borg("make the repository", ["borg", "init", "--encryption", "repokey-blake2", self.home / "repository"])

    def create(self, operation):
        self.count += 1
        return self.borg(operation, ["borg", "create", f"{self.home}/repository::{self.count}", self.corpus.files])

    def first(self):
        return self.create("first backup")

    def again(self):
        return self.create("nothing changed")

    day_two = again

    def verify(self):
        return self.borg("verify", ["borg", "check", "--verify-data", self.home / "repository"])

    def restore(self):
        to = self.target()
        to.mkdir()
        return self.borg("restore", shell(f"cd {to} && borg extract {self.home}/repository::{self.count}"))


class Kopia(Tool):
    """kopia on corpus A, with its defaults, which compress nothing.

    Written from its reference and not run yet: no package registry has it.
    """

    def __init__(self, corpus, store, work):
        super().__init__("kopia files", corpus, store, work)

    def kopia(self, operation, *words):
        return self.command(operation, ["kopia", *words], KOPIA_PASSWORD="bench", KOPIA_CHECK_FOR_UPDATES="false",
                            KOPIA_CONFIG_PATH=self.home / "kopia.config", KOPIA_CACHE_DIRECTORY=self.home / "cache",
                            KOPIA_LOG_DIR=self.home / "logs")

    def fresh(self):
        super().fresh()
        self.kopia("make the repository", "repository", "create", "filesystem", "--path", self.home / "repository")

    def first(self):
        return self.kopia("first backup", "snapshot", "create", self.corpus.files)

    def again(self):
        return self.kopia("nothing changed", "snapshot", "create", self.corpus.files)

    day_two = again

    def verify(self):
        return self.kopia("verify", "snapshot", "verify", "--verify-files-percent=100")

    def restore(self):
        return self.kopia("restore", "snapshot", "restore", self.corpus.files, self.target())


class Pipeline(Tool):
    """The stock tools and nothing else: no index, no second night, the floor of what a backup costs at this level of zstd."""

    def __init__(self, name, command, reads, corpus, store, work, level=1):
        super().__init__(name, corpus, store, work)
        self.source, self.reads, self.level = command.replace("READS", str(reads)), [reads], level

    def fresh(self):
        super().fresh()
        call("age-keygen", "-o", self.home / "key")
        (self.home / "recipient").write_text(call("age-keygen", "-y", self.home / "key"))

    def first(self):
        return self.command("first backup", shell(
            f"{self.source} | zstd -{self.level} -T2 -q | age -R {self.home}/recipient > {self.home}/repository/all.zst.age"))


class QemuImg(Tool):
    """A compressed copy of the image, not encrypted."""

    def __init__(self, corpus, store, work):
        super().__init__("qemu-img", corpus, store, work)
        self.reads = [corpus.image]

    def first(self):
        return self.command("first backup", ["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd",
                                             "-f", "raw", self.corpus.image, self.home / "repository/image.qcow2"])


class Dualsync(Tool):
    """dualsync; `tree` is what its archive path reads."""

    def __init__(self, name, tree, corpus, store, work):
        super().__init__(f"dualsync {name}", corpus, store, work)
        self.tree = tree

    def dualsync(self, operation, *words):
        run = self.command(operation, [programs() / "dualsync", *words, "--json"],
                           DUALSYNC_CONFIG=self.home / "dualsync.toml")
        self.note(operation, json.loads(run.output.splitlines()[-1]))
        return run

    def note(self, operation, summary):
        copies = summary.get("copies") or {getattr(self, "only", "both"): summary}
        if isinstance(copies, dict):
            requests = {name: copy["requests"] for name, copy in copies.items() if copy and copy.get("requests")}
            self.requests.setdefault(operation, requests)
            if "fetched_bytes" in summary:
                self.requests[operation]["fetched_bytes"] = summary["fetched_bytes"]

    def configure(self, more=""):
        (self.home / "dualsync.toml").write_text(DUALSYNC.format(
            home=self.home, image=self.corpus.image, tree=self.tree, more=more,
            block=self.store.dualsync(self.home, "block"), archive=self.store.dualsync(self.home, "archive")))

    def fresh(self):
        super().fresh()
        self.configure()
        self.command("make the repository", [programs() / "dualsync", "init", "--sheet", self.home / "sheet"],
                     DUALSYNC_CONFIG=self.home / "dualsync.toml")

    def first(self):
        return self.run("first backup")

    def again(self):
        return self.run("nothing changed")

    def day_two(self):
        return self.run("day two")


class DualsyncAlone(Dualsync):
    """One path: what is restored comes from it."""

    def __init__(self, only, corpus, store, work):
        super().__init__(only, corpus.files if only == "archive" else corpus.tree, corpus, store, work)
        self.only, self.reads = only, [corpus.files if only == "archive" else corpus.image]
        self.some_file = corpus.some_file if only == "archive" else f"files/{corpus.some_file}"

    def run(self, operation):
        return self.dualsync(operation, "run", "--only", self.only)

    def restored(self, operation, *words):
        return self.dualsync(operation, "restore", "bench@latest", "--from", self.only, "--to", self.target(), *words, "--yes")

    def restore(self):
        return self.restored("restore")

    def one_file(self):
        """On a machine that kept nothing but the configuration and the keys."""
        shutil.rmtree(self.home / "state", ignore_errors=True)
        return self.restored("one file", "--path", self.some_file)


class DualsyncBoth(Dualsync):
    """Both: what is verified is compared, entry by entry."""

    def __init__(self, corpus, store, work):
        super().__init__("both", corpus.tree, corpus, store, work)
        self.reads = [corpus.tree, corpus.image]

    def run(self, operation):
        return self.dualsync(operation, "run")

    def verify(self):
        return self.dualsync("verify", "verify", "--latest", "--full")


DUALSYNC = """host = "bench"
state = "{home}/state"

[targets.germany]
mechanism = "block"
{block}
country = "DE"
provider = "one disk"
key = "file:{home}/block.key"
{more}
[targets.france]
mechanism = "archive"
{archive}
country = "FR"
provider = "another disk"
identity = "file:{home}/archive.agekey"
signing_key = "file:{home}/archive.signing"
{more}
[[source]]
name = "bench"
device = "{image}"
tree = "{tree}"
block = "germany"
archive = "france"
schedule = "0 3 * * *"
snapshot = "none"
idle = true
"""


def dualsyncs(corpus, store, work):
    return [DualsyncAlone("archive", corpus, store, work), DualsyncAlone("block", corpus, store, work),
            DualsyncBoth(corpus, store, work)]


def groups(corpus, store, work):
    """dualsync and the peers that are on this machine: those that read corpus A, and those that read the image or all of it.

    Two groups, so that the repositories of one and what it restores lie in memory at the same time.
    """
    archive, block, both = dualsyncs(corpus, store, work)
    files, image = [archive], [block, both]
    if shutil.which("restic"):
        files.append(Restic("files", corpus, store, work))
        image += [Restic("image", corpus, store, work), Restic("tree", corpus, store, work)]
    if store.name == "garage":
        return [files, image]
    if shutil.which("rustic"):
        files.append(Rustic(corpus, store, work))
    if shutil.which("borg"):
        files.append(Borg(corpus, store, work))
    if shutil.which("kopia"):
        files.append(Kopia(corpus, store, work))
    if shutil.which("age") and shutil.which("zstd"):
        files.append(Pipeline("tar|zstd|age", "tar -C READS -c .", corpus.files, corpus, store, work))
        files.append(Pipeline("tar|zstd -3|age", "tar -C READS -c .", corpus.files, corpus, store, work, level=3))
        image.append(Pipeline("cat|zstd|age", "cat READS", corpus.image, corpus, store, work))
    if shutil.which("qemu-img"):
        image.append(QemuImg(corpus, store, work))
    return [files, image]
