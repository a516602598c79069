//! Marks: the announcement that an object or a point will be deleted.
//!
//! A mark of the object with key K is `marks/<SHA-256 of K>-<random>`, beside it come `.deleting` when
//! the deletion begins and `.undone` when it is taken back. So a listing alone tells what is
//! marked and since when. This version reads marks and never writes them.

use std::collections::{BTreeMap, BTreeSet};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::format::{MARKS, is_digest, is_hex};

/// The marks of a repository at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Digest of the marked key, and when the oldest mark was set that holds.
    since: BTreeMap<String, Timestamp>,
}

impl Marks {
    /// Reads a listing of `marks/`. A name that is no mark counts for nothing: only this host's
    /// decision to *keep* away from an object hangs on it.
    pub fn of_listing(listing: &[ObjectInfo]) -> Self {
        let names: Vec<_> =
            listing.iter().filter_map(|info| Some((info.key.as_str().strip_prefix(MARKS)?, info.modified))).collect();
        let undone: BTreeSet<_> = names.iter().filter_map(|(name, _)| name.strip_suffix(".undone")).collect();
        let mut since = BTreeMap::new();
        for (name, modified) in &names {
            let id = name.strip_suffix(".deleting").unwrap_or(name);
            // Once deletion has begun, taking back comes too late.
            if undone.contains(id) && !name.ends_with(".deleting") {
                continue;
            }
            if let Some((digest, random)) = id.split_once('-')
                && is_digest(digest)
                && random.len() == 16
                && is_hex(random)
            {
                let first = since.entry(digest.to_owned()).or_insert(*modified);
                *first = (*first).min(*modified);
            }
        }
        Self { since }
    }

    /// Whether the object with this key is marked.
    pub fn is_marked(&self, key: &str) -> bool {
        self.since(key).is_some()
    }

    /// Since when it is.
    pub fn since(&self, key: &str) -> Option<Timestamp> {
        if self.since.is_empty() {
            return None;
        }
        self.since.get(&Digest::of(key.as_bytes()).hex()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[(&str, i64)]) -> Vec<ObjectInfo> {
        names
            .iter()
            .map(|(name, seconds)| ObjectInfo {
                key: format!("{MARKS}{name}").parse().unwrap(),
                size: 1,
                modified: Timestamp::from_seconds(*seconds),
            })
            .collect()
    }

    #[test]
    fn a_mark_holds_until_it_is_undone_and_longer_once_deletion_began() {
        let mark = format!("{}-0001020304050607", Digest::of(b"volumes/a"));
        let (undone, deleting) = (format!("{mark}.undone"), format!("{mark}.deleting"));
        let since = |names: &[(&str, i64)]| Marks::of_listing(&listing(names)).since("volumes/a");
        assert_eq!(since(&[(&mark, 5)]), Some(Timestamp::from_seconds(5)));
        assert_eq!(since(&[(&mark, 5), (&undone, 6)]), None);
        assert_eq!(since(&[(&mark, 5), (&deleting, 7), (&undone, 6)]), Some(Timestamp::from_seconds(7)));
        assert_eq!(since(&[]), None);
    }

    #[test]
    fn other_objects_and_strange_names_are_not_marked() {
        let mark = format!("{}-0001020304050607", Digest::of(b"volumes/a"));
        let marks = Marks::of_listing(&listing(&[(&mark, 5), ("nonsense", 1), ("x-y", 2)]));
        assert!(marks.is_marked("volumes/a") && !marks.is_marked("volumes/b"));
    }
}
