//! Every manifest of the repository, and which objects it needs: all of them, or nothing is deleted.
//!
//! A manifest that is listed and cannot be read ends the job, and so does one that the newest manifest knows,
//! that is not listed, and that nobody who may sign has deleted: a listing that hides a manifest would have
//! its objects deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::event::Finding;

use crate::backup::chain::line_key;
use crate::events::Events;
use crate::format::{MANIFEST_NAME, POINTS, REFS_NAME, SIGNATURE_NAME, SUMS_NAME};
use crate::hidden::hidden_copies;
use crate::marks::{Kind, Marks, object_digest};
use crate::objects::ObjectError;
use crate::points::{Copy, Opened, PointError, finding, manifest_keys, open_listed, sizes, with_causes};
use crate::prune::PruneError;
use crate::refs::Ref;
use crate::repo::Repository;
use crate::shadow::Listed;

/// Manifests fetched at once; each comes with its list of objects.
const FETCHES: usize = 4;

/// All manifests.
#[derive(Debug, Default)]
pub struct Manifests {
    copies: BTreeMap<Arc<str>, Copy>,
    needs: BTreeMap<String, Vec<Need>>,
    /// What is wrong with those that are not here and should be.
    unreadable: Vec<Finding>,
}

/// A copy that needs an object.
#[derive(Clone, Debug)]
pub struct Need {
    /// Key of its manifest.
    pub manifest: Arc<str>,
    /// How many of the object's bytes it uses.
    pub live_bytes: u64,
}

impl Manifests {
    /// Reads every manifest of a listing of `points/`. Before anything is deleted, [`Manifests::require_all`] has to agree.
    pub async fn read(repository: &Repository, listed: &Listed, events: &Events) -> Result<Self, PruneError> {
        let mut manifests = Self::default();
        manifests.read_new(repository, listed).await?;
        manifests.check_ledger(repository, events).await?;
        Ok(manifests)
    }

    /// Tells what could not be read, and refuses to go on then: nobody knows what it needs.
    pub fn require_all(&mut self, events: &Events) -> Result<(), PruneError> {
        let unreadable = std::mem::take(&mut self.unreadable);
        if unreadable.is_empty() { Ok(()) } else { Err(stop(unreadable, events)) }
    }

    /// Lists the manifests again, takes in what is new, and lets go of what is gone. What was read is not read
    /// again: a key belongs to one run, and its bytes were proved.
    pub async fn read_again(&mut self, repository: &Repository, events: &Events) -> Result<(), PruneError> {
        let listed = repository.objects.list_deep(POINTS).await?;
        let there: BTreeSet<_> = listed.shown.iter().chain(&listed.hidden).map(|info| info.key.as_str()).collect();
        let gone: Vec<_> = self.copies.keys().filter(|key| !there.contains(&***key)).cloned().collect();
        for key in gone {
            self.copies.remove(&key);
            self.require_deleted(repository, &key, events).await?;
        }
        self.read_new(repository, &listed).await?;
        self.check_ledger(repository, events).await?;
        self.require_all(events)
    }

    async fn read_new(&mut self, repository: &Repository, listed: &Listed) -> Result<(), PruneError> {
        let listing = &listed.shown;
        let sizes = &sizes(listing);
        let keys = manifest_keys(listing.iter().map(|info| info.key.as_str()));
        let keys: Vec<_> = keys.into_iter().filter(|key| !self.copies.contains_key(key.as_str())).collect();
        let mut reads = futures::stream::iter(&keys)
            .map(|key| async move { (key, read_one(repository, key, sizes).await) })
            .buffered(FETCHES);
        let mut unreadable = Vec::new();
        while let Some((key, read)) = reads.next().await {
            match read? {
                Read::Good(copy, refs) => self.add(*copy, &refs),
                Read::Bad(bad) if is_listed(repository, key).await? => unreadable.push(bad),
                // Another deleter has taken it away since: nobody needs what it named.
                Read::Bad(_) => {}
            }
        }
        for copy in self.hidden(repository, listed).await? {
            match read_refs(repository, copy).await? {
                Read::Good(copy, refs) => self.add(*copy, &refs),
                Read::Bad(bad) => unreadable.push(bad),
            }
        }
        self.unreadable.extend(unreadable);
        Ok(())
    }

    /// The copies that delete markers hide, and that are not read yet.
    async fn hidden(&self, repository: &Repository, listed: &Listed) -> Result<Vec<Copy>, ObjectError> {
        let is_new = |info: &&ObjectInfo| !self.copies.contains_key(info.key.as_str());
        let hidden: Vec<_> = listed.hidden.iter().filter(is_new).cloned().collect();
        let received = |copy: &Copy| {
            let shown = listed.shown.iter().find(|info| info.key.as_str() == copy.key);
            copy.received_at.or_else(|| shown.map(|info| info.modified))
        };
        let newest = self.newest().map(|copy| (copy, received(copy)));
        // What should be there and cannot be read is missing then, which the ledger tells.
        Ok(hidden_copies(repository, &hidden, newest).await?.0)
    }

    fn add(&mut self, copy: Copy, refs: &[Ref]) {
        let manifest: Arc<str> = copy.key.as_str().into();
        let mut need = |object: String, live_bytes| {
            self.needs.entry(object).or_default().push(Need { manifest: manifest.clone(), live_bytes });
        };
        for one in refs {
            need(one.key.clone(), one.live_bytes);
        }
        let objects = &copy.manifest.objects;
        for (name, bytes) in [(REFS_NAME, objects.refs.bytes), (SUMS_NAME, objects.sums.bytes), (SIGNATURE_NAME, 0)] {
            if let Some(key) = copy.manifest.object_key(name) {
                need(key, bytes);
            }
        }
        self.copies.insert(manifest, copy);
    }

    /// What the newest manifest knows is there, or was deleted by who may.
    async fn check_ledger(&mut self, repository: &Repository, events: &Events) -> Result<(), PruneError> {
        let Some(newest) = self.newest() else { return Ok(()) };
        let is_told = |key: &str| self.unreadable.iter().any(|finding| finding.object == key);
        let missing = newest.manifest.ledger.iter().map(line_key);
        let missing = missing.filter(|key| !self.copies.contains_key(key.as_str()) && !is_told(key));
        for key in missing.collect::<Vec<_>>() {
            self.require_deleted(repository, &key, events).await?;
        }
        Ok(())
    }

    /// A manifest that should be there and is not: only a signed word that it is deleted makes that right.
    async fn require_deleted(&mut self, repository: &Repository, key: &str, events: &Events) -> Result<(), PruneError> {
        let mut marks = Marks::list_of(repository, key).await?;
        let digest = object_digest(key);
        marks.prove(repository, |on, kind| on == digest && kind == Kind::Deleting, events).await?;
        if !marks.is_deleting(key) {
            let problem = "a manifest knows this point, it is not there, and nobody who may sign has deleted it";
            self.unreadable.push(finding(&repository.target, key, "missing", problem.to_owned()));
        }
        Ok(())
    }

    /// Every object that some copy needs, or needed.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.needs.keys().map(String::as_str)
    }

    /// All copies, by key.
    pub fn copies(&self) -> impl Iterator<Item = &Copy> {
        self.copies.values()
    }

    /// The copy with this manifest.
    pub fn copy(&self, manifest: &str) -> Option<&Copy> {
        self.copies.get(manifest)
    }

    /// The copy with the highest number.
    pub fn newest(&self) -> Option<&Copy> {
        self.copies.values().max_by(|a, b| {
            let order = |copy: &Copy| (copy.anchor.sequence, copy.anchor.sha256.clone());
            order(a).cmp(&order(b))
        })
    }

    /// The copies that need an object.
    pub fn needing(&self, object: &str) -> impl Iterator<Item = &Need> {
        let needs = self.needs.get(object).map_or(&[][..], Vec::as_slice);
        needs.iter().filter(|need| self.copies.contains_key(&need.manifest))
    }
}

enum Read {
    Good(Box<Copy>, Vec<Ref>),
    Bad(Finding),
}

async fn read_one(repository: &Repository, key: &str, sizes: &BTreeMap<&str, u64>) -> Result<Read, ObjectError> {
    match open_listed(repository, key, sizes).await? {
        Opened::Good(copy) => read_refs(repository, *copy).await,
        Opened::Bad { kind, problem } => Ok(Read::Bad(finding(&repository.target, key, kind, problem))),
    }
}

async fn read_refs(repository: &Repository, copy: Copy) -> Result<Read, ObjectError> {
    let bad = |object: &str, kind: &str, problem| Ok(Read::Bad(finding(&repository.target, object, kind, problem)));
    let list = copy.key.replace(MANIFEST_NAME, REFS_NAME);
    match copy.refs(&repository.objects).await {
        Ok(refs) => Ok(Read::Good(Box::new(copy), refs)),
        Err(PointError::Object(error)) => match error.finding() {
            Some(kind) => bad(&list, kind, error.to_string()),
            None => Err(error),
        },
        Err(error) => bad(&list, "unreadable", with_causes(&error)),
    }
}

async fn is_listed(repository: &Repository, key: &str) -> Result<bool, ObjectError> {
    Ok(repository.objects.list(key).await?.iter().any(|info| info.key.as_str() == key))
}

/// Nobody knows what an unread manifest needs.
fn stop(unreadable: Vec<Finding>, events: &Events) -> PruneError {
    let object = unreadable.first().map(|finding| finding.object.clone()).unwrap_or_default();
    for finding in unreadable {
        events.finding(finding);
    }
    PruneError::Unreadable { object }
}
