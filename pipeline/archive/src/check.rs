//! `check`: are all stored objects there and what they were? Uses no content key.
//!
//! Everything follows from the signed manifests: each names its lists by digest, the lists name every
//! object by size and digest. *Presence* holds one listing against them, *objects* reads every byte. One
//! object is one finding, with the points that need it, and nothing stops at the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::StreamExt as _;

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::event::{Finding, Summary};
use dualsync_model::id::PointId;
use dualsync_model::job::{CheckTask, Depth};
use dualsync_model::outcome::Exit;

use crate::digest::Digest;
use crate::events::Events;
use crate::failure::Fault;
use crate::format::{MANIFEST_BYTES_MAX, README_KEY, RECOVER_KEY, REFS_NAME, REPO_KEY, RUNS, SUMS_NAME, catalog_key};
use crate::manifest::Stored;
use crate::objects::{ObjectError, check as check_bytes};
use crate::points::{Copy, PointError, Points, with_causes};
use crate::program::summary;
use crate::record;
use crate::repo::Repository;

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
    let wanted = |key: &str| task.slice.is_none_or(|slice| slice.contains(key.as_bytes()));
    let needs: Needs = needs.into_iter().filter(|(key, _)| wanted(key)).collect();
    let objects = needs.len() as u64;
    events.progress().items_total.store(objects, std::sync::atomic::Ordering::Relaxed);
    events.phase("verifying");
    let bytes = match task.depth {
        Depth::Presence => presence(repository, &needs, &mut findings).await?,
        Depth::Objects => {
            let bytes = read(repository, &needs, &mut findings).await?;
            if task.point.is_none() {
                records(repository, &wanted, &mut findings).await?;
            }
            bytes
        }
    };
    if findings.count > 0 {
        let message = format!("{} stored objects are missing or wrong", findings.count);
        return Err(Fault::new(Exit::Damaged, "damaged", &std::io::Error::other(message)));
    }
    Ok(Summary { items: objects, objects, bytes, ..summary(&repository.objects) })
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
        let points = Points::load(repository).await?;
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

/// Names and sizes, by one listing.
async fn presence(repository: &Repository, needs: &Needs, findings: &mut Findings<'_>) -> Result<u64, Fault> {
    let listing = repository.objects.list("").await?;
    let sizes: HashMap<&str, u64> = listing.iter().map(|info: &ObjectInfo| (info.key.as_str(), info.size)).collect();
    let mut bytes = 0;
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
        findings.object(key, error, &need.points)?;
    }
    Ok(bytes)
}

/// Every byte, against its digest.
async fn read(repository: &Repository, needs: &Needs, findings: &mut Findings<'_>) -> Result<u64, Fault> {
    let progress = findings.events.progress();
    let mut reads = futures::stream::iter(needs)
        .map(|(key, need)| async move { (key, need, prove(repository, key, need).await) })
        .buffer_unordered(READS);
    let mut bytes = 0;
    while let Some((key, need, proved)) = reads.next().await {
        match proved {
            Ok(length) => bytes += length,
            Err(error) => findings.object(key, error, &need.points)?,
        }
        progress.items_done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        progress.bytes_done.store(bytes, std::sync::atomic::Ordering::Relaxed);
        progress.transferred_bytes.store(repository.objects.fetched_bytes(), std::sync::atomic::Ordering::Relaxed);
    }
    Ok(bytes)
}

async fn prove(repository: &Repository, key: &str, need: &Need) -> Result<u64, ObjectError> {
    let bytes = repository.objects.get(key, need.bytes.unwrap_or(MANIFEST_BYTES_MAX).max(MANIFEST_BYTES_MAX)).await?;
    let length = bytes.len() as u64;
    let stored = Stored { bytes: need.bytes.unwrap_or(length), sha256: need.sha256 };
    check_bytes(key, &bytes, stored)?;
    Ok(length)
}

/// Heartbeats and checkpoints carry their own signatures.
async fn records(
    repository: &Repository,
    wanted: &impl Fn(&str) -> bool,
    findings: &mut Findings<'_>,
) -> Result<(), Fault> {
    for info in repository.objects.list(RUNS).await? {
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
                if let Err(error) = record::open::<serde_json::Value>(key, &bytes, &repository.public) {
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
