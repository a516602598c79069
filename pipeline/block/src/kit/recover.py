#!/usr/bin/env python3
"""Restores a volume image from a dualsync block repository, format 1, without dualsync.

Needs Python 3.6 or later and OpenSSL's libcrypto (found by ctypes), nothing else.

    python3 recover.py --identity KEYFILE --list REPO_DIR
    python3 recover.py --identity KEYFILE --to IMAGE [--point SOURCE@TIME] REPO_DIR

REPO_DIR is a local copy of the bucket or folder. Without --point the newest point is restored; with
several sources, --point must say which. Every object is proved by its SHA-256 and every record by its
AES-GCM tag; what is damaged is reported, left as zeros, and the exit code is 21. A lost repo.json or
key slot is reported too, and stops nothing: manifests say the same and prove themselves. After a rotation
the newest key file is the right one: it leads to every key before it.
"""
import argparse
import ctypes
import ctypes.util
import glob
import hashlib
import hmac
import json
import os
import struct
import sys
import zlib

MAGIC = b"DSBLOCK\x01"
HEADER, RECORD, TAG, SALT_AT = 80, 16, 16, 48
MANIFEST, MAP, PACK = 1, 2, 3
BLOCKS_PER_PAGE = 1024
PLAIN_MAX = 8 << 20
ROTATIONS_MAX = 64
BRANCH = {MANIFEST: b"manifest", MAP: b"map", PACK: b"pack"}


class Damage(Exception):
    word = "damaged"


class Later(Damage):
    """Not damage: this program is too old for it. It hides no other object either."""

    word = "of a later format"


def load_libcrypto():
    names = ["libcrypto.so.3", ctypes.util.find_library("crypto"), "libcrypto.so.1.1", "libcrypto.so"]
    for name in names:
        if name:
            try:
                lib = ctypes.CDLL(name)
                lib.EVP_aes_256_gcm
                break
            except (OSError, AttributeError):
                continue
    else:
        sys.exit("recover.py needs OpenSSL's libcrypto (package libssl3 or openssl-libs)")
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    lib.EVP_CIPHER_CTX_new.restype = pointer
    lib.EVP_aes_256_gcm.restype = pointer
    lib.EVP_CIPHER_CTX_free.argtypes = [pointer]
    lib.EVP_DecryptInit_ex.argtypes = [pointer, pointer, pointer, text, text]
    lib.EVP_DecryptUpdate.argtypes = [pointer, pointer, ctypes.POINTER(number), text, number]
    lib.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, number, number, pointer]
    lib.EVP_DecryptFinal_ex.argtypes = [pointer, pointer, ctypes.POINTER(number)]
    return lib


LIB = load_libcrypto()


def aes_gcm_open(key, nonce, aad, body, tag):
    context = LIB.EVP_CIPHER_CTX_new()
    try:
        length = ctypes.c_int(0)
        out = ctypes.create_string_buffer(len(body) + 16)
        good = LIB.EVP_DecryptInit_ex(context, LIB.EVP_aes_256_gcm(), None, key, nonce) == 1
        good = good and LIB.EVP_DecryptUpdate(context, None, ctypes.byref(length), aad, len(aad)) == 1
        plain = b""
        if good and body:
            good = LIB.EVP_DecryptUpdate(context, out, ctypes.byref(length), body, len(body)) == 1
            plain = out.raw[: length.value]
        tag_buffer = ctypes.create_string_buffer(tag, 16)
        good = good and LIB.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, tag_buffer) == 1
        good = good and LIB.EVP_DecryptFinal_ex(context, out, ctypes.byref(length)) == 1
        if not good:
            raise Damage("a record is not what was sealed")
        return plain
    finally:
        LIB.EVP_CIPHER_CTX_free(context)


def hkdf(salt, secret, info):
    prk = hmac.new(salt or b"\0" * 32, secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()


def fits(mac_key, name, covered, mac):
    expected = hmac.new(mac_key, name + b"\0" + covered, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), mac)


def key_name(key):
    return hkdf(b"", key, b"dualsync-block/1 key id")[:16]


class Repository:
    def __init__(self, folder, key):
        self.folder, self.problems = folder, []
        if not self.take(key, *self.described()):
            self.take(key, self.id_of_manifests(key_name(key)))
        self.problems += self.lost

    def described(self):
        """The repository id, the text and its MAC, as repo.json claims them."""
        try:
            with open(os.path.join(self.folder, "repo.json"), "rb") as file:
                text = file.read()
            info = json.loads(text.decode())
            version, identity = info.get("version"), bytes.fromhex(info["id"])
            covered, mac = text[: -len(b'"}\n')].rsplit(b',"mac":"', 1)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.problems.append("repo.json cannot be read: %s" % error)
            return None, b"", b""
        if version != 1:
            sys.exit("this repository has format version %s; this program reads version 1" % version)
        return identity, covered, mac

    def id_of_manifests(self, key_id):
        """The id that manifests under this key name in clear; their tags prove it later."""
        names = sorted(glob.glob(os.path.join(glob.escape(self.folder), "points", "*", "*")))
        for name in names:
            with open(name, "rb") as file:
                header = file.read(HEADER)
            if len(header) == HEADER and header[:8] == MAGIC and header[16:32] == key_id:
                return header[32:48]
        if names:
            sys.exit("wrong key: nothing here is sealed with key %s" % key_id.hex())
        sys.exit("there is no repository in %s, or nothing in it" % self.folder)

    def take(self, key, identity, covered=None, mac=None):
        """Derives the branches of this key and of every key before it, which the slots lead to; whether
        the first one is proved, where there is a MAC to prove it."""
        if identity is None:
            return False
        self.id, self.keys, self.lost = identity, {}, []
        while True:
            name = key_name(key)
            branches = {kind: hkdf(identity, key, b"dualsync-block/1 " + text) for kind, text in BRANCH.items()}
            self.keys[name] = branches
            mac_key = hkdf(b"", branches[MANIFEST], b"dualsync-block/1 mac")
            if covered is not None and fits(mac_key, b"repo.json", covered, mac):
                self.previous(key, name, mac_key)
                return True
            key = self.previous(key, name, mac_key)
            if key is None or len(self.keys) > ROTATIONS_MAX:
                break
        if covered is None:
            return True
        self.problems.append("repo.json is damaged, or the key is another repository's")
        return False

    def previous(self, key, name, mac_key):
        """The key that was used before this one, out of its slot; None where this is the first one."""
        for end in ".json", ".copy.json":
            path = "keys/" + name.hex() + end
            try:
                with open(os.path.join(self.folder, path), "rb") as file:
                    covered, mac = file.read()[: -len(b'"}\n')].rsplit(b',"mac":"', 1)
                if not fits(mac_key, path.encode(), covered, mac):
                    continue
                before = json.loads((covered + b"}").decode()).get("previous")
                if before is None:
                    return None
                sealed, before = bytes.fromhex(before["sealed"]), bytes.fromhex(before["key_id"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            branch = hkdf(self.id, key, b"dualsync-block/1 slot")
            slot_key = hkdf(sealed[:32], branch, b"dualsync-block/1 previous key")
            bound = b"dualsync-block/1 rotated\0" + self.id + name + before
            return aes_gcm_open(slot_key, b"\0" * 12, bound, sealed[32:64], sealed[64:])
        self.lost.append("keys/%s.json is missing" % name.hex())
        return None

    def object(self, name):
        """The bytes of a stored object whose name ends in its SHA-256."""
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                data = file.read()
        except OSError as error:
            raise Damage("%s: %s" % (name, error.strerror))
        if hashlib.sha256(data).hexdigest() != name[-64:]:
            raise Damage("%s: its bytes do not have the digest of its name" % name)
        return data

    def opener(self, kind, data, binding=b""):
        magic, version, suite, found, epoch = struct.unpack_from("<8sHBBI", data)
        if magic != MAGIC:
            raise Damage("not an object of a block repository")
        if (version, suite, epoch) != (1, 1, 0):
            raise Later("version %d, suite %d, epoch %d" % (version, suite, epoch))
        if found != kind or data[16:32] not in self.keys or data[32:48] != self.id:
            raise Damage("sealed with another key, for another repository, or of another kind")
        key = hkdf(data[SALT_AT:HEADER], self.keys[data[16:32]][kind], b"dualsync-block/1 object " + bytes([kind]))
        prefix = data[:SALT_AT]

        def record(at, plain_max=PLAIN_MAX):
            head = data[at : at + RECORD]
            if len(head) < RECORD:
                raise Damage("an object ends too early")
            number, plain_length, body_length, codec, last, _ = struct.unpack("<IIIBBH", head)
            body = data[at + RECORD : at + RECORD + body_length]
            tag = data[at + RECORD + body_length : at + RECORD + body_length + TAG]
            if len(tag) < TAG or plain_length > plain_max:
                raise Damage("an object ends too early, or a record is too long")
            nonce = struct.pack("<I", number) + b"\0" * 8
            plain = aes_gcm_open(key, nonce, prefix + head + binding, body, tag)
            if codec == 1:
                plain = zlib.decompressobj(-15).decompress(plain, plain_length + 1)
            if len(plain) != plain_length:
                raise Damage("a record does not inflate to its length")
            return plain, number, last == 1, at + RECORD + body_length + TAG

        return record

    def manifest(self, name):
        data = self.object(name)
        sequence, _, maps, packs = struct.unpack_from("<Q32sII", data, HEADER)
        end = HEADER + 48 + 40 * (maps + packs)
        clear, stem = data[HEADER:end], name[:-65]
        map_names = [clear[48 + 40 * i : 80 + 40 * i].hex() for i in range(maps)]
        record = self.opener(MANIFEST, data, hashlib.sha256(clear).digest() + stem.encode())
        body, _, last, at = record(end)
        table, expected = b"", 1
        while not last:
            part, number, last, at = record(at)
            if number != expected:
                raise Damage("records of a manifest are not in order")
            table, expected = table + part, expected + 1
        pages, base = [], None
        for i in range(0, len(table), 48):
            digest, number, offset, length, kind = struct.unpack_from("<32sIIII", table, i)
            where = (map_names[number], offset) if kind else None
            if kind == 2:
                base = where
            else:
                pages.append([base, where] if kind == 3 else [where])
                base = None
        return sequence, json.loads(body.decode()), pages


def parse_page(plain, page, base=None):
    """The page as a list: None for zeros, else (pack, offset, length)."""
    kind, blocks, entries, packs, index = struct.unpack_from("<HHHHQ", plain)
    if index != page:
        raise Damage("a map page is in the place of another")
    at = 16
    if kind == 1:
        bitmap = plain[at : at + 128]
        at += 128
        positions = [p for p in range(blocks) if bitmap[p // 8] >> (p % 8) & 1]
        result = [None] * blocks
    elif kind == 2 and base is not None:
        at += 32
        positions = struct.unpack_from("<%dH" % entries, plain, at)
        at += 2 * entries
        result = list(base)
    else:
        raise Damage("a map page of an unknown kind")
    names = [plain[at + 64 * i : at + 64 * i + 32].hex() for i in range(packs)]
    at += 64 * packs + 32 * entries
    numbers = struct.unpack_from("<%dH" % entries, plain, at)
    offsets = struct.unpack_from("<%dI" % entries, plain, at + 2 * entries)
    for position, number, offset in zip(positions, numbers, offsets):
        result[position] = None if number == 0xFFFF else (names[number], offset)
    return result


class Objects:
    """Keeps the last few opened objects, so that neighbours cost one read."""

    def __init__(self, repository, kind, folder, keep):
        self.repository, self.kind, self.folder, self.keep, self.open = repository, kind, folder, keep, {}

    def record(self, name, at):
        if name not in self.open:
            while len(self.open) >= self.keep:
                self.open.pop(next(iter(self.open)))
            key = "%s/%s/%s" % (self.folder, name[:2], name)
            try:
                self.open[name] = self.repository.opener(self.kind, self.repository.object(key))
            except Damage as damage:
                self.open[name] = damage
        if isinstance(self.open[name], Damage):
            raise self.open[name]
        return self.open[name](at)[0]


def points(repository):
    found, bad = [], []
    root = os.path.join(repository.folder, "points")
    for source in sorted(os.listdir(root) if os.path.isdir(root) else []):
        for name in sorted(os.listdir(os.path.join(root, source))):
            key = "points/%s/%s" % (source, name)
            try:
                sequence, body, pages = repository.manifest(key)
                found.append((sequence, body["point"], key, body, pages))
            except (Damage, ValueError, KeyError, IndexError, struct.error) as error:
                bad.append(problem(error, "manifest %s" % key))
    return sorted(found, key=lambda point: point[0]), bad


def problem(error, what):
    """A line for people that begins with what kind of problem it is."""
    return "%s: %s: %s" % (getattr(error, "word", Damage.word), what, error)


def exit_code(problems):
    """21 for damage; 1 where all that is wrong is that this program is too old."""
    if not problems:
        return 0
    return 1 if all(line.startswith(Later.word) for line in problems) else 21


def restore(repository, body, pages, to):
    block_bytes, size, problems = body["block_bytes"], body["source_bytes"], []
    maps = Objects(repository, MAP, "maps", 2)
    packs = Objects(repository, PACK, "packs", 4)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(to, flags, 0o600), "wb") as out:
        out.truncate(size)
        for index, where in enumerate(pages):
            try:
                page = None
                for place in where:
                    page = parse_page(maps.record(*place), index, page) if place else []
            except (Damage, struct.error, IndexError) as error:
                problems.append(problem(error, "blocks %d and up to 1023 more" % (index * BLOCKS_PER_PAGE)))
                continue
            for position, block in enumerate(page):
                if block is None:
                    continue
                number = index * BLOCKS_PER_PAGE + position
                try:
                    plain = packs.record(*block)
                    if len(plain) != min(block_bytes, size - number * block_bytes):
                        raise Damage("a block has the wrong length")
                except (Damage, struct.error) as error:
                    problems.append(problem(error, "block %d" % number))
                    continue
                out.seek(number * block_bytes)
                out.write(plain)
        out.flush()
        os.fsync(out.fileno())
    return problems


def read_key(path):
    with open(path, encoding="ascii") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    tag = "dualsync-block-key-1:"
    if len(lines) != 1 or not lines[0].startswith(tag) or len(lines[0]) != len(tag) + 64:
        sys.exit("%s is not a block key file" % path)
    return bytes.fromhex(lines[0][len(tag) :])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--identity", required=True, metavar="KEYFILE", help="the repository key file")
    parser.add_argument("--to", metavar="IMAGE", help="the image file to make; it must not exist")
    parser.add_argument("--point", metavar="SOURCE@TIME", help="the point; the newest one when left out")
    parser.add_argument("--list", action="store_true", help="only show the points")
    parser.add_argument("repo", metavar="REPO_DIR", help="a local copy of the repository")
    options = parser.parse_args()
    repository = Repository(options.repo, read_key(options.identity))
    found, bad = points(repository)
    bad = ["damaged: %s" % line for line in repository.problems] + bad
    for line in bad:
        print(line, file=sys.stderr)
    if options.list or not options.to:
        for sequence, point, key, body, _ in found:
            print("%s  %d bytes  sequence %d  %s" % (point, body["source_bytes"], sequence, key))
        sys.exit(exit_code(bad))
    wanted = [p for p in found if options.point in (None, p[1])]
    if not wanted and any(line.startswith(Later.word) for line in bad):
        sys.exit("the manifests that are there are of a later format: use a newer recover.py")
    if not wanted:
        sys.exit("there is no such point; use --list")
    if options.point is None and len({p[1].split("@")[0] for p in wanted}) > 1:
        sys.exit("there are several sources; use --point")
    _, point, _, body, pages = wanted[-1]
    try:
        problems = restore(repository, body, pages, options.to)
    except FileExistsError:
        sys.exit("%s exists; it is not overwritten" % options.to)
    for line in problems:
        print(line, file=sys.stderr)
    print("%s restored to %s, %d bytes, %d problems" % (point, options.to, body["source_bytes"], len(problems)))
    sys.exit(exit_code(problems + ["damaged: %s" % line for line in repository.problems]))


if __name__ == "__main__":
    main()
