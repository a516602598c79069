//! Why nothing, or not everything, was pruned.

use dualsync_block_store::contract::{Key, StoreError};
use dualsync_model::outcome::Exit;

use crate::fetch::ObjectError;
use crate::points::CensusError;
use crate::seal::NoRandomness;
use crate::trouble::Trouble;

/// A prune that ended early. Whatever it did until then is a state that the next one goes on from.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Nobody can tell how old a mark is.
    #[error("the store's clock and this host's differ by {0} s: nothing was marked or deleted")]
    Clocks(u64),
    /// The job asks for more than a mark lasts.
    #[error("a grace of {0} s is longer than the 30 days that marks are made for")]
    Grace(u64),
    /// A key in the job is no manifest's.
    #[error("'{0}' is not the key of a manifest")]
    NoManifest(String),
    /// Locks without a mode.
    #[error("the job has `locks`, and the target no `immutability`")]
    NoMode,
    /// Some objects keep the lock they have.
    #[error("the locks of {refused} objects were not made longer, that of '{first}' for instance")]
    Locks {
        /// How many.
        refused: usize,
        /// One of them.
        first: Key,
        /// What the store said of it.
        #[source]
        error: StoreError,
    },
    /// The store is not what the host remembers.
    #[error("nothing was marked or deleted: {0}")]
    Rollback(String),
    /// Nobody knows what some points need.
    #[error("nothing was marked or deleted: {0} manifests cannot be read, so nobody knows what they need")]
    Unreadable(usize),
    /// The same, after some of the work.
    #[error("no further object was deleted: {0} manifests cannot be read any more, so nobody knows what they need")]
    UnreadableNow(usize),
    /// The listing of marks is too old to act on.
    #[error("the marks were listed more than {0} days ago: run it again")]
    Stale(u32),
    /// A mark would say that it is older than it is.
    #[error("marking '{0}' took too long, so the mark was taken back: run it again")]
    Slow(String),
    /// The store failed.
    #[error("cannot work on the store")]
    Store(#[from] StoreError),
    /// The points are not known.
    #[error(transparent)]
    Census(#[from] CensusError),
    /// A document or a checkpoint could not be read.
    #[error("cannot read what the repository says")]
    Read(#[from] ObjectError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl From<PruneError> for Trouble {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Clocks(_) => Self::new(Exit::Failed, "refused", &error)
                .with_hint("set this host's clock, by NTP for instance, and run it again"),
            PruneError::Rollback(_) => Self::new(Exit::Failed, "refused", &error)
                .with_hint("see whether somebody put an older copy of the bucket in its place"),
            PruneError::Grace(_) | PruneError::NoManifest(_) | PruneError::NoMode => {
                Self::new(Exit::Usage, "usage", &error)
            }
            PruneError::Unreadable(_) | PruneError::UnreadableNow(_) => Self::new(Exit::Damaged, "damaged", &error)
                .with_hint("put the manifests back from another copy of the bucket, or delete those points"),
            PruneError::Stale(_) | PruneError::Slow(_) => Self::new(Exit::Failed, "aborted", &error),
            PruneError::Locks { .. } => Self::new(Exit::Failed, "store", &error).with_hint(
                "grant s3:PutObjectRetention and s3:GetObjectRetention on the bucket and prefix to this access key",
            ),
            PruneError::Store(error) => error.into(),
            PruneError::Census(error) => error.into(),
            PruneError::Read(error) => error.into(),
            PruneError::Random(_) => Self::new(Exit::Failed, "internal", &error),
        }
    }
}
