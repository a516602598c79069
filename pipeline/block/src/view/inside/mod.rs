//! The reader: a child of the program that mounts the file system of a view, and reads it.
//!
//! It is started as `dualsync-block read-image REQUEST` with the root folder of the view as its
//! standard input, and prints [`Line`]s. It has no keys, no credentials and no environment. It may
//! be killed at any moment: its mounts live in its descriptors or in its own mount namespace.

mod attach;
mod content;
mod entry;
mod extents;
mod extract;
mod kernel;
mod mount;
mod open;
mod protocol;
mod scouts;
mod select;
mod target;
mod userspace;
mod walk;
mod witness;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

pub use self::protocol::{Extract, Line, MountedBy, Request, Work};
use crate::fetch::sentence;
use crate::view::sort::SortError;

/// The first argument that makes the program a reader.
pub const MODE: &str = "read-image";

/// Why the reader stops before the end.
#[derive(Debug, thiserror::Error)]
enum InsideError {
    /// The image cannot be mounted.
    #[error(transparent)]
    Mount(#[from] mount::MountError),
    /// Spill files.
    #[error(transparent)]
    Sort(#[from] SortError),
    /// Its parent does not listen any more.
    #[error("cannot tell what was read")]
    Output(#[source] io::Error),
    /// A folder that was read a moment ago cannot be reached again.
    #[error("the tree changed while it was read")]
    Changed,
    /// The place to restore to.
    #[error("cannot restore to '{folder}'")]
    Target {
        /// Which.
        folder: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A glob that is none.
    #[error("'{glob}' is no glob")]
    Glob {
        /// What was typed.
        glob: String,
        /// Why.
        source: globset::Error,
    },
}

/// Runs the reader; `request` is the second argument of the program. `None` for what the program
/// does not say to itself.
pub fn main(request: &OsStr) -> Option<ExitCode> {
    let request = serde_json::from_str::<Request>(request.to_str()?).ok()?;
    // When the parent is gone there is nobody to read for.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut out = Output::new();
    let outcome = work(&request, &mut out);
    let last = match &outcome {
        Ok(done) => out.line(done),
        Err(error) => out.line(&failed(error)),
    };
    let told = last.and_then(|()| out.flush()).is_ok();
    Some(if outcome.is_ok() && told { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn work(request: &Request, out: &mut Output) -> Result<Line, InsideError> {
    let stdin = io::stdin();
    let tree = mount::mount(stdin.as_fd(), request)?;
    out.line(&Line::Mounted { file_system: tree.file_system().to_owned(), by: tree.by() })?;
    out.flush()?;
    match &request.work {
        Work::Facts { slice } => witness::witness(&tree, *slice, &request.state, out),
        Work::Extract(extract) => extract::extract(&tree, extract, &request.state, out),
    }
}

fn failed(error: &InsideError) -> Line {
    let hint = if let InsideError::Mount(error) = error { error.hint().map(str::to_owned) } else { None };
    Line::Failed { message: sentence(error), hint }
}

/// Lines to the parent, flushed with each sign of progress.
struct Output {
    writer: io::BufWriter<io::Stdout>,
}

impl Output {
    fn new() -> Self {
        Self { writer: io::BufWriter::with_capacity(64 * 1024, io::stdout()) }
    }

    fn line(&mut self, line: &Line) -> Result<(), InsideError> {
        let mut json = serde_json::to_vec(line).map_err(|error| InsideError::Output(error.into()))?;
        json.push(b'\n');
        self.writer.write_all(&json).map_err(InsideError::Output)
    }

    fn flush(&mut self) -> Result<(), InsideError> {
        self.writer.flush().map_err(InsideError::Output)
    }
}
