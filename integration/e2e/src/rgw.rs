//! A Ceph cluster of one monitor, one OSD in memory and one RADOS gateway on loopback: a real S3 store
//! that keeps versions and enforces object lock and conditional writes, which Garage does not.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bucket::{Bucket, credentials};
use crate::clockfile::ClockFile;
use crate::garage::{free_ports, random_hex};

/// The commands it needs; Debian's packages `ceph-mon`, `ceph-osd` and `radosgw`.
pub const COMMANDS: [&str; 5] = ["ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "python3"];

/// What our programs do not do, signed by version 2, which is short and which the gateway takes.
const SCRIPT: &str = include_str!("rgw.py");

/// A busy machine may take this long for each daemon.
const PATIENCE: Duration = Duration::from_mins(3);

/// A running cluster; it ends when this is dropped.
pub struct Rgw {
    daemons: Vec<Child>,
    directory: PathBuf,
    port: u16,
    access_key: String,
    secret_key: String,
    clock: Option<ClockFile>,
}

impl Rgw {
    /// Starts a cluster that keeps its files in `directory` and waits until the gateway answers.
    ///
    /// # Panics
    /// When one of the daemons does not start.
    pub fn start(directory: &Path) -> Self {
        Self::start_by(directory, None)
    }

    /// As [`Rgw::start`]; the gateway, which tells the time and dates the objects, goes by `clock`.
    ///
    /// # Panics
    /// As [`Rgw::start`].
    pub fn start_by(directory: &Path, clock: Option<&ClockFile>) -> Self {
        for folder in ["mon", "osd", "rgw"] {
            fs::create_dir_all(directory.join(folder)).unwrap();
        }
        let [monitor_port, port] = free_ports();
        let (fsid, osd) = (uuid(), uuid());
        fs::write(directory.join("ceph.conf"), configuration(directory, &fsid, monitor_port, port)).unwrap();
        let (access_key, secret_key) = (random_hex(10), random_hex(20));
        let (daemons, directory) = (Vec::new(), directory.to_owned());
        let mut rgw = Self { daemons, directory, port, access_key, secret_key, clock: clock.cloned() };

        let address = format!("[v2:127.0.0.1:{monitor_port}]");
        let _ = rgw.run("monmaptool", &["--create", "--addv", "a", &address, "--fsid", &fsid, "monmap"]);
        let _ = rgw.run("ceph-mon", &["--conf", "ceph.conf", "--mkfs", "-i", "a", "--monmap", "monmap"]);
        rgw.serve("ceph-mon", &["-i", "a"]);
        let _ = rgw.run("ceph", &["--conf", "ceph.conf", "osd", "new", &osd]);
        let _ = rgw.run("ceph-osd", &["--conf", "ceph.conf", "-i", "0", "--mkfs", "--osd-uuid", &osd]);
        rgw.serve("ceph-osd", &["-i", "0"]);
        let (key, secret) = (rgw.access_key.clone(), rgw.secret_key.clone());
        let user = ["user", "create", "--uid=e2e", "--display-name=e2e", "--access-key", &key, "--secret-key", &secret];
        let _ = rgw.run("radosgw-admin", &[&["--conf", "ceph.conf"], &user[..]].concat());
        rgw.serve("radosgw", &["-n", "client.admin"]);
        rgw.wait_until_it_answers();
        rgw
    }

    /// Makes a bucket; with `lock` one that keeps versions and can lock objects.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn bucket(&self, name: &str, lock: bool) -> Bucket {
        let lock = if lock { "true" } else { "false" };
        let _ = self.ask(&["bucket", name, lock]);
        Bucket {
            endpoint: self.endpoint(),
            region: "default",
            name: name.to_owned(),
            credentials: credentials(&self.access_key, &self.secret_key),
        }
    }

    /// Takes the right to delete in a bucket away, from its owner too: put-only credentials.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn forbid_deleting(&self, bucket: &str) {
        let _ = self.ask(&["forbid-deleting", bucket]);
    }

    /// Gives that right back.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn let_delete(&self, bucket: &str) {
        let _ = self.ask(&["let-delete", bucket]);
    }

    /// Lets somebody else, who is no host, do everything in a bucket; the bucket as they see it. Its owner may put and not
    /// delete.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn pruner(&self, name: &str) -> Bucket {
        let (key, secret) = (random_hex(10), random_hex(20));
        let uid = format!("--uid=pruner-{name}");
        let user = ["user", "create", &uid, "--display-name=pruner", "--access-key", &key, "--secret-key", &secret];
        let _ = self.run("radosgw-admin", &[&["--conf", "ceph.conf"], &user[..]].concat());
        let _ = self.ask(&["forbid-deleting", name, &format!("pruner-{name}")]);
        let credentials = credentials(&key, &secret);
        Bucket { endpoint: self.endpoint(), region: "default", name: name.to_owned(), credentials }
    }

    /// The keys of all objects in a bucket.
    ///
    /// # Panics
    /// When the gateway does not list.
    pub fn list(&self, bucket: &str) -> Vec<String> {
        self.ask(&["list", bucket]).lines().map(str::to_owned).collect()
    }

    /// Tries to delete every version of every object with the keys of the bucket's owner: what a thief on the host could
    /// do. The keys that are gone and those that the gateway refused to delete.
    ///
    /// # Panics
    /// When the gateway does not list.
    pub fn delete_all(&self, bucket: &str) -> (Vec<String>, Vec<String>) {
        let said = self.ask(&["delete-all", bucket]);
        let with =
            |word: &str| said.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect::<Vec<_>>();
        (with("gone "), with("refused "))
    }

    /// Puts a delete marker (`how` = `marker`) or other bytes (`junk`) on top of every object whose key begins with `prefix`, as
    /// a thief could.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn cover_all(&self, bucket: &str, how: &str, prefix: &str) {
        let _ = self.ask(&["cover-all", bucket, how, prefix]);
    }

    /// Puts an object with the keys of the bucket's owner, upon whatever is there.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn put(&self, bucket: &str, key: &str, text: &str) {
        let _ = self.ask(&["put", bucket, key, text]);
    }

    /// Deletes an object with the keys of the bucket's owner and names no version: a delete marker hides it.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub fn hide(&self, bucket: &str, key: &str) {
        let _ = self.ask(&["delete", bucket, key]);
    }

    /// The key of every version and until when it is locked (RFC 3339, `-` where it is not); of each key the newest first.
    ///
    /// # Panics
    /// When the gateway does not list.
    pub fn locks(&self, bucket: &str) -> Vec<(String, String)> {
        let said = self.ask(&["locks", bucket]);
        let line = |line: &str| line.split_once(' ').map(|(until, key)| (key.to_owned(), until.to_owned()));
        said.lines().filter_map(line).collect()
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Signed at the time that the gateway has.
    fn ask(&self, what: &[&str]) -> String {
        let endpoint = self.endpoint();
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, &endpoint, &self.access_key, &self.secret_key]).args(what);
        if let Some(clock) = &self.clock {
            clock.hold(&mut command);
        }
        self.end(command)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments);
        self.end(command)
    }

    fn end(&self, mut command: Command) -> String {
        let ended =
            command.current_dir(&self.directory).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{command:?}: {said}");
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    fn serve(&mut self, program: &str, arguments: &[&str]) {
        let log = fs::File::create(self.directory.join(format!("{program}.out"))).unwrap();
        let mut command = Command::new(program);
        command
            .args(["--conf", "ceph.conf", "--foreground"])
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(clock) = self.clock.as_ref().filter(|_| program == "radosgw") {
            clock.hold(&mut command);
        }
        self.daemons.push(command.spawn().expect(program));
    }

    /// The gateway has no line that says it listens, so its port is tried.
    fn wait_until_it_answers(&mut self) {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let gateway = self.daemons.last_mut().expect("the gateway was started last");
            let is_alive = gateway.try_wait().unwrap().is_none();
            assert!(
                is_alive && began.elapsed() < PATIENCE,
                "the gateway does not answer, see {}",
                self.directory.display()
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Rgw {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            ClockFile::clear_after(daemon.id());
        }
    }
}

/// No authentication between the daemons, one copy of each object, everything in memory.
fn configuration(directory: &Path, fsid: &str, monitor_port: u16, port: u16) -> String {
    let here = directory.display();
    format!(
        "[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor_port}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon data = {here}/mon
osd data = {here}/osd
rgw data = {here}/rgw
run dir = {here}
admin socket = {here}/$name.asok
pid file = {here}/$name.pid
log file = {here}/$name.log
rgw frontends = beast endpoint=127.0.0.1:{port}
"
    )
}

/// A random UUID in the form that Ceph reads.
fn uuid() -> String {
    let hex = random_hex(16);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
