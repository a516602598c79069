//! What a bucket keeps under one key: versions on top of each other, and maybe a delete marker above them.
//!
//! An object is named by its digest or by random bytes and put once: nobody can put something below the good version, anybody who
//! may put can pile junk upon it. So the oldest version is the one that matters, and the newest may be a second put of the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use dualsync_block_store::contract::{Key, Store, StoreError, Version};

/// Versions that a store lists in one request.
const PAGE: usize = 1000;

/// The versions of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Newest first, without markers.
    versions: Vec<Version>,
    is_hidden: bool,
}

impl Stack {
    /// Newest first, without markers.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The one that was put first.
    pub fn oldest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The one that was put last.
    pub fn newest(&self) -> Option<&Version> {
        self.versions.first()
    }

    /// Whether a delete marker lies on top: no listing shows the object.
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// Whether a plain read finds something else than the first version: nothing, or an object of another length. One of the
    /// same length is not told.
    pub fn is_covered(&self) -> bool {
        let sizes = (self.newest().map(|version| version.size), self.oldest().map(|version| version.size));
        !self.versions.is_empty() && (self.is_hidden || sizes.0 != sizes.1)
    }
}

/// The stacks of many objects.
#[derive(Clone, Debug, Default)]
pub struct Stacks(HashMap<Key, Stack>);

impl Stacks {
    /// What a listing of versions shows.
    pub fn of(listed: Vec<Version>) -> Self {
        let mut stacks = Self::default();
        stacks.add(listed);
        stacks
    }

    fn add(&mut self, mut listed: Vec<Version>) {
        // Stable: of one moment the listing's order tells.
        listed.sort_by_key(|version| Reverse(version.modified));
        for version in listed {
            let stack = self.0.entry(version.key.clone()).or_default();
            if version.is_marker {
                stack.is_hidden |= version.is_latest;
            } else {
                stack.versions.push(version);
            }
        }
    }

    /// Lists the versions of `keys`: folder by folder, or each for itself where that takes fewer requests. `count` tells about how
    /// many objects a folder has.
    pub async fn list<'k>(
        store: &dyn Store,
        keys: impl Iterator<Item = &'k Key>,
        count: impl Fn(&str) -> usize,
    ) -> Result<Self, StoreError> {
        let mut folders: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        for key in keys {
            let folder = key.as_str().find('/').map_or("", |at| &key.as_str()[..=at]);
            folders.entry(folder).or_default().push(key);
        }
        let mut stacks = Self::default();
        for (folder, keys) in folders {
            if !folder.is_empty() && count(folder) / PAGE < keys.len() {
                stacks.add(store.versions(folder).await?);
                continue;
            }
            for key in keys {
                let mut listed = store.versions(key.as_str()).await?;
                listed.retain(|version| version.key == *key);
                stacks.add(listed);
            }
        }
        Ok(stacks)
    }

    /// The versions of one object; empty where there is none.
    pub fn get(&self, key: &Key) -> Option<&Stack> {
        self.0.get(key).filter(|stack| !stack.versions.is_empty())
    }

    /// Every object that has a version.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Stack)> {
        self.0.iter().filter(|(_, stack)| !stack.versions.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dualsync_block_store::memory::MemoryStore;
    use dualsync_model::time::Timestamp;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[tokio::test]
    async fn the_first_version_is_the_oldest_also_within_one_second() {
        let store = MemoryStore::versioned(Timestamp::from_seconds(1_000));
        for body in ["good", "junk!", "more junk"] {
            store.replace(key("packs/a"), Bytes::from_static(body.as_bytes()));
        }
        store.replace(key("packs/b"), Bytes::from_static(b"alone"));
        store.remove(&key("packs/c"));
        for folders_are_large in [false, true] {
            let keys = ["packs/a", "packs/b", "packs/c"].map(key);
            let count = |_: &str| if folders_are_large { 1_000_000 } else { 3 };
            let before = store.requests().list;
            let stacks = Stacks::list(&store, keys.iter(), count).await.unwrap();
            assert_eq!(store.requests().list - before, if folders_are_large { 3 } else { 1 });
            let sizes = |stack: &Stack| stack.versions().iter().map(|version| version.size).collect::<Vec<_>>();
            let stack = stacks.get(&keys[0]).unwrap();
            assert_eq!((sizes(stack), stack.is_hidden(), stack.is_covered()), (vec![9, 5, 4], false, true));
            assert_eq!((stack.oldest().unwrap().size, stack.newest().unwrap().size), (4, 9));
            let alone = stacks.get(&keys[1]).unwrap();
            assert!(alone.oldest() == alone.newest() && !alone.is_covered());
            assert!(stacks.get(&keys[2]).is_none(), "a marker alone is no object");
        }
        store.remove(&key("packs/b"));
        let hidden = Stacks::of(store.versions("packs/b").await.unwrap());
        let stack = hidden.get(&key("packs/b")).unwrap();
        assert!(stack.is_hidden() && stack.is_covered());
    }
}
