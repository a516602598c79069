"""docs/benchmarks.md out of kept results; the same results give the same page."""

import dataclasses
import re
import statistics

from benching.tools import OPERATIONS

BY_HAND = "<!-- below: written by hand, kept by scripts/bench -->"

ARCHIVE, BLOCK, BOTH = "dualsync archive", "dualsync block", "dualsync both"
FILES, TREE, IMAGE = "restic files", "restic tree", "restic image"
KINDS = ["put", "get", "list", "head", "delete"]


def render(result, mode):
    parts = [head(result, mode), "## The goals", GOALS_WORDS, goals(result)]
    for part, words in [("peers", PEERS_WORDS), ("garage", GARAGE_WORDS)]:
        if part in result:
            parts += [words, about(result[part])]
            parts += [table(Results(result[part]), operation) for operation, *_ in OPERATIONS]
            parts += ["### Requests to the stores", requests(result[part])]
    for part, words, write in [("growth", GROWTH_WORDS, growth), ("uplink", UPLINK_WORDS, uplink),
                               ("profile", PROFILE_WORDS, profile)]:
        if part in result:
            parts += [words, about(result[part]), write(result[part])]
    if "peers" in result:
        parts += ["## Commands of the peers", "```\n" + commands(result["peers"]) + "\n```"]
    return "\n\n".join(parts) + "\n"


def keeping_what_was_written_by_hand(text, page):
    kept = page.read_text().partition(BY_HAND)[2] if page.exists() else ""
    return text + (f"\n{BY_HAND}{kept}" if kept else "")


def head(result, mode):
    corpus = next((part["corpus"] for part in result.values() if "corpus" in part), None)
    text = HEAD.format(arguments=" --quick" if mode == "quick" else "")
    return text + (CORPUS.format(mode=mode, **corpus) if corpus else "")


def about(part):
    tools = ", ".join(f"{tool} {re.search(r'[0-9]+([.][0-9]+)+', version)[0]}" for tool, version in part["versions"].items())
    load = f" Load average {part['load'][0]:.1f} before and {part['load'][1]:.1f} after." if "load" in part else ""
    rounds = f" {part['rounds']} rounds." if "rounds" in part else ""
    return f"Commit {part['commit']}, {part['machine']}; {tools}.{rounds}{load}"


class Results:
    """Medians and ratios out of one part."""

    def __init__(self, part):
        self.runs, self.asked, self.cores = part["runs"], part["requests"], part["cores"]

    def rows(self, operation, tool, field="wall_s"):
        return [row[field] for row in self.runs.get(operation, {}).get(tool, [])]

    def ratio(self, operation, one, other, field="wall_s"):
        """Round by round, since both ran in it."""
        return quotient(self.rows(operation, one, field), self.rows(operation, other, field))

    def peak(self, tool):
        return [max((row["peak_mib"] for tools in self.runs.values() for row in tools.get(tool, [])), default=0) / 256]


def quotient(rows, below):
    return [row / other for row, other in zip(rows, below, strict=False) if other]


@dataclasses.dataclass
class Goal:
    """One line of the goals. Wall time decides; CPU seconds stand beside it, as what other work disturbs least."""

    words: str
    most: float
    wall: list
    cpu: list = dataclasses.field(default_factory=list)

    def row(self):
        if not self.wall:
            return f"| {self.words} | {self.most:.4g} | not measured | | |"
        measured = statistics.median(self.wall)
        cpu = f"{statistics.median(self.cpu):.2f}" if self.cpu else ""
        spread = f" ({min(self.wall):.2f}-{max(self.wall):.2f})" if len(self.wall) > 1 else ""
        verdict = "met" if measured <= self.most else "**not met**"
        return f"| {self.words} | {self.most:.4g} | {measured:.4g}{spread} | {cpu} | {verdict} |"


def goals(result):
    rows = []
    if "peers" in result:
        rows += goals_beside_peers(Results(result["peers"]))
    if "garage" in result:
        rows += goals_over_s3(Results(result["garage"]))
    peaks = [row["peak_mib"] / 256 for sizes in ("images", "files") for entry in result.get("growth", {}).get(sizes, [])
             for row in entry.values() if isinstance(row, dict)]
    rows.append(Goal("peak memory of any size / 256 MiB", 1, [max(peaks)] if peaks else []))
    lines = [run for run in result.get("uplink", {}).get("runs", {}).values()]
    rows.append(Goal("slow line: 1 / how full it was, the emptiest of the three", 1.1, [max(1 / run["of_upload"] for run in lines)] if lines else []))
    return "\n".join(["| what | at most | wall (spread) | CPU | |", "|---|---|---|---|---|", *(goal.row() for goal in rows)])


def goals_beside_peers(of):
    def against(words, most, operation, one, other):
        return Goal(words, most, of.ratio(operation, one, other), of.ratio(operation, one, other, "cpu_s"))

    def stored(words, most, one, other):
        return Goal(words, most, of.ratio("first backup", one, other, "stored_mib"))

    cores = quotient(of.rows("first backup", BOTH), [seconds / of.cores for seconds in of.rows("first backup", BOTH, "cpu_s")])
    verify = [quotient(of.rows("verify", BOTH, field), [sum(pair) for pair in zip(
        of.rows("verify", TREE, field), of.rows("verify", IMAGE, field), strict=False)]) for field in ("wall_s", "cpu_s")]
    return [
        against("archive, first backup / `tar, zstd -1 -T2, age`", 1.25, "first backup", ARCHIVE, "tar|zstd|age"),
        against("archive, first backup / restic", 1 / 2.5, "first backup", ARCHIVE, FILES),
        stored("archive, stored after it / restic", 1, ARCHIVE, FILES),
        against("archive, nothing changed / restic", 1 / 2, "nothing changed", ARCHIVE, FILES),
        against("archive, restore of everything / restic", 1 / 2, "restore", ARCHIVE, FILES),
        against("block, first backup / restic", 1 / 2.5, "first backup", BLOCK, IMAGE),
        stored("block, stored after it / `cat, zstd -1, age`", 1.2, BLOCK, "cat|zstd|age"),
        against("block, full rescan, nothing changed / restic `--force`", 1 / 4, "nothing changed", BLOCK, IMAGE),
        against("block, restore of the image / restic", 1 / 3, "restore", BLOCK, IMAGE),
        Goal("both, first backup: wall / (CPU seconds / cores)", 1.2, cores),
        Goal("verify of both, compared in full / restic `check --read-data` of tree and image", 1.5, *verify),
        *(Goal(f"{tool}: largest process / 256 MiB", 1, of.peak(tool)) for tool in (ARCHIVE, BLOCK, BOTH)),
    ]


def goals_over_s3(of):
    found = []
    for path, most, mib in [("archive", 6, 4), ("block", 40, 8)]:
        asked = of.asked.get(f"dualsync {path}", {}).get("one file", {})
        counts = asked.get(path)
        found.append(Goal(f"{path}, one file of 1 MiB over S3: requests", most, [sum(counts.values())] if counts else []))
        fetched = asked.get("fetched_bytes")
        found.append(Goal(f"{path}, one file of 1 MiB over S3: MiB read", mib, [fetched / 2**20] if fetched else []))
    return found


def table(of, operation):
    lines = [f"### {operation.capitalize()}", "", "| tool | wall s (spread) | CPU s | peak MiB | stored MiB |", "|---|---|---|---|---|"]
    tools = of.runs.get(operation, {})
    for tool in sorted(tools, key=lambda tool: statistics.median(of.rows(operation, tool))):
        wall, cpu, peak, stored = (of.rows(operation, tool, field) for field in ("wall_s", "cpu_s", "peak_mib", "stored_mib"))
        stored = f"{statistics.median(stored):.0f}" if any(stored) else ""
        lines.append(f"| {tool.replace('|', ', ')} | {statistics.median(wall):.1f} ({min(wall):.1f}-{max(wall):.1f}) | "
                     f"{statistics.median(cpu):.1f} | {max(peak):.0f} | {stored} |")
    return "\n".join(lines)


def requests(part):
    lines = ["| run | operation | path | " + " | ".join(KINDS) + " | MiB read |", "|---|---|---|" + "---|" * (len(KINDS) + 1)]
    for tool, operations in part["requests"].items():
        for operation, paths in operations.items():
            fetched = f"{paths['fetched_bytes'] / 2**20:.1f}" if "fetched_bytes" in paths else ""
            for path, counts in paths.items():
                if isinstance(counts, dict):
                    lines.append(f"| {tool} | {operation} | {path} | " + " | ".join(str(counts[kind]) for kind in KINDS) + f" | {fetched} |")
    return "\n".join(lines)


def growth(part):
    operations = ["first backup", "nothing changed", "restore"]
    header = " | ".join(f"{operation} s (CPU s) | MiB" for operation in operations)
    found = []
    for key, words in [("images", "block path, image of"), ("files", "archive path, files")]:
        lines = [f"| {words} | stored MiB | {header} |", "|---|---|" + "---|" * (2 * len(operations))]
        for entry in part[key]:
            size = f"{entry['gib']} GiB, {entry['allocated_mib']:.0f} MiB allocated" if key == "images" else f"{entry['files']:,}"
            cells = " | ".join(f"{entry[of]['wall_s']:.1f} ({entry[of]['cpu_s']:.1f}) | {entry[of]['peak_mib']:.0f}" for of in operations)
            lines.append(f"| {size} | {entry['stored_mib']:.0f} | {cells} |")
        found.append("\n".join(lines))
    return "\n\n".join(found)


def uplink(part):
    lines = ["| run | s | MiB sent | line full, first to last byte | emptiest second | of the whole run | s before | s after |",
             "|---|---|---|---|---|---|---|---|"]
    for tool, run in part["runs"].items():
        lines.append(f"| {tool} | {run['wall_s']:.1f} | {run['sent_mib']:.0f} | {run['of_upload']:.0%} | {run['lowest_second']:.0%} | "
                     f"{run['of_whole_run']:.0%} | {run['before_s']:.1f} | {run['after_s']:.1f} |")
    return "\n".join(lines)


def profile(part):
    if not part["spots"]:
        return "perf is not installed: nothing was sampled."
    found = []
    for run, spots in part["spots"].items():
        found.append("\n".join([f"### {run[0].upper()}{run[1:]}", "", "| share | where |", "|---|---|",
                                *(f"| {share:.0f} % | `{name[:110]}` |" for share, name in spots)]))
    return "\n\n".join(found)


def commands(part):
    lines = []
    for tool, operations in part["commands"].items():
        lines += ["", f"# {tool.replace('|', ', ')}", *dict.fromkeys(operations.values())]
    return "\n".join(lines).strip()


HEAD = """# Beside its peers

Written by `scripts/bench{arguments}`, which says what it needs; `scripts/bench --get-peers` fetches the peers measured here.
Seconds are of one machine on one day: what counts are ratios within one run. Where the load average is above one for each
core, other work ran beside it, wall times are worth little, and the ratio of CPU seconds is the one to look at."""

CORPUS = """

Corpus `{mode}`: an ext4 image of {image_mib:.0f} MiB with {allocated_mib:.0f} MiB allocated and {all_entries:,} entries of {all_mib:.0f} MiB. In it,
*files*, corpus A: {entries:,} entries of {files_mib:.0f} MiB, kernel source, WordPress, shared libraries (Debian packages). Beside
them a PostgreSQL cluster that `pgbench` filled, and a database dump. Day two: one file in a hundred edited, one in a thousand
renamed, a Java package upgraded, the dump grown in its middle and at its end, `pgbench` run for a while. Warm page cache; repositories,
the Garage server's data and what is restored lie in memory (tmpfs), so that the programs are measured and not a disk. Everything but `qemu-img`'s copy is encrypted. dualsync as it
comes (block `deflate:1`, archive `zstd:3`), its peers as they come."""

GOALS_WORDS = """Each number is a ratio within one round, if it is not said otherwise: its median, and the lowest and highest of the rounds."""

PEERS_WORDS = """## Side by side

*files*: corpus A; *tree*: everything in the image, as files; *image*: the image. `dualsync archive` reads the files, `dualsync block`
the image, `dualsync both` the image and the whole tree. Medians; the spread of wall times in brackets. *CPU* is user and system time of
all processes, *peak* the largest process in any round (22 MiB is what the measuring script itself holds: read it as *at most*), *stored* what lies in the repository afterwards.

What one tool does and the other does not: dualsync's block path opens, inflates and hashes each pack again before
anything may name it; restic reads the image through `--force` (it would else skip a file whose inode did not change);
the bare pipelines have no index, no second night, and cannot be checked."""

GARAGE_WORDS = """## On a local Garage server

It shares the two cores with the tools; its own CPU seconds are not in the table."""

GROWTH_WORDS = """## Growth

Images a tenth full of the corpus's own data, letters permuted so that no block comes twice; files of 0 to 8 KiB of text. Everything
lies on a disk here: images of 64 GiB find no room in memory."""

UPLINK_WORDS = """## A slow line

A first backup to a Garage server over a line of 100 Mbit/s: tool and server in a network namespace whose loopback carries no
more (`htb`), 1,500 bytes a packet; counted are all bytes on it, headers and answers too. *Line full* is counted from
when 1 % was sent to when 99 % was; *s before* and *s after* are what lay outside of that."""

PROFILE_WORDS = """## Where the time goes

`perf record` over one run of each operation, all threads and the command itself; functions with 2 % and more, what is inlined
counted with its caller, the kernel as one."""
