"""Time and memory as a function of size: images of 1 to 64 GiB, trees of ten thousand to a million files."""

import json
import multiprocessing
import os
import shutil

from benching.corpus import Mounted
from benching.running import call, empty, programs, say, timed
from benching.tools import DUALSYNC

FULL = {"images": [1, 4, 16, 64], "files": [10_000, 100_000, 1_000_000]}
QUICK = {"images": [1, 4], "files": [10_000, 50_000]}
FILLED = 0.1
"""Of each image: files; the rest is free space that was never used."""


def grow(sizes, corpus, store, work):
    """For each size a first backup, one with nothing changed, and a restore: of images by the block path, of files by the archive path."""
    result = {"images": [], "files": []}
    for gib in sizes["images"]:
        empty(work)
        image = work / "image"
        aside(fill_image, image, gib, corpus)
        tree = Mounted(image, "ro", work / "tree")
        with tree:
            result["images"].append({"gib": gib, "allocated_mib": image.stat().st_blocks * 512 / 2**20}
                                    | measure("block", image, work / "tree", store, work, f"{gib} GiB"))
    for count in sizes["files"]:
        empty(work)
        image = work / "image"
        aside(fill_tree, image, count)
        with Mounted(image, "ro", work / "tree") as tree:
            result["files"].append({"files": count} | measure("archive", image, tree, store, work, f"{count:,} files"))
    shutil.rmtree(work)
    return result


def aside(work, *arguments):
    """In a process of its own: a command's peak memory is counted from what its parent ever held."""
    process = multiprocessing.Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("bench: a corpus could not be made")


def measure(path, image, tree, store, work, words):
    home = work / "home"
    home.mkdir()
    store.fresh(home)
    (home / "dualsync.toml").write_text(DUALSYNC.format(
        home=home, image=image, tree=tree, more="", block=store.dualsync(home, "block"), archive=store.dualsync(home, "archive")))
    measured = {}

    def dualsync(operation, *command):
        run = timed([programs() / "dualsync", *command], home, DUALSYNC_CONFIG=str(home / "dualsync.toml"))
        if operation:
            say(f"growth: {words}, {path}: {operation}: {run.wall_s:.1f} s, {run.cpu_s:.1f} CPU s, {run.peak_mib:.0f} MiB")
            measured[operation] = run.row()

    dualsync(None, "init", "--sheet", str(home / "sheet"))
    dualsync("first backup", "run", "--only", path)
    measured["stored_mib"] = store.stored_bytes(home) / 2**20
    dualsync("nothing changed", "run", "--only", path)
    dualsync("restore", "restore", "bench@latest", "--from", path, "--to", str(home / "restored"), "--yes")
    return measured


def fill_image(image, gib, corpus):
    """An ext4 file system with a tenth of its size in files: the corpus's own image, cut in files, each time with other letters."""
    call("truncate", "--size", f"{gib}G", image)
    call("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", image)
    wanted, number = int(gib * FILLED * 2**30), 0
    with Mounted(image, "rw") as tree:
        while wanted > 0:
            # A permutation of the letters: as compressible as before, and no block the same as in another round.
            letters = bytes((letter + number) % 256 for letter in range(256))
            with corpus.days[0].open("rb") as source:
                end = source.seek(0, os.SEEK_END)
                at = 0
                while wanted > 0 and at < end:
                    at = next_data(source, at, end)
                    source.seek(at)
                    piece = source.read(min(64 << 20, wanted))
                    at += len(piece)
                    if piece.count(0) < len(piece) // 2:
                        (tree / f"{number}-{at >> 20}").write_bytes(piece.translate(letters))
                        wanted -= len(piece)
            number += 1


def next_data(source, at, end):
    try:
        return os.lseek(source.fileno(), at, os.SEEK_DATA)
    except OSError:
        return end


def fill_tree(image, count):
    """`count` small files of 0 to 8 KiB of text, a hundred in a directory."""
    call("truncate", "--size", f"{max(1, count * 14 // (1 << 20))}G", image)
    call("mkfs.ext4", "-q", "-N", str(count + count // 50 + 1000), image)
    text = json.dumps({str(number): number * 7919 for number in range(20_000)}).encode()
    with Mounted(image, "rw") as tree:
        for number in range(count):
            directory = tree / f"{number // 10_000:03}" / f"{number // 100 % 100:02}"
            if number % 100 == 0:
                directory.mkdir(parents=True)
            size = number * 7919 % 8192
            at = number * 104_729 % (len(text) - size)
            with open(f"{directory}/{number:07}.json", "wb", buffering=0) as file:
                file.write(text[at:at + size])
