//! The points of a repository: its manifests, found by a listing, proved one by one.
//!
//! A manifest that is damaged, forged or unknown becomes a finding and hides no other. What is
//! kept of each good one is its head: page lists stay on disk until somebody needs that point.

mod beneath;

use std::collections::HashSet;

use dualsync_block_store::contract::{Key, ObjectInfo, StoreError};
use dualsync_model::event::Finding;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::fetch::{ObjectError, Problem};
use crate::format::manifest::BYTES_MAX;
use crate::manifest::{Description, LedgerLine, Manifest};
use crate::names::{self, ManifestName};
use crate::points::beneath::Listing;
use crate::repository::Repository;

/// One good manifest without its lists.
#[derive(Clone, Debug)]
pub struct Head {
    /// What its key tells.
    pub name: ManifestName,
    /// Its key.
    pub key: Key,
    /// Its own stored bytes.
    pub size: u64,
    /// When the store says it was written.
    pub modified: Timestamp,
    /// Its place in the chain.
    pub sequence: u64,
    /// The newest manifest when it was made.
    pub predecessor: Option<Sha256>,
    /// What it says; the ledger is kept of the newest one only.
    pub description: Description,
    /// Stored bytes of what it needs, itself included.
    pub stored_bytes: u64,
    /// Of these, what it uses.
    pub live_bytes: u64,
}

impl Head {
    fn rank(&self) -> (u64, &Key) {
        (self.sequence, &self.key)
    }

    /// Its line in a ledger.
    pub fn ledger_line(&self) -> LedgerLine {
        LedgerLine {
            point: self.description.point.clone(),
            sequence: self.sequence,
            sha256: self.name.sha256,
            manifest: self.key.to_string(),
        }
    }
}

/// Everything a listing of the manifests brought.
#[derive(Debug, Default)]
pub struct Census {
    /// Good manifests, oldest snapshot first.
    pub heads: Vec<Head>,
    /// What is wrong with the others.
    pub findings: Vec<Finding>,
    /// The listing itself, and what it should show.
    pub listed: Vec<ObjectInfo>,
    /// Manifests under a delete marker that are no points any more: a deleter deleted them, and they are locked.
    pub buried: HashSet<Sha256>,
    /// Why the store did not give the first that it did not give.
    refused: Option<ObjectError>,
}

/// Is shown each good manifest in passing.
type Show<'a> = &'a mut (dyn FnMut(&ManifestName, &Manifest) + Send);

impl Census {
    /// Lists and reads the manifests of the repository.
    ///
    /// # Errors
    /// Only when the store does not answer; what is damaged is a finding.
    pub async fn take(repository: &Repository) -> Result<Self, CensusError> {
        Self::take_and_show(repository, &mut |_, _| {}).await
    }

    /// The same, and shows each good manifest in passing: all of them at once would take too much memory.
    pub async fn take_and_show(repository: &Repository, show: Show<'_>) -> Result<Self, CensusError> {
        let Listing { visible: mut listed, stacks } = Listing::take(repository).await?;
        let mut census = Self::default();
        for object in &listed {
            match stacks.get(&object.key).filter(|stack| stack.versions().len() > 1) {
                Some(stack) => census.look_under(repository, (&object.key, stack), show).await?,
                None => census.look_at(repository, object, show).await?,
            }
        }
        // Deleted between the listing and the reading is not lost: a second listing tells.
        if census.findings.iter().any(|finding| finding.kind == "missing") {
            let again = repository.store().list(names::POINTS, None).await?;
            let again: HashSet<Key> = again.into_iter().map(|object| object.key).collect();
            let is_there = |key: &str| again.iter().any(|there| there.as_str() == key);
            census.findings.retain(|finding| finding.kind != "missing" || is_there(&finding.object));
            let read: HashSet<&Key> = census.heads.iter().map(|head| &head.key).collect();
            listed.retain(|object| read.contains(&object.key) || again.contains(&object.key));
        }
        let of_stacks: HashSet<Key> = census.listed.iter().map(|object| object.key.clone()).collect();
        listed.retain(|object| !of_stacks.contains(&object.key));
        census.listed.append(&mut listed);
        census.look_under_markers(repository, &stacks, show).await?;
        // Not one that it gives: these credentials may not read.
        if let (true, Some(error)) = (census.heads.is_empty(), census.refused.take()) {
            return Err(CensusError::Read(error));
        }
        census.heads.sort_by(|a, b| (a.name.time, &a.key).cmp(&(b.name.time, &b.key)));
        Ok(census)
    }

    async fn look_at(
        &mut self,
        repository: &Repository,
        object: &ObjectInfo,
        show: Show<'_>,
    ) -> Result<(), CensusError> {
        let Some(name) = names::parse_manifest(object.key.as_str()) else {
            self.findings.push(unexpected(repository.target(), &object.key));
            return Ok(());
        };
        match load(repository, &name, object.size).await {
            Ok(manifest) => {
                show(&name, &manifest);
                self.add(head(name, object, &manifest));
            }
            // In a bucket that locks, somebody who may put has put what nobody can read: no reason to let locks end.
            Err(error) if error.is_damage() || (repository.looks_under() && error.is_answer()) => {
                let point = PointId::new(name.source, name.time);
                self.findings.push(error.finding(repository.target(), vec![point]));
                self.refused = self.refused.take().or_else(|| (!error.is_damage()).then_some(error));
            }
            Err(error) => return Err(CensusError::Read(error)),
        }
        Ok(())
    }

    /// Adds a head. The newest stays the last one meanwhile, and alone keeps its ledger: all of
    /// them together would grow with the square of the points.
    fn add(&mut self, mut head: Head) {
        if let Some(newest) = self.heads.last_mut() {
            if head.rank() < newest.rank() {
                std::mem::swap(newest, &mut head);
            }
            newest.description.ledger = Vec::new();
        }
        self.heads.push(head);
    }

    /// The newest manifest of the whole repository.
    pub fn newest(&self) -> Option<&Head> {
        self.heads.iter().max_by(|a, b| a.rank().cmp(&b.rank()))
    }

    /// The newest manifest of one source.
    pub fn newest_of(&self, source: &SourceName) -> Option<&Head> {
        self.heads.iter().filter(|head| head.name.source == *source).max_by_key(|head| (head.sequence, head.name.time))
    }

    /// The manifest of a point; the newest of several.
    pub fn find(&self, point: &PointId) -> Option<&Head> {
        self.heads.iter().filter(|head| head.description.point == *point).max_by_key(|head| head.sequence)
    }
}

/// Why the points of a repository are not known.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// The listing failed.
    #[error("cannot list the points")]
    List(#[from] StoreError),
    /// A manifest could not be fetched.
    #[error("cannot read a manifest")]
    Read(#[source] ObjectError),
}

/// Fetches and opens one manifest.
pub async fn load(repository: &Repository, name: &ManifestName, size: u64) -> Result<Manifest, ObjectError> {
    let key = names::manifest(&name.stem, &name.sha256);
    if size > BYTES_MAX {
        return Err(ObjectError::new(key, Problem::TooLong));
    }
    let bytes = repository.get_cached(&key, &name.sha256).await?;
    opened(repository, name, &bytes)
}

/// Opens the bytes of a manifest, which must fit its key.
fn opened(repository: &Repository, name: &ManifestName, bytes: &[u8]) -> Result<Manifest, ObjectError> {
    let key = names::manifest(&name.stem, &name.sha256);
    let manifest =
        Manifest::open(repository.keys(), &name.stem, bytes).map_err(|error| ObjectError::new(key.clone(), error))?;
    let point = PointId::new(name.source.clone(), name.time);
    if manifest.description.point != point || manifest.description.block_bytes != repository.info().block_bytes {
        let problem = crate::seal::OpenError::Malformed("a manifest that does not fit its key");
        return Err(ObjectError::new(key, problem));
    }
    Ok(manifest)
}

fn head(name: ManifestName, object: &ObjectInfo, manifest: &Manifest) -> Head {
    Head {
        name,
        key: object.key.clone(),
        size: object.size,
        modified: object.modified,
        sequence: manifest.clear.sequence,
        predecessor: manifest.clear.predecessor,
        description: manifest.description.clone(),
        stored_bytes: manifest.stored_bytes() + object.size,
        live_bytes: manifest.live_bytes() + object.size,
    }
}

fn unexpected(target: &str, key: &Key) -> Finding {
    Finding {
        target: target.to_owned(),
        object: key.to_string(),
        kind: "unexpected".to_owned(),
        problem: "its name is not a manifest's".to_owned(),
        points: Vec::new(),
        paths: Vec::new(),
    }
}
