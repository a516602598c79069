"""Running commands and measuring them from outside."""

import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CORES = os.cpu_count()


@dataclasses.dataclass
class Run:
    """What one command took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    output: str

    def row(self):
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mib": self.peak_mib}


def timed(command, folder, **environment):
    """Runs `command`; user and system time and the largest process are those of it and all it started and waited for.

    A command that fails ends the whole measurement: half a table would be read as a whole one.
    """
    os.sync()
    with open(os.devnull, "rb") as nothing, open(folder / "output", "w+b") as out, open(folder / "errors", "w+b") as err:
        started = time.monotonic()
        child = subprocess.Popen(command, stdin=nothing, stdout=out, stderr=err, env=os.environ | environment)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if child.returncode != 0:
            sys.exit(f"bench: {' '.join(map(str, command))} ended with {child.returncode}\n{err.read().decode()}")
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().decode())


def call(*command, **options):
    options = {"stderr": subprocess.PIPE} | options
    try:
        return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, **options).stdout
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: {' '.join(map(str, command))} ended with {error.returncode}\n{error.stderr}")


def shell(line):
    return ["bash", "-c", f"set -o pipefail; {line}"]


def say(words):
    print(words, file=sys.stderr, flush=True)


def stored_bytes(folder):
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()) if folder.exists() else 0


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def programs():
    described = json.loads(call("cargo", "metadata", "--no-deps", "--format-version", "1", cwd=ROOT))
    return pathlib.Path(described["target_directory"]) / "release"


def build_programs():
    """One package at a time: a workspace build would unify features across the wall."""
    for package in ["dualsync", "dualsync-block", "dualsync-archive"]:
        call("cargo", "build", "--quiet", "--release", "--locked", "-p", package, cwd=ROOT)


def machine():
    model = next((line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = next((line.partition("=")[2].strip('"') for line in pathlib.Path("/etc/os-release").read_text().splitlines()
                   if line.startswith("PRETTY_NAME")), "Linux")
    return f"{CORES} cores of {model}, {memory:.0f} GiB, {system}, Linux {platform.release().split('-')[0]}"


def versions():
    found = {"dualsync": call(programs() / "dualsync", "--version").split()[1]}
    asked = {"restic": ["version"], "rustic": ["--version"], "borg": ["--version"], "kopia": ["--version"], "age": ["--version"],
             "zstd": ["--version"], "tar": ["--version"], "qemu-img": ["--version"], "garage": ["--version"]}
    for tool, words in asked.items():
        if shutil.which(tool):
            found[tool] = re.search(r"\d+(\.\d+)+", call(tool, *words).splitlines()[0])[0]
    return found
