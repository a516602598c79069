"""What is backed up: corpora out of Debian packages and a real PostgreSQL cluster, the same on every machine."""

import os
import pathlib
import random
import shutil
import tempfile

from benching.running import call, empty, say

PACKAGES = ["linux-source-6.1", "wordpress", "libllvm14", "libllvm15", "libicu72", "libwebkit2gtk-4.1-0", "firefox-esr"]
UPGRADED = "openjdk-17-jre-headless"
"""Debian carries two versions of it: the older is installed on day one, the newer on day two."""

FULL = {"source": ["*"], "image": "8G", "dump_mib": 500, "scale": 100, "seconds": 60}
QUICK = {"source": ["kernel", "fs", "net", "Documentation"], "image": "2G", "dump_mib": 48, "scale": 5, "seconds": 5}


class Corpus:
    """One file system on two days. In it, `files` is corpus A: what the file tools alone read."""

    def __init__(self, folder, packages, size):
        self.folder, self.packages, self.size = folder, packages, size
        self.days = [folder / "day1.img", folder / "day2.img"]
        self.image, self.tree = folder / "current.img", folder / "tree"
        self.files = self.tree / "files"
        self.some_file = "linux/lib/built.bin"

    def build(self):
        if (self.folder / "complete").exists():
            return
        say("building the corpora, once")
        empty(self.folder)
        packages, upgraded = fetch(self.packages)
        files = self.folder / "staged/files"
        files.mkdir(parents=True)
        for deb in [*packages, upgraded[0]]:
            unpack(deb, files / deb.name.partition("_")[0])
        self.unpack_source(files)
        (files / self.some_file).parent.mkdir(exist_ok=True)
        (files / self.some_file).write_bytes(next(files.rglob("libLLVM*")).read_bytes()[4 << 20:5 << 20])
        call("mke2fs", "-q", "-t", "ext4", "-d", files.parent, self.days[0], self.size["image"])
        shutil.rmtree(files.parent)
        with Mounted(self.days[0], "rw") as tree, Cluster(tree / "postgres", create=True) as cluster:
            cluster.run("pgbench", "--initialize", "--quiet", "--scale", self.size["scale"])
            dump(tree / "dump.sql", self.size["dump_mib"])
        call("cp", "--sparse=always", self.days[0], self.days[1])
        with Mounted(self.days[1], "rw") as tree:
            change(tree / "files")
            shutil.rmtree(tree / "files" / UPGRADED)
            unpack(upgraded[1], tree / "files" / UPGRADED)
            grow(tree / "dump.sql")
            with Cluster(tree / "postgres") as cluster:
                cluster.run("pgbench", "--no-vacuum", "--client", 4, "--time", self.size["seconds"])
        (self.folder / "complete").touch()

    def unpack_source(self, files):
        [source] = files.glob("linux-source-6.1/usr/src/*.tar.xz")
        (files / "linux").mkdir()
        wanted = ["*"] if self.size["source"] == ["*"] else [f"*/{name}" for name in self.size["source"]]
        call("tar", "--extract", "--file", source, "--directory", files / "linux", "--strip-components=1",
             "--wildcards", *wanted)
        source.unlink()

    def show(self, day):
        """Makes `day` the one that all tools read. A new mount each time: no tool is spared the read by it."""
        self.image.unlink(missing_ok=True)
        os.link(self.days[day], self.image)
        return Mounted(self.image, "ro", self.tree)

    def describe(self):
        with self.show(0):
            all_files, some = facts(self.tree), facts(self.files)
        image = self.days[0].stat()
        return {"entries": some[0], "files_mib": some[1], "all_entries": all_files[0], "all_mib": all_files[1],
                "image_mib": image.st_size / 2**20, "allocated_mib": image.st_blocks * 512 / 2**20}


def facts(tree):
    count, size = 0, 0
    for here, directories, files in os.walk(tree):
        count += len(directories) + len(files)
        size += sum(os.lstat(os.path.join(here, name)).st_size for name in files)
    return count, size / 2**20


class Mounted:
    """An image as a tree, for as long as it is needed; at a place of its own if none is named."""

    def __init__(self, image, mode, tree=None):
        self.image, self.mode = image, mode
        self.own = tree is None
        self.tree = tree or pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))

    def __enter__(self):
        self.tree.mkdir(exist_ok=True)
        if self.tree.is_mount():  # left by a run that was killed
            call("umount", self.tree)
        if self.own:
            self.tree.chmod(0o755)  # the database's own user walks through it
        call("mount", "-o", f"loop,{self.mode}", self.image, self.tree)
        return self.tree

    def __exit__(self, *_):
        call("umount", self.tree)
        if self.own:
            self.tree.rmdir()


class Cluster:
    """A PostgreSQL server on a data directory, by its own user, for as long as it is needed."""

    def __init__(self, data, create=False):
        self.data, self.create = data, create
        [*_, self.programs] = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))

    def run(self, program, *words):
        return call("runuser", "-u", "postgres", "--", self.programs / program, *words, cwd="/",
                    env=os.environ | {"PGHOST": "/tmp", "PGPORT": "5499", "PGDATABASE": "postgres"})

    def __enter__(self):
        if self.create:
            self.data.mkdir(mode=0o700)
            shutil.chown(self.data, "postgres", "postgres")
            self.run("initdb", "--pgdata", self.data, "--locale", "C.UTF-8")
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--silent", "--log", "/dev/null",
                 "-o", "-p 5499 -k /tmp -c listen_addresses='' -c fsync=off", "start")
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "--pgdata", self.data, "--wait", "--silent", "stop")


def fetch(folder):
    """The packages of the corpora, and both versions of the one that is upgraded."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not any(folder.glob(f"{package}_*.deb")):
            call("apt-get", "download", "-qq", package, cwd=folder)
    if len(list(folder.glob(f"{UPGRADED}_*.deb"))) < 2:
        known = [line.split("|")[1].strip() for line in call("apt-cache", "madison", UPGRADED).splitlines()]
        for version in list(dict.fromkeys(known))[:2]:
            call("apt-get", "download", "-qq", f"{UPGRADED}={version}", cwd=folder)
    upgraded = sorted(folder.glob(f"{UPGRADED}_*.deb"))
    return [next(folder.glob(f"{package}_*.deb")) for package in PACKAGES], [upgraded[0], upgraded[-1]]


def unpack(deb, to):
    call("dpkg-deb", "--extract", deb, to)


def dump(path, mib):
    """A database dump: text that compresses like one, the same on every machine."""
    draw = random.Random(1)
    with path.open("w") as out:
        while out.tell() < mib << 20:
            number = draw.getrandbits(40)
            out.write(f"INSERT INTO orders VALUES ({number}, '{draw.getrandbits(64):016x}', 'customer {number % 9973}', "
                      f"'2026-{number % 12 + 1:02}-{number % 28 + 1:02}', {number % 100000 / 100});\n")


def grow(path):
    """The dump of the second day: half of the new rows in its middle, the others at its end."""
    text = path.read_bytes()
    middle = text.index(b"\n", len(text) // 2) + 1
    grown = b"".join(b"INSERT INTO orders VALUES (%d, 'new');\n" % number for number in range(len(text) // 8000))
    path.write_bytes(text[:middle] + grown + text[middle:] + grown)


def change(tree):
    """Day two: one file in a hundred edited, one in a thousand renamed."""
    draw = random.Random(2)
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "built.bin")
    for path in draw.sample(files, len(files) // 100):
        with path.open("r+b") as file:
            file.seek(draw.randrange(max(path.stat().st_size, 1)))
            file.write(b"edited on the second day\n")
    for path in draw.sample(files, len(files) // 1000):
        path.rename(path.with_name(f"{path.name}.new"))
