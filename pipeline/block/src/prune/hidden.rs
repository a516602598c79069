//! What a bucket with versions keeps of deleted objects: erased by id once nobody needs it and its lock has ended.
//!
//! A delete marker on top of a good version may be a thief's. So a pack or map object that a manifest names is never erased
//! here, nor what no holder of the key announced to be deleted, before it is older than the longest run.

use std::collections::{BTreeMap, HashSet};

use dualsync_block_store::contract::{Key, Version};
use dualsync_block_store::versions::{Remains, erase};

use crate::digest::Sha256;
use crate::format::{DAY_S, marks::KEPT_DAYS};
use crate::names;
use crate::prune::at_once::{PORTION, Work, at_once};
use crate::prune::error::PruneError;
use crate::prune::survey::Survey;
use crate::repository::Repository;

/// What became of hidden objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Erased.
    pub erased: u64,
    /// Still there because of a lock.
    pub locked: u64,
    /// Bytes of these.
    pub locked_bytes: u64,
}

impl Hidden {
    fn count(&mut self, remains: Remains) {
        self.erased += u64::from(remains.versions == 0);
        self.locked += u64::from(remains.versions > 0);
        self.locked_bytes += remains.bytes;
    }
}

/// Erases what no listing shows any more and nobody needs; `gone` is what this very job deleted, and has counted.
///
/// `survey` is that of the second listing of manifests.
pub async fn erase_hidden(
    repository: &Repository,
    survey: &Survey,
    gone: &HashSet<Sha256>,
) -> Result<Hidden, PruneError> {
    let mut by_key: BTreeMap<Key, Vec<Version>> = BTreeMap::new();
    for version in repository.store().versions("").await? {
        by_key.entry(version.key.clone()).or_default().push(version);
    }
    by_key.retain(|_, versions| !versions.iter().any(|version| version.is_latest && !version.is_marker));
    let mut due = Vec::new();
    for (key, versions) in by_key {
        if is_due(repository, survey, gone, &key, &versions).await? {
            due.push(key);
        }
    }
    let mut hidden = Hidden::default();
    for portion in due.chunks(PORTION) {
        let works = portion.iter().map(|key| Box::pin(erase_one(repository, key)) as Work<'_, Remains>);
        at_once(works.collect(), |remains| hidden.count(remains)).await?;
    }
    Ok(hidden)
}

async fn erase_one(repository: &Repository, key: &Key) -> Result<Remains, PruneError> {
    Ok(erase(repository.store(), key, true).await?)
}

async fn is_due(
    repository: &Repository,
    survey: &Survey,
    gone: &HashSet<Sha256>,
    key: &Key,
    versions: &[Version],
) -> Result<bool, PruneError> {
    let now = repository.store().now();
    let kept_s = i64::from(KEPT_DAYS * DAY_S);
    let is_old = versions.iter().all(|version| now.seconds_since(version.modified) >= kept_s);
    let text = key.as_str();
    let Some(object) = names::digest_of(text) else {
        // Cleared away before, by whoever could not erase it. Reports, keys and what dualsync does not know stay.
        return Ok(is_old && ["marks/", "runs/", "probe/"].iter().any(|folder| text.starts_with(folder)));
    };
    let is_named = survey.uses.is_named(&object, |manifest| !gone.contains(manifest));
    if gone.contains(&object) || is_named || survey.resumable.contains(&object) {
        return Ok(false);
    }
    let is_copy = text.starts_with(names::POINTS);
    Ok((is_old && !is_copy) || survey.marks.deletion(repository, &object).await?.is_some())
}
