"""Where the tools put what they keep: a directory, or a bucket of a local Garage server."""

import os
import secrets
import socket
import subprocess

from benching.running import empty, stored_bytes


class Directories:
    """Each tool has a directory of its own."""

    name = "directory"

    def fresh(self, home):
        """Room for `home`'s repositories, with nothing in it."""
        empty(home / "repository")

    def stored_bytes(self, home):
        return stored_bytes(home / "repository")

    def restic(self, home):
        return [home / "repository"], {}

    def dualsync(self, home, part):
        (home / "repository" / part).mkdir(parents=True, exist_ok=True)
        return f'kind = "directory"\npath = "{home}/repository/{part}"'


class Garage:
    """One real S3 server on loopback, started with the command `inside`; a tool's repositories are prefixes of its one bucket."""

    name = "garage"

    def __init__(self, folder, inside=()):
        self.folder, self.inside = folder, list(inside)
        self.access, self.secret = f"GK{secrets.token_hex(12)}", secrets.token_hex(32)
        self.round = 0

    def __enter__(self):
        empty(self.folder)
        s3, rpc = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{s3}"
        (self.folder / "garage.toml").write_text(CONFIG.format(
            here=self.folder, s3=s3, rpc=rpc, secret=secrets.token_hex(32)))
        (self.folder / "garage.toml").chmod(0o600)
        self.process = subprocess.Popen(
            [*self.inside, "garage", "--config", self.folder / "garage.toml", "server", "--single-node", "--default-bucket"],
            env=os.environ | {"GARAGE_DEFAULT_ACCESS_KEY": self.access, "GARAGE_DEFAULT_SECRET_KEY": self.secret,
                              "GARAGE_DEFAULT_BUCKET": "bench", "RUST_LOG": "garage=info,garage_api_common=info"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "S3 API server listening" in line:
                break
        else:
            raise SystemExit("bench: garage ended")
        self.log = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.kill(), self.process.wait(), self.log.wait()

    def fresh(self, home):
        self.round += 1
        home.mkdir(parents=True, exist_ok=True)
        (home / "prefix").write_text(f"{home.name}/{self.round}")
        for part in ["block", "archive"]:  # dualsync takes no file twice; here one account has to do
            (home / f"{part}.credentials").touch(0o600)
            (home / f"{part}.credentials").write_text(
                f"[default]\naws_access_key_id = {self.access}\naws_secret_access_key = {self.secret}\n")

    def stored_bytes(self, home):
        return 0  # a server's own business: the same bytes as in a directory

    def restic(self, home):
        environment = {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_DEFAULT_REGION": "garage"}
        return [f"s3:{self.endpoint}/bench/{(home / 'prefix').read_text()}"], environment

    def dualsync(self, home, part):
        return (f'kind = "s3"\nendpoint = "{self.endpoint}"\nregion = "garage"\nbucket = "bench"\n'
                f'prefix = "{(home / "prefix").read_text()}/{part}"\ncredentials = "file:{home}/{part}.credentials"')


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


CONFIG = """metadata_dir = "{here}/meta"
data_dir = "{here}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{s3}"
"""
