//! `check`: are all stored objects there and what they were? Uses no content key.
//!
//! Everything follows from the signed manifests: each names its lists by digest, the lists name every
//! object by size and digest. *Presence* holds one listing against them, *objects* reads every byte. One
//! object is one finding, with the points that need it, and nothing stops at the first. What lies there and
//! belongs to nothing is told too, as `unexpected`; it damages no copy, and is no failure.

mod unexpected;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::event::{Finding, Summary};
use dualsync_model::id::PointId;
use dualsync_model::job::{CheckTask, Depth};
use dualsync_model::outcome::Exit;

use crate::check::unexpected::unexpected;
use crate::digest::Digest;
use crate::events::Events;
use crate::failure::Fault;
use crate::format::{MANIFEST_BYTES_MAX, README_KEY, RECOVER_KEY, REFS_NAME, REPO_KEY, RUNS, SUMS_NAME, catalog_key};
use crate::manifest::Stored;
use crate::objects::{ObjectError, check as check_bytes};
use crate::points::{Copy, PointError, Points, sizes, with_causes};
use crate::program::summary;
use crate::repo::Repository;
use crate::shadow;

/// Objects read at once; each may be as long as a volume.
const READS: usize = 2;

/// What an object must be, and who needs it.
#[derive(Debug)]
struct Need {
    /// `None` for the texts of the repository, of which only the digest is signed.
    bytes: Option<u64>,
    sha256: Digest,
    points: Vec<PointId>,
}

type Needs = BTreeMap<String, Need>;

/// Runs the task.
pub async fn check(repository: &Repository, task: &CheckTask, events: &Events) -> Result<Summary, Fault> {
    events.phase("reading the manifests");
    let mut findings = Findings { target: repository.target.clone(), count: 0, told: BTreeSet::new(), events };
    let copies = copies(repository, task, &mut findings).await?;
    let needs = needs(repository, &copies, &mut findings).await?;
    for key in repository.objects.take_shadowed() {
        let points = needs.get(&key).map(|need| need.points.clone()).unwrap_or_default();
        findings.add(&key, shadow::KIND, shadow::READ.to_owned(), points);
    }
    // Listed after the manifests: what is not there now was there before, or never.
    let listing = repository.objects.list("").await?;
    let strange = match task.point {
        // While a manifest or a list is not readable, nobody knows what it names.
        None if findings.count == 0 => {
            unexpected(repository, &listing, &copies, |key| needs.contains_key(key), events).await?
        }
        _ => Vec::new(),
    };
    let wanted = |key: &str| task.slice.is_none_or(|slice| slice.contains(key.as_bytes()));
    let needs: Needs = needs.into_iter().filter(|(key, _)| wanted(key)).collect();
    let objects = needs.len() as u64;
    events.progress().items_total.store(objects, std::sync::atomic::Ordering::Relaxed);
    events.phase("verifying");
    let bytes = match task.depth {
        Depth::Presence => presence(repository, &listing, &needs, &mut findings).await?,
        Depth::Objects => {
            let bytes = read(repository, &listing, &needs, &mut findings).await?;
            if task.point.is_none() {
                records(repository, &listing, &wanted, &mut findings).await?;
            }
            bytes
        }
    };
    let damaged = findings.count;
    for key in strange.into_iter().filter(|key| wanted(key)) {
        let problem = "no manifest names it, and no run of the last days may have put it there: `dualsync prune` clears away what is dualsync's";
        findings.add(key, "unexpected", problem.to_owned(), Vec::new());
    }
    if damaged > 0 {
        let message = format!("{damaged} stored objects are missing, wrong or shadowed");
        return Err(Fault::new(Exit::Damaged, "damaged", &std::io::Error::other(message)));
    }
    Ok(Summary { items: objects, objects, bytes, incomplete: findings.count, ..summary(&repository.objects) })
}

/// Prints findings as they come.
struct Findings<'e> {
    target: String,
    count: u64,
    told: BTreeSet<String>,
    events: &'e Events,
}

impl Findings<'_> {
    fn add(&mut self, object: &str, kind: &str, problem: String, points: Vec<PointId>) {
        let target = self.target.clone();
        let (object, kind) = (object.to_owned(), kind.to_owned());
        self.put(Finding { target, object, kind, problem, points, paths: Vec::new() });
    }

    fn put_all(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.put(finding);
        }
    }

    /// One object is one finding, its first.
    fn put(&mut self, finding: Finding) {
        if self.told.insert(finding.object.clone()) {
            self.count += 1;
            self.events.finding(finding);
        }
    }

    /// An object cannot be had: its own fault is a finding, the store's ends the check.
    fn object(&mut self, key: &str, error: ObjectError, points: &[PointId]) -> Result<(), Fault> {
        match error.finding() {
            Some(kind) => {
                self.add(key, kind, error.to_string(), points.to_vec());
                Ok(())
            }
            None => Err(error.into()),
        }
    }
}

/// The copies to check; what is wrong with their manifests and their chain is told.
async fn copies(repository: &Repository, task: &CheckTask, findings: &mut Findings<'_>) -> Result<Vec<Copy>, Fault> {
    let Some(point) = &task.point else {
        let mut points = Points::load(repository).await?;
        if points.findings.iter().any(|finding| finding.kind == "missing") {
            points.forgive_deleted(repository, findings.events).await?;
        }
        findings.put_all(points.findings);
        return Ok(points.copies);
    };
    match Copy::find(repository, point).await {
        Ok(copy) => Ok(vec![copy]),
        Err(PointError::NoCopy { findings: found, .. }) if !found.is_empty() => {
            findings.put_all(found);
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// Every object that the copies need.
async fn needs(repository: &Repository, copies: &[Copy], findings: &mut Findings<'_>) -> Result<Needs, Fault> {
    let mut needs = Needs::new();
    for copy in copies {
        let manifest = &copy.manifest;
        let mut need = |key: String, bytes, sha256| {
            let need = needs.entry(key).or_insert_with(|| Need { bytes, sha256, points: Vec::new() });
            if !need.points.contains(&manifest.point) {
                need.points.push(manifest.point.clone());
            }
        };
        let objects = &manifest.objects;
        need(README_KEY.to_owned(), None, objects.readme);
        need(RECOVER_KEY.to_owned(), None, objects.recover);
        need(REPO_KEY.to_owned(), None, objects.repo);
        need(catalog_key(&objects.catalog.sha256.hex()), Some(objects.catalog.bytes), objects.catalog.sha256);
        for (name, stored) in [(REFS_NAME, objects.refs), (SUMS_NAME, objects.sums)] {
            // The signature was only accepted for a manifest with a folder.
            need(manifest.object_key(name).unwrap_or_default(), Some(stored.bytes), stored.sha256);
        }
        match copy.refs(&repository.objects).await {
            Ok(refs) => refs.into_iter().for_each(|one| need(one.key, Some(one.bytes), one.sha256)),
            // Without its list nothing can be said of the point's other objects, at any depth.
            Err(PointError::Object(error)) => {
                let key = manifest.object_key(REFS_NAME).unwrap_or_default();
                findings.object(&key, error, std::slice::from_ref(&manifest.point))?;
            }
            Err(error @ PointError::Refs { .. }) => {
                let key = manifest.object_key(REFS_NAME).unwrap_or_default();
                findings.add(&key, "unreadable", with_causes(&error), vec![manifest.point.clone()]);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(needs)
}

/// Names and sizes, by one listing; where something is gone or has another length, by one of older versions, too. None of
/// these is read.
async fn presence(
    repository: &Repository,
    listing: &[ObjectInfo],
    needs: &Needs,
    findings: &mut Findings<'_>,
) -> Result<u64, Fault> {
    let sizes = sizes(listing);
    let (mut bytes, mut wrong) = (0, Vec::new());
    for (key, need) in needs {
        let found = sizes.get(key.as_str()).copied();
        let error = match (found, need.bytes) {
            (None, _) => ObjectError::Missing { key: key.clone() },
            (Some(found), Some(wanted)) if found != wanted => ObjectError::Length { key: key.clone(), found, wanted },
            (Some(found), _) => {
                bytes += found;
                continue;
            }
        };
        wrong.push((key, need, error));
    }
    let below = if wrong.is_empty() { BTreeMap::new() } else { repository.objects.lengths_below().await? };
    for (key, need, error) in wrong {
        let is_right = |length: &u64| need.bytes.is_none_or(|wanted| *length == wanted);
        if below.get(key).is_some_and(|lengths| lengths.iter().any(is_right)) {
            let problem = format!("{error}: a newer version or a delete marker hides one of the right length, unread");
            findings.add(key, shadow::KIND, problem, need.points.clone());
        } else {
            findings.object(key, error, &need.points)?;
        }
    }
    Ok(bytes)
}

/// Every byte, against its digest.
async fn read(
    repository: &Repository,
    listing: &[ObjectInfo],
    needs: &Needs,
    findings: &mut Findings<'_>,
) -> Result<u64, Fault> {
    let progress = findings.events.progress();
    let sizes = &sizes(listing);
    let mut reads = futures::stream::iter(needs)
        .map(|(key, need)| async move { (key, need, prove(repository, key, sizes.get(key.as_str()), need).await) })
        .buffer_unordered(READS);
    let mut bytes = 0;
    while let Some((key, need, proved)) = reads.next().await {
        match proved {
            Ok((length, hidden_by)) => {
                bytes += length;
                if let Some(error) = hidden_by {
                    let problem = format!("{error}: {}", shadow::READ);
                    findings.add(key, shadow::KIND, problem, need.points.clone());
                }
            }
            Err(error) => findings.object(key, error, &need.points)?,
        }
        progress.items_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        progress.bytes_done.store(bytes, std::sync::atomic::Ordering::Relaxed);
        progress.transferred_bytes.store(repository.objects.fetched_bytes(), std::sync::atomic::Ordering::Relaxed);
    }
    Ok(bytes)
}

/// Its length, and what is wrong with the version on top where an older one is good.
async fn prove(
    repository: &Repository,
    key: &str,
    listed: Option<&u64>,
    need: &Need,
) -> Result<(u64, Option<ObjectError>), ObjectError> {
    let error = match prove_on_top(repository, key, listed, need).await {
        Ok(length) => return Ok((length, None)),
        Err(error) if error.finding().is_some() => error,
        Err(error) => return Err(error),
    };
    let fits = |length: u64| need.bytes.map_or(length <= MANIFEST_BYTES_MAX, |wanted| length == wanted);
    match repository.objects.older_that(key, fits, |bytes| Digest::of(bytes) == need.sha256).await? {
        Some(bytes) => {
            // It becomes a finding at once.
            drop(repository.objects.take_shadowed());
            Ok((bytes.len() as u64, Some(error)))
        }
        None => Err(error),
    }
}

async fn prove_on_top(
    repository: &Repository,
    key: &str,
    listed: Option<&u64>,
    need: &Need,
) -> Result<u64, ObjectError> {
    // What has another length than it should is not fetched: who can write to the bucket decides it.
    let limit = need.bytes.unwrap_or(MANIFEST_BYTES_MAX);
    match listed.copied() {
        None => return Err(ObjectError::Missing { key: key.to_owned() }),
        Some(found) if found > limit || need.bytes.is_some_and(|wanted| found != wanted) => {
            return Err(ObjectError::Length { key: key.to_owned(), found, wanted: limit });
        }
        Some(_) => {}
    }
    let bytes = repository.objects.get(key, limit).await?;
    let length = bytes.len() as u64;
    let stored = Stored { bytes: need.bytes.unwrap_or(length), sha256: need.sha256 };
    check_bytes(key, &bytes, stored)?;
    Ok(length)
}

/// Heartbeats and checkpoints carry their own signatures.
async fn records(
    repository: &Repository,
    listing: &[ObjectInfo],
    wanted: &impl Fn(&str) -> bool,
    findings: &mut Findings<'_>,
) -> Result<(), Fault> {
    for info in listing.iter().filter(|info| info.key.as_str().starts_with(RUNS)) {
        let key = info.key.as_str();
        if !wanted(key) {
            continue;
        }
        if info.size > MANIFEST_BYTES_MAX {
            let (found, wanted) = (info.size, MANIFEST_BYTES_MAX);
            findings.object(key, ObjectError::Length { key: key.to_owned(), found, wanted }, &[])?;
            continue;
        }
        match repository.objects.get(key, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => {
                if let Err(error) = repository.record::<serde_json::Value>(key, &bytes) {
                    findings.add(key, "forged", with_causes(&error), Vec::new());
                }
            }
            Err(error) => findings.object(key, error, &[])?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
