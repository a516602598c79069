//! A Garage server on loopback: a real S3 store as one country.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::bucket::{self, Bucket};
use crate::clockfile::ClockFile;
use crate::site::write_secret;

/// The bucket that every server here has.
pub const BUCKET: &str = "copies";

/// The file of its settings, in its directory.
const CONFIG: &str = "garage.toml";

/// A server; it ends when this is dropped.
pub struct Garage {
    /// `None` while it is stopped.
    process: Option<Child>,
    directory: PathBuf,
    clock: Option<ClockFile>,
    s3_port: u16,
    access_key: String,
    secret_key: String,
}

impl Garage {
    /// Starts a server that keeps everything in `directory` and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start(directory: &Path) -> Self {
        Self::start_by(directory, None)
    }

    /// As [`Garage::start`]; the server goes by `clock`.
    ///
    /// # Panics
    /// As [`Garage::start`].
    pub fn start_by(directory: &Path, clock: Option<&ClockFile>) -> Self {
        fs::create_dir_all(directory).unwrap();
        // Ids of a fixed form: `GK` and 24 hex digits, 64 hex digits for the secret.
        let access_key = format!("GK{}", random_hex(12));
        let secret_key = random_hex(32);
        let [s3_port, rpc_port] = free_ports();
        write_secret(&directory.join(CONFIG), &configuration(directory, s3_port, rpc_port));
        let (directory, clock) = (directory.to_owned(), clock.cloned());
        let mut garage = Self { process: None, directory, clock, s3_port, access_key, secret_key };
        garage.resume();
        garage
    }

    /// Starts it again after [`Garage::stop`], with what it holds, at the same place; one that runs goes on.
    ///
    /// # Panics
    /// As [`Garage::start`].
    pub fn resume(&mut self) {
        if self.process.is_some() {
            return;
        }
        let mut command = Command::new("garage");
        command
            .arg("--config")
            .arg(self.directory.join(CONFIG))
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", &self.access_key)
            .env("GARAGE_DEFAULT_SECRET_KEY", &self.secret_key)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "garage=info,garage_api_common=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(clock) = &self.clock {
            clock.hold(&mut command);
        }
        let mut process = command.spawn().expect("cannot start garage");
        wait_until_it_listens(&mut process, &self.directory);
        self.process = Some(process);
    }

    /// Stops it, as a power cut would: nobody listens at its port, and what it answered for stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            ClockFile::clear_after(process.id());
        }
    }

    /// The S3 endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    /// A credentials file for the bucket's owner.
    pub fn credentials(&self) -> String {
        bucket::credentials(&self.access_key, &self.secret_key)
    }

    /// Its one bucket.
    pub fn bucket(&self) -> Bucket {
        Bucket { endpoint: self.endpoint(), region: "garage", name: BUCKET.to_owned(), credentials: self.credentials() }
    }

    /// Where the server keeps its data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.stop();
    }
}

fn configuration(directory: &Path, s3_port: u16, rpc_port: u16) -> String {
    format!(
        r#"metadata_dir = "{here}/meta"
data_dir = "{here}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc_port}"
rpc_public_addr = "127.0.0.1:{rpc_port}"
rpc_secret = "{}"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{s3_port}"
"#,
        random_hex(32),
        here = directory.display()
    )
}

/// Reads the log up to the line that the S3 API says when it is up, and goes on draining it.
fn wait_until_it_listens(process: &mut Child, directory: &Path) {
    let mut lines = BufReader::new(process.stderr.take().expect("stderr is piped")).lines();
    let mut log = fs::File::create(directory.join("log")).unwrap();
    loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("garage ended: {}", fs::read_to_string(directory.join("log")).unwrap_or_default());
        };
        writeln!(log, "{line}").unwrap();
        if line.contains("S3 API server listening") {
            break;
        }
    }
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
        }
    });
}

/// Two ports that nobody listened on a moment ago.
pub(crate) fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) fn random_hex(bytes: usize) -> String {
    use std::io::Read as _;
    let mut buffer = vec![0; bytes];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut buffer).unwrap();
    buffer.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
