"""The verb prune of a fake writer, whose store is two files: NAME.points has the copies, NAME.marks the marks.

Called with NAME and the job on standard input. It keeps the promises of docs/worker-protocol.md in the
simplest way: whole copies, no other objects.
"""

import datetime
import json
import sys

TIME = "%Y-%m-%dT%H:%M:%SZ"


def say(**line):
    print(json.dumps(line), flush=True)


def seconds(text):
    return datetime.datetime.strptime(text[:19] + "Z", TIME)


def read(path):
    try:
        with open(path) as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def write(path, lines):
    with open(path, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def copies(name):
    return read(name + ".points")


def marks(name):
    return {mark["manifest"]: mark for mark in read(name + ".marks")}


def prune(name, job):
    task, now = job["task"], job["now"]
    dry, grace = task.get("dry_run", False), task["grace_s"]
    there = copies(name)
    marked = marks(name)
    before, deleted = len(there), 0
    for leaving in task["drop"]:
        manifest = leaving["manifest"]
        assert any(copy["manifest"] == manifest and copy["sha256"] == leaving["sha256"] for copy in there), manifest
        mark = marked.get(manifest)
        since = mark["since"] if mark else now[:19] + "Z"
        age = (seconds(now) - seconds(since)).total_seconds()
        if mark is None:
            action = "marked"
            marked[manifest] = {
                "manifest": manifest,
                "since": since,
                "reason": leaving["reason"],
                "asked": leaving.get("asked", False),
            }
        elif task.get("sweep") and age >= grace:
            action = "deleted"
            there = [copy for copy in there if copy["manifest"] != manifest]
            deleted += 1
            if not dry:
                del marked[manifest]
        else:
            action = "waiting"
        say(
            message_type="retired",
            point=leaving["point"],
            manifest=manifest,
            action=action,
            reason=leaving["reason"],
            since=since,
        )
    for manifest in task["undo"]:
        mark = marked[manifest]
        point = next(copy["point"] for copy in there if copy["manifest"] == manifest)
        late = mark.get("deleting", False)
        say(
            message_type="retired",
            point=point,
            manifest=manifest,
            action="refused" if late else "undone",
            reason="its deletion has begun" if late else "asked for",
        )
        if not late:
            del marked[manifest]
    if not dry:
        write(name + ".points", there)
        write(name + ".marks", marked.values())
    live = sum(copy["manifest"] not in marked for copy in there)
    say(
        message_type="pruned",
        objects=2 * before,
        stored_bytes=2048 * before,
        live_bytes=2048 * live,
        marked_objects=0,
        waiting_objects=0,
        waiting_bytes=0,
        deleted_objects=2 * deleted,
        deleted_bytes=2048 * deleted,
        cleared=0,
    )


prune(sys.argv[1], json.loads(sys.stdin.readline()))
