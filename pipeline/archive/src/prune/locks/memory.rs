//! What was seen to be locked, in which mode and until when, so that nobody asks again: `locks.json` of the state folder.
//!
//! It counts for one bucket and prefix. Losing it costs a listing of versions and a HEAD for each object.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use dualsync_archive_store::contract::Lock;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

const NAME: &str = "locks.json";

/// The locks of one place.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    text: Text,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Text {
    /// The store in words.
    place: String,
    locks: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// The id of the version that is locked; absent where the store lists none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    mode: LockMode,
    until: Timestamp,
}

impl Known {
    fn lock(&self) -> Lock {
        Lock { mode: self.mode, until: self.until }
    }
}

impl Memory {
    /// What the folder `state` remembers of `place`; what has ended says nothing any more. What is not readable is
    /// nothing.
    pub(super) fn read(state: &Path, place: &str, now: Timestamp) -> Self {
        let path = state.join(NAME);
        let found = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Text>(&text).ok());
        let mut text = found.filter(|text| text.place == place).unwrap_or_default();
        place.clone_into(&mut text.place);
        // What another source of the repository needs is remembered, too.
        text.locks.retain(|_, known| known.until > now);
        Self { path, text }
    }

    /// Whether some version of the object is known to be held so.
    pub(super) fn covers(&self, key: &str, wanted: Lock) -> bool {
        self.text.locks.get(key).is_some_and(|known| known.lock().covers(wanted))
    }

    /// The same of this version.
    pub(super) fn covers_at(&self, key: &str, version: Option<&str>, wanted: Lock) -> bool {
        self.covers(key, wanted) && self.text.locks.get(key).is_some_and(|known| known.version.as_deref() == version)
    }

    pub(super) fn put(&mut self, key: &str, version: Option<&str>, Lock { mode, until }: Lock) {
        let known = Known { version: version.map(str::to_owned), mode, until };
        self.text.locks.insert(key.to_owned(), known);
    }

    /// Writes it down. A failure costs requests another time.
    pub(super) fn write(&self) {
        let new = self.path.with_extension("new");
        let written = self
            .path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&new, serde_json::to_vec(&self.text)?))
            .and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "cannot remember which locks were made longer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_for_one_place_one_version_and_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = Timestamp::from_seconds;
        let lock = |mode, seconds| Lock { mode, until: at(seconds) };
        let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
        let mut memory = Memory::read(folder.path(), "bucket a", at(0));
        memory.put("x", Some("1"), lock(governance, 100));
        memory.put("y", None, lock(compliance, 10));
        memory.write();
        let memory = Memory::read(folder.path(), "bucket a", at(50));
        assert!(memory.covers("x", lock(governance, 100)) && !memory.covers("x", lock(governance, 101)));
        assert!(!memory.covers("x", lock(compliance, 60)), "a weaker mode counts as none");
        assert!(!memory.covers("y", lock(governance, 5)), "it has ended");
        assert!(memory.covers_at("x", Some("1"), lock(governance, 60)));
        assert!(!memory.covers_at("x", Some("2"), lock(governance, 60)));
        assert!(!Memory::read(folder.path(), "bucket b", at(50)).covers("x", lock(governance, 60)));
        fs::write(folder.path().join(NAME), r#"{"x":"2036-12-20T02:00:00Z"}"#).unwrap();
        assert!(!Memory::read(folder.path(), "bucket a", at(50)).covers("x", lock(governance, 60)), "an older form");
    }
}
