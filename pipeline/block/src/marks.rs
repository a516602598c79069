//! The marks of a deleter: `marks/<sha256>`, `.deleting`, `.undone`. Format 1 reads them; nothing here writes one.
//!
//! A mark names the digest of a pack, a map object or a manifest. A backup reuses nothing that is
//! marked, and right before its manifest it looks again. On a store with a clock the age of a mark
//! is the store's time minus the mark's own; a directory has no clock, so the mark says when it
//! was made. A mark that cannot be read counts as old: the run gives up rather than trust it.

use std::collections::HashMap;

use dualsync_block_store::contract::{Key, StoreError};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::document::Unproven;
use crate::names;
use crate::repository::Repository;

/// What a mark says, with a MAC like every document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkNote {
    /// Key of what is marked.
    pub object: String,
    /// When, by the job's clock.
    pub marked_at: Timestamp,
    /// Why it leaves.
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Default)]
struct Mark {
    marked: Option<(Key, Timestamp)>,
    deleting: bool,
    undone: bool,
}

/// Every mark at one moment.
#[derive(Debug, Default)]
pub struct Marks {
    by_object: HashMap<Sha256, Mark>,
}

impl Marks {
    /// Lists the marks: one request.
    pub async fn list(repository: &Repository) -> Result<Self, StoreError> {
        let mut marks = Self::default();
        for object in repository.store().list(names::MARKS, None).await? {
            let Some(name) = object.key.as_str().strip_prefix(names::MARKS) else { continue };
            let (digest, suffix) = name.split_once('.').map_or((name, ""), |(digest, suffix)| (digest, suffix));
            let Ok(digest) = digest.parse::<Sha256>() else { continue };
            let mark = marks.by_object.entry(digest).or_default();
            match suffix {
                "" => mark.marked = Some((object.key, object.modified)),
                "undone" => mark.undone = true,
                // An unknown suffix is taken for the worst.
                _ => mark.deleting = true,
            }
        }
        Ok(marks)
    }

    /// Whether something may go soon or is gone already.
    pub fn is_marked(&self, object: &Sha256) -> bool {
        self.by_object.get(object).is_some_and(|mark| mark.deleting || !mark.undone)
    }

    /// Why `object` was deleted, as far as a holder of the key says that it was.
    pub async fn deletion(&self, repository: &Repository, object: &Sha256) -> Option<String> {
        let mark = self.by_object.get(object).filter(|mark| mark.deleting)?;
        let (key, _) = mark.marked.as_ref()?;
        proved_note(repository, key).await.map(|note| note.reason)
    }

    /// Seconds since `object` was marked: `None` when it is not; the largest number when it is
    /// being deleted or nobody can tell.
    pub async fn age_s(&self, repository: &Repository, object: &Sha256) -> Option<u64> {
        let mark = self.by_object.get(object).filter(|_| self.is_marked(object))?;
        let Some((key, modified)) = mark.marked.as_ref().filter(|_| !mark.deleting) else { return Some(u64::MAX) };
        let since = if repository.store().has_clock() {
            Some(*modified)
        } else {
            proved_note(repository, key).await.map(|note| note.marked_at)
        };
        let age = since.map(|since| repository.store().now().seconds_since(since));
        Some(age.and_then(|age| u64::try_from(age).ok()).unwrap_or(u64::MAX))
    }
}

/// What a mark says, when a holder of the key wrote it.
async fn proved_note(repository: &Repository, key: &Key) -> Option<MarkNote> {
    let bytes = repository.get(key).await.ok()?;
    Unproven::parse(&bytes).ok()?.prove(&repository.keys().mac_key(), key.as_str()).ok()
}
