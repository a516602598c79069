"""A slow line: a Garage server and the tools in a network namespace whose loopback carries 100 Mbit/s (`htb`)."""

import contextlib
import shutil
import threading
import time

from benching.running import call, empty, say
from benching.stores import Garage
from benching.tools import dualsyncs

LINE = 100_000_000
"""Bits a second, headers, answers and acknowledgements included."""

SPACE = "dualsync-bench"
INSIDE = ["ip", "netns", "exec", SPACE]


@contextlib.contextmanager
def slow_line():
    call("ip", "netns", "add", SPACE)
    try:
        call("ip", "-n", SPACE, "link", "set", "lo", "mtu", "1500", "up")
        call("tc", "-n", SPACE, "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb", "default", "1")
        call("tc", "-n", SPACE, "class", "add", "dev", "lo", "parent", "1:", "classid", "1:1", "htb", "rate", f"{LINE}bit",
             "quantum", "1514")
        yield
    finally:
        call("ip", "netns", "del", SPACE)


def sent_bytes():
    """What went over the line; /proc/net belongs to the process's own namespace."""
    lines = call(*INSIDE, "cat", "/proc/net/dev").splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


class Meter:
    """Bytes that went out, ten times a second, while something runs."""

    def __init__(self):
        self.seen, self.end = [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while True:
            self.seen.append((time.monotonic(), sent_bytes()))
            if self.end.wait(0.1):
                return

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()

    def row(self):
        """How full the line was from the first byte of the upload to the last, and each second of that."""
        (_, base), total = self.seen[0], self.seen[-1][1] - self.seen[0][1]
        begin = next(at for at, sent in self.seen if sent - base > total * 0.01)
        end = next(at for at, sent in self.seen if sent - base > total * 0.99)
        ran = self.seen[-1][0] - self.seen[0][0]
        seconds, last = [], (begin, next(sent for at, sent in self.seen if at == begin))
        for at, sent in self.seen:
            if begin < at <= end and at - last[0] >= 1:
                seconds.append((sent - last[1]) * 8 / (at - last[0]) / LINE)
                last = (at, sent)
        return {"sent_mib": total / 2**20, "of_whole_run": total * 8 / ran / LINE,
                "of_upload": total * 0.98 * 8 / (end - begin) / LINE, "lowest_second": min(seconds, default=0),
                "seconds": len(seconds), "before_s": begin - self.seen[0][0], "after_s": self.seen[-1][0] - end}


def measure(corpus, work):
    empty(work)
    result = {}
    with slow_line(), Garage(work / "garage", INSIDE) as store, corpus.show(0):
        for tool in dualsyncs(corpus, store, work):
            tool.prefix = INSIDE
            tool.fresh()
            with Meter() as meter:
                run = tool.first()
            result[tool.name] = run.row() | meter.row()
            say(f"slow line: {tool.name}: {run.wall_s:.1f} s, the line was {meter.row()['of_upload']:.0%} full")
    shutil.rmtree(work)
    return result
