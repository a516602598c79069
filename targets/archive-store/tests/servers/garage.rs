//! One Garage for one test: a bucket on the loopback that goes away with the test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::loopback::unused_port;

/// The region the server signs for.
pub const REGION: &str = "garage";

/// Its only bucket.
pub const BUCKET: &str = "archive";

pub struct Garage {
    child: Child,
    _home: TempDir,
    pub endpoint: String,
    pub id: String,
    pub secret: String,
}

/// `DUALSYNC_GARAGE`, else `garage` in the PATH.
fn find() -> Option<PathBuf> {
    let named = std::env::var_os("DUALSYNC_GARAGE").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("garage")).find(|file| file.is_file()))
}

fn random_hex(digits: usize) -> String {
    (0..digits).map(|_| char::from_digit(getrandom::u32().unwrap() % 16, 16).unwrap()).collect()
}

impl Garage {
    /// A running server, or `None` and a line that says so; a failure with `DUALSYNC_NO_SKIP`.
    pub fn run() -> Option<Self> {
        let Some(program) = find() else {
            let must_run = std::env::var_os("DUALSYNC_NO_SKIP").is_some();
            assert!(!must_run, "needs garage, from DUALSYNC_GARAGE or the PATH, and DUALSYNC_NO_SKIP is set");
            println!("skipped: needs garage, from DUALSYNC_GARAGE or the PATH");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let (port, rpc) = (unused_port(), unused_port());
        let dir = home.path().to_str().unwrap();
        let config = format!(
            r#"
            metadata_dir = "{dir}/meta"
            data_dir = "{dir}/data"
            db_engine = "sqlite"
            replication_factor = 1
            rpc_bind_addr = "127.0.0.1:{rpc}"
            rpc_secret = "{}"
            [s3_api]
            s3_region = "{REGION}"
            api_bind_addr = "127.0.0.1:{port}"
            "#,
            random_hex(64)
        );
        let file = home.path().join("garage.toml");
        fs::write(&file, config).unwrap();
        let (id, secret) = (format!("GK{}", random_hex(24)), random_hex(64));
        let mut child = Command::new(program)
            .args(["-c", file.to_str().unwrap(), "server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("GARAGE_DEFAULT_ACCESS_KEY", &id)
            .env("GARAGE_DEFAULT_SECRET_KEY", &secret)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listens = log.any(|line| line.contains("S3 API server listening"));
        assert!(listens, "garage ended before it was ready");
        // Read to the end, or the server would stand still once the pipe is full.
        std::thread::spawn(move || log.for_each(drop));
        // The line in the log comes a moment before the socket.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "garage ended before it was ready");
            std::thread::yield_now();
        }
        Some(Self { child, _home: home, endpoint: format!("http://127.0.0.1:{port}"), id, secret })
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
