//! Reads the content of many files of a point, each stored byte once.
//!
//! Files that are one member are read in *storage* order, volume by volume ([`members`]): path order would
//! cost a request a file. Files in parts are read one after the other, each in the order of its bytes, since
//! their digest is over the whole ([`parts`]). What to read is written down in a [`plan`] on disk, so
//! memory does not grow with the tree. A damaged volume costs the files it holds and no others; only
//! a store that fails ends the reading.

use std::fs::File;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

use crate::catalog::entry::Entry;
use crate::damage::Damage;
use crate::sort::SortError;
use crate::volume::reader::{VolumeError, Volumes};

mod fetch;
mod members;
mod parts;
pub mod plan;

use self::plan::Planned;

/// A file whose content is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The caller's number of the file.
    pub ordinal: u64,
    /// Its line in the catalog.
    pub entry: Entry,
}

/// Takes content as it arrives, from several threads. A failure of a file is the sink's own affair.
pub trait Sink: Send + Sync + 'static {
    /// The data of one member, which is the whole data of each of these files; or why it cannot be had.
    fn member(&self, files: &[Wanted], data: Result<&[u8], &VolumeError>);

    /// A file in parts begins.
    fn begin(self: Arc<Self>, file: Wanted) -> Box<dyn PartedFile>;
}

/// Takes the parts of one file in their order.
pub trait PartedFile: Send {
    /// What was read of it before, the same bytes at the same places as far as they are there; each part is proved anew
    /// before it is believed.
    fn begun(&self) -> Option<File> {
        None
    }

    /// The data of the next part, which has the digest that the catalog notes; or why it cannot be had.
    fn part(&mut self, data: Result<&[u8], &VolumeError>);

    /// All parts were given.
    fn end(self: Box<Self>);
}

/// Why not all content could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The plan on disk.
    #[error(transparent)]
    Plan(#[from] SortError),
    /// A record of the plan, which this process wrote itself.
    #[error("the plan on disk is not readable")]
    Record(#[from] serde_json::Error),
    /// The store fails.
    #[error(transparent)]
    Store(Arc<VolumeError>),
    /// A worker thread is gone.
    #[error("a worker failed")]
    Worker(#[from] JoinError),
}

/// Reads everything that is planned. Damaged volumes are noted in `damage`, also where the files
/// of interest turn out to be intact.
pub async fn read(
    volumes: &Arc<Volumes>,
    planned: Planned,
    sink: &Arc<dyn Sink>,
    damage: &Arc<Damage>,
) -> Result<(), ReadError> {
    members::read(volumes, planned.frames, planned.wants, sink, damage).await?;
    parts::read(volumes, planned.parted, sink).await
}
