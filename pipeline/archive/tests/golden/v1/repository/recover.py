#!/usr/bin/env python3
"""Restores files from a dualsync archive repository without dualsync.

Needs Python 3.8, the commands `age` and `zstd` (and `minisign` with --signing-public), and nothing else.
Writes only into a folder that does not exist yet or is empty, and never through a symbolic link.
It is a part of archive format 1; compare its SHA-256 with the one on your recovery sheet.
"""

import argparse
import array
import base64
import bz2
import errno
import gzip
import hashlib
import json
import lzma
import os
import re
import stat
import subprocess
import sys
import tempfile

FORMAT, VERSION = "dualsync-archive", 1
FRAME_BYTES_MAX = 64 << 20
# What is kept of each entry until its metadata is set.
KEPT = ("kind", "mode", "uid", "gid", "mtime", "xattrs", "link_target", "extents", "sha256")
BLOCK = 512


class Damage(Exception):
    """An object of the repository is missing or not what it should be."""


def fail(text):
    sys.exit("recover.py: " + text)


def run(command, data=None):
    try:
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        fail("the command %s is not installed" % command[0])
    if done.returncode != 0:
        raise Damage("%s: %s" % (command[0], done.stderr.decode("utf-8", "replace").strip()))
    return done.stdout


def unpack(suffix, packed):
    """Unpacks one frame or several in a row; the suffix of the volume says how."""
    if suffix == ".zst":
        return run(["zstd", "-dc"], packed)
    if suffix == ".gz":
        return gzip.decompress(packed)
    if suffix == ".bz2":
        return bz2.decompress(packed)
    if suffix == ".xz":
        return lzma.decompress(packed)
    if suffix == "":
        return packed
    raise Damage("an unknown compression: " + suffix)


class Repository:
    def __init__(self, folder, identity, signing_public):
        self.folder, self.identity, self.signing_public = folder, identity, signing_public

    def path(self, key):
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise Damage("a key that leads out of the repository: " + key)
        return os.path.join(self.folder, *key.split("/"))

    def read(self, key, sha256=None):
        try:
            with open(self.path(key), "rb") as file:
                data = file.read()
        except OSError as error:
            raise Damage("%s: %s" % (key, error.strerror))
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise Damage("%s does not have the bytes it was stored with" % key)
        return data

    def opened(self, key, sha256):
        """What age unpacks from an object whose stored bytes have this digest."""
        try:
            return run(["age", "-d", "-i", self.identity], self.read(key, sha256))
        except Damage as damage:
            raise Damage("%s: %s" % (key, damage))

    def points(self):
        """Keys of manifests by source and time, `web@20261120T020000Z`. Nothing is proved of them."""
        found = {}
        base = os.path.join(self.folder, "points")
        for source in sorted(os.listdir(base)) if os.path.isdir(base) else []:
            below = os.path.join(base, source)
            for folder in sorted(os.listdir(below)) if os.path.isdir(below) else []:
                if os.path.exists(os.path.join(below, folder, "manifest.json")):
                    key = "points/%s/%s/manifest.json" % (source, folder)
                    found.setdefault("%s@%s" % (source, folder.split("-")[0]), []).append(key)
        return found

    def manifest(self, key):
        data, said = self.read(key), b""
        if self.signing_public:
            try:
                said = run(["minisign", "-V", "-P", self.signing_public, "-m", self.path(key)])
            except Damage as damage:
                raise Damage("the signature of %s is not accepted (%s)" % (key, damage))
        try:
            self.belongs(key, json.loads(data), said)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damage("%s is not readable" % key)
        return json.loads(data)

    def belongs(self, key, manifest, said):
        """Whether a manifest is of this format, and of the place where it was found."""
        if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
            raise Damage("%s has version %s, and this script knows %d" % (key, manifest.get("version"), VERSION))
        source = manifest["point"].rsplit("@", 1)[0]
        if not isinstance(manifest["sequence"], int):
            raise ValueError
        if key != "points/%s/%s/manifest.json" % (source, manifest["folder"]):
            raise Damage("%s is the manifest of %s, put where it does not belong" % (key, manifest["point"]))
        if self.signing_public:
            comment = "repository=%s source=%s point=%s sequence=%d" % (
                manifest["repository"], source, manifest["point"], manifest["sequence"])
            if comment.encode() not in said:
                raise Damage("the signature of %s was made for something else" % key)

    def accepted(self, keys):
        """Of manifests that carry one time, key and manifest of the highest sequence; what does not count is
        passed over, so that nobody can block a point by putting something beside it."""
        best = None
        for key in keys:
            try:
                manifest = self.manifest(key)
            except Damage as damage:
                print("passed over: %s" % damage, file=sys.stderr)
                continue
            if best is None or manifest["sequence"] > best[1]["sequence"]:
                best = key, manifest
        return best

    def newest(self, names, source):
        for name in sorted((name for name in names if name.rsplit("@", 1)[0] == source), reverse=True):
            best = self.accepted(names[name])
            if best:
                return best
        return None

    def choose(self, wanted):
        """Key and manifest of the point that is asked for."""
        names = self.points()
        if not names:
            fail("there is no point in %s" % self.folder)
        if not wanted or wanted.endswith("@latest"):
            sources = {wanted[:-len("@latest")]} if wanted else {name.rsplit("@", 1)[0] for name in names}
            found = [self.newest(names, source) for source in sorted(sources)]
        else:
            found = [self.accepted(names[name]) for name in sorted(names) if name.startswith(wanted)]
        found = [best for best in found if best]
        if len(found) != 1:
            fail("say which point with --point:\n  " + "\n  ".join(sorted(names)))
        return found[0]

    def lines(self, manifest):
        """Every line of the catalog, in order."""
        stored = manifest["objects"]["catalog"]
        index = unpack(".zst", self.opened(catalog_key(stored["sha256"]), stored["sha256"]))
        for segment in index.splitlines():
            digest = json.loads(segment)["segment"]
            for line in unpack(".zst", self.opened(catalog_key(digest), digest)).splitlines():
                yield json.loads(line)

    def refs(self, manifest, key):
        text = self.read(key.replace("manifest.json", "refs.jsonl"), manifest["objects"]["refs"]["sha256"])
        return {ref["key"]: ref["sha256"] for ref in map(json.loads, text.splitlines())}


def catalog_key(digest):
    return "catalogs/%s/%s.jsonl.zst.age" % (digest[:2], digest)


def raw(value):
    """Bytes of a name: text, or an object with base64."""
    if isinstance(value, str):
        return value.encode()
    return base64.b64decode(value["path_b64"])


def path_of(entry):
    path = raw(entry["path"]) if "path" in entry else base64.b64decode(entry["path_b64"])
    if path and any(part in (b"", b".", b"..") or b"\0" in part for part in path.split(b"/")):
        raise Damage("a path that leads out of the tree: %r" % path)
    return path


def glob_pattern(glob):
    """A glob as docs/worker-protocol.md says: `*` stays within a name, `**` does not."""
    out, at, depth, text = b"", 0, 0, os.fsencode(glob.strip("/"))
    while at < len(text):
        char = text[at:at + 1]
        if text[at:at + 3] == b"**/" and (at == 0 or text[at - 1:at] == b"/"):
            out, at = out + b"(?:[^/]+/)*", at + 3
            continue
        if text[at:at + 2] == b"**":
            out, at = out + b".*", at + 2
            continue
        if char == b"*":
            out += b"[^/]*"
        elif char == b"?":
            out += b"[^/]"
        elif char == b"[" and b"]" in text[at + 2:]:
            end = text.index(b"]", at + 2)
            body = text[at + 1:end].replace(b"\\", b"\\\\")
            out += b"[" + (b"^/" + body[1:] if body[:1] in (b"!", b"^") else body) + b"]"
            at = end
        elif char == b"{":
            out, depth = out + b"(?:", depth + 1
        elif char == b"}" and depth:
            out, depth = out + b")", depth - 1
        elif char == b"," and depth:
            out += b"|"
        elif char == b"\\" and at + 1 < len(text):
            at += 1
            out += re.escape(text[at:at + 1])
        else:
            out += re.escape(char)
        at += 1
    # What matches stands for everything below it too.
    return re.compile(b"(?s:" + out + b")(?:/.*)?\\Z", re.S)


def tar_data(tar):
    """The data of the one member in `tar`; the map of a sparse one is passed over."""
    at, sparse = 0, False
    while True:
        header = tar[at:at + BLOCK]
        if len(header) < BLOCK:
            raise Damage("a member ends early")
        size = int(header[124:136].strip(b" \0") or b"0", 8)
        body = tar[at + BLOCK:at + BLOCK + size]
        if header[156:157] != b"x":
            break
        sparse = sparse or b"GNU.sparse.major=" in body
        at += BLOCK + -(-size // BLOCK) * BLOCK
    if len(body) != size:
        raise Damage("a member ends early")
    if sparse:
        numbers, position = int(body[:body.index(b"\n")]) * 2 + 1, 0
        for _ in range(numbers):
            position = body.index(b"\n", position) + 1
        body = body[-(-position // BLOCK) * BLOCK:]
    return body


class Tree:
    """The folder that is restored into. Every name is opened from its directory, and no link is followed."""

    def __init__(self, folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.listdir(folder):
            fail("%s is not empty" % folder)
        self.root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.last, self.last_fd = None, None

    def parent(self, path):
        """Descriptor of the directory that `path` lies in, and its name there. Valid until the next call."""
        folder, _, name = path.rpartition(b"/")
        if folder != self.last or self.last_fd is None:
            self.close()
            fd = os.dup(self.root)
            try:
                for part in folder.split(b"/") if folder else []:
                    deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                    os.close(fd)
                    fd = deeper
            except OSError:
                os.close(fd)
                raise
            self.last, self.last_fd = folder, fd
        return self.last_fd, name

    def close(self):
        if self.last_fd is not None:
            os.close(self.last_fd)
        self.last, self.last_fd = None, None

    def file(self, path, flags):
        fd, name = self.parent(path)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)


class Entries:
    """Entries on disk, in the order in which they came: of each, only where it begins is in memory."""

    def __init__(self, folder):
        self.file, self.end = open(os.path.join(folder, "entries"), "w+b"), 0
        self.starts = array.array("Q")

    def add(self, path, entry):
        kept = {field: entry[field] for field in KEPT if field in entry}
        line = json.dumps([base64.b64encode(path).decode(), kept]).encode() + b"\n"
        self.starts.append(self.end)
        self.end += self.file.write(line)

    def read(self, starts):
        for start in starts:
            self.file.seek(start)
            path, entry = json.loads(self.file.readline())
            yield base64.b64decode(path), entry

    def __iter__(self):
        return self.read(self.starts)

    def __reversed__(self):
        return self.read(reversed(self.starts))


class Wanted:
    """What is wanted of each volume, in one file a volume: a volume is read once, and only what is wanted of
    it is then in memory."""

    WAITING_MAX = 50000

    def __init__(self, folder):
        self.folder, self.waiting, self.count, self.numbers = folder, {}, 0, {}

    def add(self, at, path, data_at, digest, extents):
        line = [at["frame"], at["frame_bytes"], at["offset"], at["bytes"],
                base64.b64encode(path).decode(), data_at, digest, extents]
        self.waiting.setdefault(at["volume"], []).append(json.dumps(line))
        self.count += 1
        if self.count >= self.WAITING_MAX:
            self.spill()

    def spill(self):
        for volume, lines in self.waiting.items():
            number = self.numbers.setdefault(volume, len(self.numbers))
            with open(os.path.join(self.folder, "volume-%d" % number), "a") as file:
                file.write("\n".join(lines) + "\n")
        self.waiting, self.count = {}, 0

    def volumes(self):
        """Each volume with its frames: frame, frame_bytes -> offset, bytes -> [(path, data offset, digest, extents)]."""
        self.spill()
        for volume in sorted(self.numbers):
            frames = {}
            with open(os.path.join(self.folder, "volume-%d" % self.numbers[volume])) as file:
                for line in file:
                    start, packed, offset, size, path, data_at, digest, extents = json.loads(line)
                    members = frames.setdefault((start, packed), {})
                    target = base64.b64decode(path), data_at, digest, extents
                    members.setdefault((offset, size), []).append(target)
            yield volume, frames


class Restore:
    def __init__(self, repository, tree, globs, spill):
        self.repository, self.tree, self.globs = repository, tree, globs
        self.problems, self.count, self.notes = [], 0, set()
        self.is_root = os.geteuid() == 0
        self.wanted = Wanted(spill)
        self.entries = Entries(spill)  # everything but hard links, for the metadata
        self.groups = {}     # inode -> first path
        self.links = {}      # first path -> further names
        self.lost = set()    # files whose content is not whole

    def problem(self, path, text):
        self.problems.append("%s: %s" % (os.fsdecode(path) or ".", text))

    def matches(self, path):
        return not self.globs or any(glob.match(path) for glob in self.globs)

    def needs_parent(self, path):
        """Makes the directories above a single file that was asked for."""
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            fd, name = self.tree.parent(b"/".join(parts[:depth]))
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                pass

    def plan(self, lines):
        entry, extents, data_at = None, None, 0
        for line in lines:
            if "parts" in line:
                for part in line["parts"] if entry else []:
                    self.wanted.add(part["at"], entry, data_at, part["sha256"], extents)
                    data_at += part["bytes"]
                continue
            entry, extents, data_at = None, line.get("extents"), 0
            try:
                path = path_of(line)
                if not self.matches(path):
                    continue
                if self.globs:
                    self.needs_parent(path)
                if self.make(path, line):
                    entry = path
            except (Damage, OSError) as error:
                self.problem(line.get("path", "?").encode(), str(error))

    def make(self, path, entry):
        """Creates the entry; tells whether content has to follow."""
        kind, fd, name = entry["kind"], None, None
        if path:
            fd, name = self.tree.parent(path)
        self.count += 1
        if entry.get("state", "good") != "good":
            self.notes.add("%s: %s when it was backed up: %s" % (
                os.fsdecode(path), entry["state"], entry.get("problem", "")))
        if kind == "file":
            group = entry["inode"] if entry.get("links", 1) > 1 else None
            if group in self.groups:
                self.link(self.groups[group], path)
                self.links.setdefault(self.groups[group], []).append(path)
                return False
            if entry.get("at") is None and not entry.get("parts_count") and entry.get("state", "good") != "good":
                self.problem(path, "has no stored content")
                return False
            file = self.tree.file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.ftruncate(file, entry["size"])
            os.close(file)
            if group is not None:
                self.groups[group] = path
            self.entries.add(path, entry)
            if entry.get("at") and entry["size"]:
                digest = entry["sha256"] if entry.get("extents") is None else None
                self.wanted.add(entry["at"], path, 0, digest, entry.get("extents"))
            return True
        if kind == "directory":
            if path:
                try:
                    os.mkdir(name, 0o700, dir_fd=fd)
                except FileExistsError:
                    pass
        elif kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=fd)
        elif kind in ("char_device", "block_device"):
            mode = 0o600 | (stat.S_IFCHR if kind == "char_device" else stat.S_IFBLK)
            try:
                os.mknod(name, mode, os.makedev(*entry["device"]), dir_fd=fd)
            except PermissionError:
                self.notes.add("device nodes are left out without root")
                return False
        elif kind == "socket":
            return False
        # Symbolic links come last: until then there is none in the tree that could be followed.
        self.entries.add(path, entry)
        return False

    def link(self, first, path):
        first_fd, first_name = self.tree.parent(first)
        first_fd = os.dup(first_fd)
        try:
            fd, name = self.tree.parent(path)
            os.link(first_name, name, src_dir_fd=first_fd, dst_dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(first_fd)

    def fetch(self, refs):
        for volume, frames in self.wanted.volumes():
            try:
                if volume not in refs:
                    raise Damage("%s is not among the objects of this point" % volume)
                plain = self.repository.opened(volume, refs[volume])
            except Damage as damage:
                self.hit(frames, str(damage))
                continue
            suffix = volume.rsplit(".tar", 1)[1][:-len(".age")]
            for (start, length), members in sorted(frames.items()):
                try:
                    frame = unpack(suffix, plain[start:start + length])
                    if len(frame) > FRAME_BYTES_MAX:
                        raise Damage("a frame of %s is too long" % volume)
                except (Damage, OSError, EOFError, lzma.LZMAError) as damage:
                    self.hit({0: members}, "%s: %s" % (volume, damage))
                    continue
                for (offset, size), targets in members.items():
                    self.write(volume, frame[offset:offset + size], targets)

    def hit(self, frames, text):
        for members in frames.values():
            for targets in members.values():
                for path, _, _, _ in targets:
                    self.lose(path, text)

    def write(self, volume, tar, targets):
        try:
            data = tar_data(tar)
            digest = hashlib.sha256(data).hexdigest()
        except (Damage, ValueError) as damage:
            return self.hit({0: {0: targets}}, "%s: %s" % (volume, damage))
        for path, data_at, wanted, extents in targets:
            if wanted is not None and digest != wanted:
                self.lose(path, "%s holds other content than the catalog says" % volume)
                continue
            try:
                file = self.tree.file(path, os.O_WRONLY)
                try:
                    place(file, data, data_at, extents)
                finally:
                    os.close(file)
            except OSError as error:
                self.lose(path, error.strerror)

    def lose(self, path, text):
        self.problem(path, text)
        self.lost.add(path)

    def set_aside(self, path):
        """What is not whole does not stand under its name, but beside it; where that name is taken or too
        long, it goes: nobody may take zeros for the file."""
        fd, name = self.tree.parent(path)
        try:
            os.link(name, name + b".incomplete", src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except OSError:
            pass
        os.unlink(name, dir_fd=fd)

    def finish(self):
        for path, entry in self.entries:
            if entry["kind"] == "file" and entry.get("extents") is not None and entry.get("sha256"):
                self.compare(path, entry["sha256"])
        for path in sorted(self.lost):
            for name in [path] + self.links.get(path, []):
                self.set_aside(name)
        for path, entry in self.entries:
            if entry["kind"] == "symlink":
                try:
                    fd, name = self.tree.parent(path)
                    os.symlink(raw(entry["link_target"]), name, dir_fd=fd)
                except OSError as error:
                    self.problem(path, error.strerror)
        # Directories get their times and modes after everything in them: the deepest come first.
        for path, entry in reversed(self.entries):
            if path in self.lost:
                continue
            try:
                self.metadata(path, entry)
            except OSError as error:
                self.problem(path, error.strerror)

    def compare(self, path, wanted):
        """Sparse files are compared as a whole: their digest counts holes as zeros."""
        try:
            with os.fdopen(self.tree.file(path, os.O_RDONLY), "rb") as file:
                digest = hashlib.sha256()
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
        except OSError as error:
            return self.lose(path, error.strerror)
        if digest.hexdigest() != wanted:
            self.lose(path, "has other content than the catalog says")

    def metadata(self, path, entry):
        if path:
            fd, name = self.tree.parent(path)
        else:
            fd, name = self.tree.root, b"."
        link = entry["kind"] == "symlink"
        if self.is_root:
            os.chown(name, entry["uid"], entry["gid"], dir_fd=fd, follow_symlinks=False)
        # After the owner, which clears capabilities; before the mode, which may forbid writing.
        for xattr in entry.get("xattrs") or []:
            key = xattr["name"].encode() if "name" in xattr else base64.b64decode(xattr["name_b64"])
            value = xattr["value"].encode() if "value" in xattr else base64.b64decode(xattr["value_b64"])
            try:
                os.setxattr(b"/proc/self/fd/%d/%s" % (fd, name), key, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                    raise
                self.notes.add("extended attributes %s.* could not be set" % os.fsdecode(key.split(b".")[0]))
        if not link:
            os.chmod(name, entry["mode"], dir_fd=fd)
        nanos = nanoseconds(entry["mtime"])
        os.utime(name, ns=(nanos, nanos), dir_fd=fd, follow_symlinks=False)


def place(file, data, data_at, extents):
    """Writes data, which begins `data_at` bytes into all data of the file, where its extents say."""
    if extents is None:
        extents = [(0, data_at + len(data))]
    before = 0
    for offset, length in extents:
        start, end = max(data_at, before), min(data_at + len(data), before + length)
        if start < end:
            piece, at = memoryview(data)[start - data_at:end - data_at], offset + start - before
            while piece:
                written = os.pwrite(file, piece, at)
                piece, at = piece[written:], at + written
        before += length


def nanoseconds(text):
    """RFC 3339 in UTC, any year, nine digits of a fraction, as nanoseconds since 1970."""
    match = re.match(r"(-?\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z\Z", text)
    if not match:
        raise OSError(errno.EINVAL, "a time that is not readable: " + text)
    year, month, day, hour, minute, second = (int(match.group(n)) for n in range(1, 7))
    # Days of the proleptic Gregorian calendar, by Howard Hinnant's days_from_civil.
    year -= month <= 2
    era = year // 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    year_of_era = year - era * 400
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    seconds = days * 86400 + hour * 3600 + minute * 60 + second
    return seconds * 10**9 + int((match.group(7) or "").ljust(9, "0"))


def main():
    parser = argparse.ArgumentParser(description="Restores files from a dualsync archive repository.")
    parser.add_argument("--identity", required=True, metavar="KEY", help="the age identity file")
    parser.add_argument("--to", required=True, metavar="DIR", help="a folder that does not exist or is empty")
    parser.add_argument("--point", metavar="P", help="SOURCE@TIME, a unique beginning of it, or SOURCE@latest")
    parser.add_argument("--path", metavar="GLOB", action="append", default=[], help="only what matches; may be repeated")
    parser.add_argument("--signing-public", metavar="RW...", help="the minisign public key of the recovery sheet")
    parser.add_argument("repository", metavar="REPO", help="the folder with repo.json, or a copy of the bucket")
    options = parser.parse_args()

    repository = Repository(options.repository, options.identity, options.signing_public)
    try:
        key, manifest = repository.choose(options.point)
        if not options.signing_public:
            print("not checked: who made this point (give --signing-public)", file=sys.stderr)
        refs = repository.refs(manifest, key)
        tree, globs = Tree(options.to), [glob_pattern(glob) for glob in options.path]
        # Lists that grow with the tree are kept here (or where TMPDIR says), and go with the script.
        with tempfile.TemporaryDirectory(prefix="recover-") as spill:
            restore = Restore(repository, tree, globs, spill)
            restore.plan(repository.lines(manifest))
            restore.fetch(refs)
            restore.finish()
    except Damage as damage:
        fail(str(damage))
    for note in sorted(restore.notes):
        print("note: " + note, file=sys.stderr)
    for problem in restore.problems:
        print("NOT restored: " + problem, file=sys.stderr)
    print("%s: %d entries into %s, %d problems" % (
        manifest["point"], restore.count, options.to, len(restore.problems)))
    sys.exit(1 if restore.problems else 0)


if __name__ == "__main__":
    main()
