//! Locks are made longer: of every object of a copy that is needed longer than was known when it was stored.
//!
//! By the id of a version: the oldest one that is no marker, since objects are put once, and what lies on top, if that is
//! another. So a lock reaches the good version whatever somebody has put over it. One listing of versions tells all ids;
//! what was seen to be locked is remembered ([`memory`]), and a night without changes asks for nothing. A lock is never made
//! shorter, nor weaker in its mode. An object that cannot be locked keeps no other from its lock.

mod memory;

use std::collections::BTreeMap;
use std::path::Path;

use dualsync_archive_store::contract::{ErrorKind, Key, Lock, StoreError, Version};
use dualsync_model::job::{Lock as Wanted, LockMode};
use dualsync_model::time::Timestamp;
use futures::StreamExt as _;

use crate::format::{MANIFEST_NAME, README_KEY, RECOVER_KEY, REFS_NAME, REPO_KEY, SIGNATURE_NAME, SUMS_NAME};
use crate::objects::{ObjectError, Objects};
use crate::prune::apply::AT_ONCE;
use crate::prune::locks::memory::Memory;
use crate::prune::manifests::Manifests;
use crate::shadow::by_key;

/// What came of it.
#[derive(Debug)]
pub struct Extended {
    /// Objects of which a lock was made longer.
    pub longer: u64,
    /// The first thing that went wrong.
    pub outcome: Result<(), ObjectError>,
}

impl Default for Extended {
    fn default() -> Self {
        Self { longer: 0, outcome: Ok(()) }
    }
}

/// Makes the locks of these copies last.
pub async fn extend(
    objects: &Objects,
    manifests: &Manifests,
    wanted: &[Wanted],
    mode: LockMode,
    state: &Path,
) -> Extended {
    let wanted: BTreeMap<_, _> =
        by_object(manifests, wanted).into_iter().map(|(key, until)| (key, Lock { mode, until })).collect();
    let mut memory = Memory::read(state, &objects.store().describe(), objects.now());
    if wanted.iter().all(|(key, lock)| memory.covers(key, *lock)) {
        return Extended::default();
    }
    let mut extended = Extended::default();
    let versions = match objects.store().versions("").await {
        Ok(versions) => versions,
        Err(error) => return Extended { outcome: Err(error.into()), ..extended },
    };
    let ids = versions.as_deref().map(ids);
    let short = wanted.iter().filter_map(|(key, lock)| Some((key, lock, held_by(key, ids.as_ref())?)));
    let is_short = |(key, lock, at): &(&String, &Lock, Vec<Option<&str>>)| {
        !memory.covers_at(key, at.first().copied().flatten(), **lock)
    };
    let short: Vec<_> = short.filter(is_short).collect();
    let mut done = futures::stream::iter(short)
        .map(|(key, lock, at)| async move {
            let outcome = one(objects, key, &at, *lock).await;
            (key, at, outcome)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((key, at, outcome)) = done.next().await {
        match outcome {
            Ok(Some((held, is_longer))) => {
                extended.longer += u64::from(is_longer);
                memory.put(key, at.first().copied().flatten(), held);
            }
            Ok(None) => tracing::warn!(key, "an object that a copy needs is not there to be locked"),
            Err(error) => {
                let is_over = matches!(&error, ObjectError::Store(error) if error.may_retry());
                tracing::warn!(key, %error, "a lock was not made longer");
                if extended.outcome.is_ok() {
                    extended.outcome = Err(error);
                }
                if is_over {
                    // The store does not answer: neither will it for the others.
                    break;
                }
            }
        }
    }
    drop(done);
    memory.write();
    extended
}

/// Until when each object has to be locked: as long as the copy that needs it longest.
fn by_object(manifests: &Manifests, wanted: &[Wanted]) -> BTreeMap<String, Timestamp> {
    let mut until: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut need = |key: String, end: Timestamp| {
        let found = until.entry(key).or_insert(end);
        *found = (*found).max(end);
    };
    let mut copies: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for one in wanted {
        match manifests.copy(&one.manifest) {
            Some(copy) if copy.anchor.sha256 == one.sha256 => drop(copies.insert(one.manifest.as_str(), one.until)),
            Some(_) => continue,
            // What it needs cannot be read tonight; what lies beside it is known by name.
            None => {
                for name in [REFS_NAME, SUMS_NAME, SIGNATURE_NAME] {
                    need(one.manifest.replace(MANIFEST_NAME, name), one.until);
                }
            }
        }
        need(one.manifest.clone(), one.until);
        // Without `repo.json` everything else would be locked and unreadable.
        for key in [REPO_KEY, README_KEY, RECOVER_KEY] {
            need(key.to_owned(), one.until);
        }
    }
    for object in manifests.objects() {
        if let Some(end) = manifests.needing(object).filter_map(|by| copies.get(&*by.manifest)).max() {
            need(object.to_owned(), *end);
        }
    }
    until
}

/// Of each key the version that was put first and, if it is another, the one on top.
fn ids(versions: &[Version]) -> BTreeMap<&str, Vec<Option<&str>>> {
    let mut ids = BTreeMap::new();
    for all in by_key(versions) {
        let oldest = all.iter().find(|version| !version.is_marker);
        let (Some(oldest), Some(last)) = (oldest, all.last()) else { continue };
        let top = Some(last).filter(|top| !top.is_marker && top.id != oldest.id);
        let at = [Some(oldest), top].into_iter().flatten().map(|version| Some(version.id.as_str()));
        ids.insert(oldest.info.key.as_str(), at.collect());
    }
    ids
}

/// The versions of an object that are to be locked: where the store lists none, the only one. `None` when it is not there.
fn held_by<'v>(key: &str, ids: Option<&BTreeMap<&str, Vec<Option<&'v str>>>>) -> Option<Vec<Option<&'v str>>> {
    let Some(ids) = ids else { return Some(vec![None]) };
    let found = ids.get(key).cloned();
    if found.is_none() {
        // One that is missing is for `check` to tell.
        tracing::warn!(key, "an object that a copy needs is not there to be locked");
    }
    found
}

/// The lock of the first of these versions as it is then, and whether one had to be made longer; `None` when they are gone.
async fn one(
    objects: &Objects,
    key: &str,
    versions: &[Option<&str>],
    wanted: Lock,
) -> Result<Option<(Lock, bool)>, ObjectError> {
    let at = key.parse::<Key>()?;
    let (mut held, mut is_longer) = (None, false);
    for version in versions {
        match one_version(objects, &at, *version, wanted).await {
            Ok((lock, was_short)) => {
                held = held.or(Some(lock));
                is_longer |= was_short;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held.map(|held| (held, is_longer)))
}

async fn one_version(
    objects: &Objects,
    key: &Key,
    version: Option<&str>,
    wanted: Lock,
) -> Result<(Lock, bool), StoreError> {
    let found = objects.store().lock_of(key, version).await?;
    match found {
        Some(found) if found.covers(wanted) => Ok((found, false)),
        _ => {
            let lock = found.map_or(wanted, |found| found.joined(wanted));
            let Err(error) = objects.store().lock(key, version, lock).await else { return Ok((lock, true)) };
            if let Some(weaker) = found.filter(|found| found.mode != lock.mode) {
                // Who may not change a mode makes the lock last all the same, and says so.
                objects.store().lock(key, version, Lock { until: lock.until, ..weaker }).await?;
            }
            Err(error)
        }
    }
}
