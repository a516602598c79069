//! What a long run has stored so far, so that another run need not send it again.
//!
//! `runs/<source>/<run>/checkpoint-<n>` is sealed like a manifest and bound to its key: a clear list of
//! objects with their sizes, a note, and the pages that are finished, from the first on. It is
//! never a point.

use dualsync_model::id::{PointId, RunId};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::format::ObjectKind;
use crate::keys::KeyTree;
use crate::manifest::{Clear, Parts, open_parts, seal_parts};
use crate::pagetable::PageTable;
use crate::seal::{NoRandomness, OpenError};

/// What a checkpoint says beside its pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointNote {
    /// The point that the run was making.
    pub point: PointId,
    /// The run.
    pub run: RunId,
    /// Bytes of the source then.
    pub source_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// When it was written.
    pub at: Timestamp,
}

/// A run's intermediate state.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The objects its pages need; maybe a few more.
    pub clear: Clear,
    /// What it is about.
    pub note: CheckpointNote,
    /// The finished pages, from the first on.
    pub pages: PageTable,
}

impl Checkpoint {
    /// The stored bytes for `key`.
    ///
    /// # Panics
    /// When lists are longer than the format's limits, which the writer keeps.
    pub fn seal(&self, keys: &KeyTree, key: &str) -> Result<(Vec<u8>, Sha256), NoRandomness> {
        let note = serde_json::to_vec(&self.note).expect("a note is plain text and numbers");
        seal_parts(keys, ObjectKind::Checkpoint, key, &self.clear, note, &self.pages)
    }

    /// Opens the stored bytes at `key`.
    pub fn open(keys: &KeyTree, key: &str, bytes: &[u8]) -> Result<Self, OpenError> {
        let Parts { clear, text, pages } = open_parts(keys, ObjectKind::Checkpoint, key, bytes)?;
        let note = serde_json::from_slice(&text)
            .map_err(|_| OpenError::Malformed("a checkpoint whose note cannot be read"))?;
        Ok(Self { clear, note, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{RepositoryId, RepositoryKey};
    use crate::pagetable::PageRef;
    use crate::pagetable::tests::location;

    #[test]
    fn a_checkpoint_reads_back_at_its_key_only() {
        let keys = KeyTree::new(&RepositoryKey::new([3; 32]), RepositoryId([4; 16]));
        let mut pages = PageTable::default();
        pages.push(PageRef::Full(location(1)));
        pages.push(PageRef::Zero);
        let note = CheckpointNote {
            point: "web@20261120T020000Z".parse().unwrap(),
            run: RunId::from_random([1; 8]),
            source_bytes: 1 << 30,
            block_bytes: 131_072,
            at: Timestamp::from_seconds(5),
        };
        let maps = vec![crate::manifest::Reference { sha256: location(1).object, size: 9, live: 9 }];
        let checkpoint = Checkpoint { clear: Clear { maps, ..Clear::default() }, note, pages };
        let (bytes, _) = checkpoint.seal(&keys, "runs/web/1/checkpoint-1").unwrap();
        assert_eq!(Checkpoint::open(&keys, "runs/web/1/checkpoint-1", &bytes).unwrap(), checkpoint);
        assert!(Checkpoint::open(&keys, "runs/web/1/checkpoint-2", &bytes).is_err());
        let manifest = crate::manifest::Manifest::open(&keys, "runs/web/1/checkpoint-1", &bytes);
        assert!(matches!(manifest, Err(OpenError::OtherKind { .. })), "a checkpoint is never a point");
    }
}
