"""All tools in turn, operation by operation, round by round."""

import os
import pathlib
import shutil

from benching.running import call, empty, say, shell
from benching.tools import OPERATIONS


def side_by_side(corpus, groups, rounds, work):
    """In each group each operation runs all tools before the next begins, in an order that turns with the round."""
    result = {"rounds": rounds, "corpus": corpus.describe(), "load": [os.getloadavg()[0]], "runs": {}}
    for number in range(rounds):
        for tools in groups:
            empty(work)
            order = tools[number % len(tools):] + tools[:number % len(tools)]
            for tool in order:
                tool.fresh()
            for operation, method, day in OPERATIONS:
                with corpus.show(day):
                    for tool in order:
                        if getattr(tool, method, None):
                            row = one(tool, operation, method, number)
                            result["runs"].setdefault(operation, {}).setdefault(tool.name, []).append(row)
    result["load"].append(os.getloadavg()[0])
    tools = [tool for group in groups for tool in group]
    result["commands"] = {tool.name: tool.commands for tool in tools}
    result["requests"] = {tool.name: tool.requests for tool in tools if tool.requests}
    shutil.rmtree(work)
    return result


def one(tool, operation, method, number):
    if method in ("first", "again", "day_two"):
        warm(tool.reads)
    if method == "restore":
        # What is restored lies in memory: else the first tool pays for taking it from the page cache.
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
    run = getattr(tool, method)()
    say(f"round {number + 1}: {operation}, {tool.name} ({tool.store.name}): "
        f"{run.wall_s:.1f} s, {run.cpu_s:.1f} CPU s, {run.peak_mib:.0f} MiB")
    tool.done()
    return run.row() | {"stored_mib": tool.store.stored_bytes(tool.home) / 2**20}


def warm(paths):
    """Brings what will be read into the page cache: a tool that gives its pages back must not let the next one wait for the disk."""
    for path in paths:
        call(*shell(f"tar -C {path} -c . | cat > /dev/null" if path.is_dir() else f"cat {path} > /dev/null"))


def profiles(corpus, tools, work):
    """Where the time of each operation goes: samples of all threads, one run of each, not among the rounds."""
    found = {}
    if not shutil.which("perf"):
        return found
    empty(work)
    samples = work / "samples"
    for tool in tools:
        tool.fresh()
        for operation, method, _ in OPERATIONS:
            if not getattr(tool, method, None) or method == "day_two":
                continue
            tool.prefix = ["perf", "record", "--quiet", "--freq", "499", "--event", "cpu-clock", "--output", samples, "--"]
            with corpus.show(0):
                warm(tool.reads)
                getattr(tool, method)()
            tool.prefix = []
            tool.done()
            lines = call("perf", "report", "--input", samples, "--stdio", "--no-children", "--fields",
                         "overhead,comm,dso,symbol", "--field-separator", "\t")
            found[f"{tool.name}, {operation}"] = hot_spots(lines)
    shutil.rmtree(work)
    return found


def hot_spots(lines):
    """Share of each function in all samples; the kernel is one."""
    shares = {}
    for line in lines.splitlines():
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == 4 and not line.startswith("#"):
            overhead, _, library, symbol = fields
            name = "the kernel" if symbol.startswith("[k]") else symbol.removeprefix("[.] ")
            name = name if library.startswith(("dualsync", "[")) else f"{name} ({library})"
            shares[name] = shares.get(name, 0) + float(overhead.rstrip("%"))
    return sorted(((share, name) for name, share in shares.items() if share >= 2), reverse=True)[:12]
