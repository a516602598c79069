//! `restore`: brings a point back to an image file or a device, and proves every block of it.
//!
//! Pages come in order, blocks by pack in ranges, several requests at once. What is there already is
//! hashed first when resuming, and only what does not match is fetched. A damaged object costs its
//! own blocks: they become zeros and findings, everything else comes back. At the end all is
//! flushed, read again from the medium, and compared with the map.
//!
//! Power cut anywhere: the target is unfinished, and `resume` goes on from what is right on it.

mod damage;
mod image;
mod proof;
mod readback;
pub mod sink;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use dualsync_model::job::{RestoreTask, Shape};
use dualsync_model::outcome::Exit;

use crate::device::DeviceError;
use crate::events::Events;
use crate::fetch::ObjectError;
use crate::image::{ImageOpenError, open_manifest};
use crate::reading::Reading;
use crate::repository::Repository;
use crate::restore::image::ImageRestore;
use crate::restore::sink::{Sink, SinkError};
use crate::trouble::Trouble;

/// Why a restore did not end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The point cannot be opened.
    #[error(transparent)]
    Point(#[from] ImageOpenError),
    /// The target cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The target cannot be read back.
    #[error("cannot read back what was restored")]
    ReadBack(#[from] DeviceError),
    /// The store does not answer.
    #[error("cannot fetch the point")]
    Fetch(#[source] ObjectError),
    /// A worker thread ended by a panic.
    #[error("a worker thread ended unexpectedly")]
    Worker(#[from] tokio::task::JoinError),
    /// The writer ended while there was more to write; it says why itself.
    #[error("the thread that writes ended unexpectedly")]
    Writer,
    /// The medium gave other bytes than were written.
    #[error("'{path}' does not hold what was written at block {block}: its medium or memory is at fault")]
    Unfaithful {
        /// The target.
        path: PathBuf,
        /// The first such block.
        block: u64,
    },
    /// Trees are restored elsewhere.
    #[error("a directory is not restored block by block")]
    Tree,
}

impl RestoreError {
    /// How the program ends with it.
    pub fn trouble(self) -> Trouble {
        match self {
            Self::Point(error) => error.into(),
            Self::Fetch(error) => error.into(),
            Self::Sink(SinkError::Exists(_)) => Trouble::new(Exit::Usage, "usage", &self)
                .with_hint("choose another target, or add --overwrite or --resume"),
            Self::Sink(SinkError::TooSmall { .. } | SinkError::OtherKind { .. }) => {
                Trouble::new(Exit::Usage, "usage", &self)
            }
            Self::Sink(_) | Self::ReadBack(_) | Self::Unfaithful { .. } => Trouble::new(Exit::Failed, "target", &self)
                .with_hint("mend the target's medium or make room, then restore again with --resume"),
            Self::Worker(_) | Self::Writer | Self::Tree => Trouble::new(Exit::Failed, "internal", &self),
        }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Blocks of the image.
    pub blocks: u64,
    /// Bytes of the image.
    pub bytes: u64,
    /// Blocks that are zeros because their object is damaged.
    pub damaged: u64,
}

/// Restores an image or a device.
pub async fn restore(
    repository: Arc<Repository>,
    task: &RestoreTask,
    events: &Events,
) -> Result<Restored, RestoreError> {
    if task.shape == Shape::Tree {
        return Err(RestoreError::Tree);
    }
    let (sha256, manifest) = open_manifest(&repository, &task.point).await?;
    let size_bytes = manifest.description.source_bytes;
    if task.dry_run {
        let packs: u64 = manifest.clear.packs.iter().map(|reference| u64::from(reference.live)).sum();
        let message = format!(
            "would write {size_bytes} bytes to '{}', fetching {packs} bytes from {} packs",
            task.to.display(),
            manifest.clear.packs.len()
        );
        events.warn("dry_run", message);
        return Ok(Restored { blocks: 0, bytes: size_bytes, damaged: 0 });
    }
    let sink = Sink::open(&task.to, task.shape, size_bytes, task.resume, task.overwrite)?;
    let reading = Reading::begin(&repository, &task.point, sha256);
    let restored = ImageRestore::new(repository, manifest, task, Arc::new(sink), events).run().await;
    reading.end().await;
    restored
}
