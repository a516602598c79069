//! What a host keeps of the points that it made or read, so that one file of them is a few requests.
//!
//! Two folders of the source: `cache`, of the last night that this host made, which is only read here, and `read`, of the
//! last restore of single files. Promises that nothing is believed because it is here: a manifest counts with its
//! signature, by the length that a listing shows, and all else by the digest that leads to it. Losing it costs
//! requests. What witnesses a copy (`facts`, `check`) takes nothing from here.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use dualsync_model::id::SourceName;

use crate::backup::chain::{Memory, Sizes, remembered};
use crate::catalog::stream::Cache;
use crate::digest::Digest;
use crate::manifest::Stored;
use crate::objects::{ObjectError, Objects};
use crate::points::Copy;
use crate::repo::Repository;

/// Objects that are kept, and those that this job has used.
#[derive(Default)]
pub struct Kept {
    made: Option<Cache>,
    own: Option<Cache>,
    memories: Vec<Memory>,
    memory: PathBuf,
    used: Mutex<HashSet<Digest>>,
    spares: bool,
}

impl Kept {
    /// Of `source`, in the folder `state` of the target.
    pub fn open(state: &Path, source: &SourceName) -> Self {
        let folder = state.join(source.as_str());
        let made = folder.join("cache");
        let made = if made.is_dir() { Cache::open(made).ok() } else { None };
        let own = folder.join("read");
        let is_there = fs::DirBuilder::new().recursive(true).mode(0o700).create(&own).is_ok();
        let own = if is_there { Cache::open(own).ok() } else { None };
        let memory = folder.join("read.json");
        let memories =
            [state.join("newest.json"), memory.clone()].iter().filter_map(|path| Memory::read(path)).collect();
        Self { made, own, memories, memory, used: Mutex::default(), spares: true }
    }

    /// Whether the reader of single files spares requests: then what a manifest holds of other objects is enough, under
    /// the same proofs.
    pub fn spares(&self) -> bool {
        self.spares
    }

    /// An object that must be what `stored` says, from here or from the store.
    pub async fn get_exact(&self, objects: &Objects, key: &str, stored: Stored) -> Result<Bytes, ObjectError> {
        self.uses(stored.sha256);
        if let Some(bytes) = self.caches().find_map(|cache| cache.get(stored)) {
            return Ok(bytes.into());
        }
        let bytes = objects.get_good(key, stored).await?;
        if let Some(own) = &self.own {
            own.put(stored.sha256, &bytes);
        }
        Ok(bytes)
    }

    /// The copy whose manifest is listed under `key`, if it is here.
    pub fn copy(&self, repository: &Repository, key: &str, sizes: &Sizes<'_>) -> Option<Copy> {
        let mut found = self.memories.iter().flat_map(|memory| self.caches().map(move |cache| (memory, cache)));
        let (memory, copy) =
            found.find_map(|(memory, cache)| Some((memory, remembered(repository, key, sizes, memory, cache)?)))?;
        self.uses(memory.manifest.sha256);
        memory.signature.inspect(|signature| self.uses(signature.sha256));
        Some(copy)
    }

    /// Keeps a manifest that was just proved, by a signature beside it or its own, in place of the one before.
    pub fn keep(&self, key: &str, manifest: &[u8], signature: Option<&[u8]>) {
        let Some(own) = &self.own else { return };
        for bytes in [Some(manifest), signature].into_iter().flatten() {
            let stored = Stored::of(bytes);
            own.put(stored.sha256, bytes);
            self.uses(stored.sha256);
        }
        let signature = signature.map(Stored::of);
        Memory { key: key.to_owned(), manifest: Stored::of(manifest), signature }.write(&self.memory);
    }

    /// Lets go of what this job has not used: what is kept is bounded by what one job reads.
    pub fn end(&self) {
        if let Some(own) = &self.own {
            own.keep_only(&self.used.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn caches(&self) -> impl Iterator<Item = &Cache> {
        self.made.iter().chain(&self.own)
    }

    fn uses(&self, digest: Digest) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }
}
