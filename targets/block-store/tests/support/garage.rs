//! A Garage server of one node on the loopback, in a folder of its own.
//!
//! The program is the one that `DUALSYNC_GARAGE` names, else the one in the PATH. Where there is
//! none, the test says that it was skipped, or fails with `DUALSYNC_NO_SKIP`.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::port;

/// A running server with one bucket.
pub struct Garage {
    process: Child,
    _folder: TempDir,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
}

pub const BUCKET: &str = "copies";
pub const REGION: &str = "garage";

impl Garage {
    /// Starts a server, or says why not and returns `None`.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            let must_run = std::env::var_os("DUALSYNC_NO_SKIP").is_some();
            assert!(!must_run, "no garage in DUALSYNC_GARAGE or the PATH, and DUALSYNC_NO_SKIP is set");
            println!("skipped: no garage in DUALSYNC_GARAGE or the PATH");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (s3, rpc) = (port::free(), port::free());
        let config = folder.path().join("garage.toml");
        let at = folder.path().display();
        let text = format!(
            "metadata_dir = \"{at}/meta\"\ndata_dir = \"{at}/data\"\ndb_engine = \"sqlite\"\n\
             replication_factor = 1\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n",
            hex(32)
        );
        std::fs::write(&config, text).unwrap();
        let (access_key, secret_key) = (format!("GK{}", hex(12)), hex(32));
        let mut process = Command::new(program)
            .arg("-c")
            .arg(&config)
            .args(["server", "--single-node", "--default-bucket"])
            .envs([("GARAGE_DEFAULT_ACCESS_KEY", &access_key), ("GARAGE_DEFAULT_SECRET_KEY", &secret_key)])
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "garage=info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let ready = lines.by_ref().any(|line| line.contains("S3 API server listening"));
        assert!(ready, "garage did not start: see its log with RUST_LOG");
        // The pipe is read on, so that the server never waits for it.
        std::thread::spawn(move || lines.for_each(drop));
        wait_for_port(s3, &mut process);
        let endpoint = format!("http://127.0.0.1:{s3}");
        Some(Self { process, _folder: folder, endpoint, access_key, secret_key })
    }
}

/// Garage says that it listens a moment before it does.
fn wait_for_port(port: u16, process: &mut Child) {
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(process.try_wait().unwrap().is_none(), "garage ended before it listened");
        std::thread::yield_now();
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DUALSYNC_GARAGE") {
        return Some(named.into());
    }
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("garage")).find(|file| file.is_file())
}

fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    random.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
