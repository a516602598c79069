//! The reader as its parent sees it: a child that is started on a view and tells what it reads.
//!
//! The child gets the view and nothing else: no environment, no keys, no other descriptor. It is
//! killed when this is dropped, and dies by itself when this program does.

use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::Handle;

use super::cache::CachedImage;
use super::inside::{Line, MODE, Request, Work};
use super::overlay::Overlay;
use super::serve::{ServeError, Served, sweep};
use super::source::BlockSource;

/// Lines that may wait between the reader and who takes them.
const LINES_WAITING: usize = 256;
/// Where the programs are that a reader may start.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why nothing can be read from the image.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The view.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A folder for spill files.
    #[error("cannot use the folder '{folder}'")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The child.
    #[error("cannot start the reader of the stored image")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// It said why it stopped.
    #[error("{message}")]
    Failed {
        /// Why, with causes.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It ended without a last line.
    #[error("the reader of the stored image ended early ({status})")]
    Died {
        /// How.
        status: String,
    },
}

/// What a reader needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This program, which is started again as the reader.
    pub program: PathBuf,
    /// The private folder of the job.
    pub state: PathBuf,
    /// Whether the kernel may mount the image.
    pub kernel_mount: bool,
    /// Where blocks are fetched.
    pub runtime: Handle,
}

impl Setup {
    /// For the program that runs now.
    pub fn of_this_program(state: &Path, kernel_mount: bool, runtime: Handle) -> Self {
        // Not its path: it may have been replaced by a newer version meanwhile.
        Self { program: PathBuf::from("/proc/self/exe"), state: state.to_owned(), kernel_mount, runtime }
    }
}

/// What was seen of a reader.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// A line; [`Line::Done`] is the last.
    Line(Line),
    /// Nothing within the time.
    Nothing,
}

/// A running reader.
#[derive(Debug)]
pub struct Reader<S> {
    // In this order they are dropped: the child lets go of the view before it is taken down.
    child: KilledOnDrop,
    lines: Receiver<io::Result<String>>,
    served: Served,
    image: Arc<CachedImage<S>>,
}

#[derive(Debug)]
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<S: BlockSource> Reader<S> {
    /// Shows `image` and starts a reader on it. To be called on a thread that lives as long as the
    /// reader: the kernel takes the end of that thread for the end of the parent.
    pub fn start(image: S, setup: &Setup, work: Work) -> Result<Self, ReaderError> {
        sweep(&setup.state);
        let spill = setup.state.join("tmp");
        std::fs::create_dir_all(&spill).map_err(|source| ReaderError::Folder { folder: spill.clone(), source })?;
        let image = CachedImage::new(image);
        let view = Arc::new(Overlay::new(Arc::clone(&image), &spill));
        let served = Served::start(view, setup.runtime.clone(), &setup.state)?;
        let request =
            Request { kernel_mount: setup.kernel_mount, mount_point: served.mount_point(), state: spill, work };
        let root = served.root().map_err(|source| ReaderError::Start { source })?;
        let mut child = spawn(&setup.program, &request, root).map_err(|source| ReaderError::Start { source })?;
        let stdout = child.0.stdout.take();
        let (sender, lines) = sync_channel(LINES_WAITING);
        if let Some(stdout) = stdout {
            std::thread::spawn(move || pass_on(stdout, &sender));
        }
        Ok(Self { child, lines, served, image })
    }

    /// The image, for its damages and counts.
    pub fn image(&self) -> &Arc<CachedImage<S>> {
        &self.image
    }

    /// The next line, if one comes within `wait`.
    ///
    /// # Errors
    /// When the reader says that it failed, and when it ends without saying so.
    pub fn next(&mut self, wait: Duration) -> Result<Seen, ReaderError> {
        let text = match self.lines.recv_timeout(wait) {
            Ok(Ok(text)) => text,
            Err(RecvTimeoutError::Timeout) => return Ok(Seen::Nothing),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
        };
        match serde_json::from_str(&text) {
            Ok(Line::Failed { message, hint }) => Err(ReaderError::Failed { message, hint }),
            Ok(line) => Ok(Seen::Line(line)),
            Err(_) => Err(self.died()),
        }
    }

    fn died(&mut self) -> ReaderError {
        let _ = self.child.0.kill();
        let status =
            self.child.0.wait().map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
        ReaderError::Died { status }
    }

    /// The view, while the reader runs.
    pub fn served(&self) -> &Served {
        &self.served
    }
}

fn spawn(program: &Path, request: &Request, root: OwnedFd) -> io::Result<KilledOnDrop> {
    let request = serde_json::to_string(request).map_err(io::Error::other)?;
    let child = Command::new(program)
        .arg(MODE)
        .arg(request)
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::from(root))
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(KilledOnDrop(child))
}

/// Reads lines until the end, or until nobody takes them.
fn pass_on(stdout: ChildStdout, lines: &SyncSender<io::Result<String>>) {
    for line in BufReader::with_capacity(64 * 1024, stdout).lines() {
        if lines.send(line).is_err() {
            return;
        }
    }
}
