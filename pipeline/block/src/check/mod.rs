//! `check`: are the stored objects there and whole? Needs no content key for almost all of it.
//!
//! Presence compares one listing with what the manifests name in clear; `objects` also reads the
//! bytes and compares them with the SHA-256 in their names. With the key, manifests are opened and
//! documents proved too. It changes nothing, and one bad object never hides another.

mod beneath;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_block_store::contract::{Key, ObjectInfo, Store};
use dualsync_model::event::{Event, Finding};
use dualsync_model::id::PointId;
use dualsync_model::job::{CheckTask, Depth};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::checkpoint::Checkpoint;
use crate::digest::{Sha256, Sha256Stream};
use crate::document::Unproven;
use crate::events::Events;
use crate::evidence;
use crate::fetch::{ObjectError, Problem};
use crate::format::pack::BYTES_MAX;
use crate::heartbeat::Heartbeat;
use crate::history::{chain_findings, lost};
use crate::keys::KeyId;
use crate::manifest::{Clear, Reference};
use crate::marks::{MarkNote, Marks};
use crate::names;
use crate::points::{Census, load};
use crate::repository::Repository;
use crate::seal::OpenError;
use crate::shadow;
use crate::slot::KeySlot;
use crate::trouble::Trouble;
use crate::unlock::successor;

/// Objects read at once, each in pieces: however large packs are, a few pieces are in memory.
const FETCHES: usize = 3;
/// Bytes of a piece. A bucket charges requests, so pieces are no smaller than memory asks for.
const PIECE_BYTES: u64 = 8 << 20;

/// What `check` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects looked at.
    pub objects: u64,
    /// Stored bytes read and compared.
    pub bytes: u64,
    /// Findings told.
    pub findings: u64,
}

/// An object that somebody needs.
#[derive(Debug)]
struct Needed {
    size: u64,
    points: Vec<PointId>,
}

/// What a check can reach.
#[derive(Clone, Debug)]
pub enum Access {
    /// The repository with its key.
    Opened(Arc<Repository>),
    /// The bucket alone.
    Keyless {
        /// Where the objects are.
        store: Arc<dyn Store>,
        /// The target's name, for findings.
        target: String,
    },
}

impl Access {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Opened(repository) => repository.store(),
            Self::Keyless { store, .. } => &**store,
        }
    }

    fn target(&self) -> &str {
        match self {
            Self::Opened(repository) => repository.target(),
            Self::Keyless { target, .. } => target,
        }
    }

    /// An object's bytes from the store itself, never from a cache.
    async fn get(&self, key: &Key) -> Result<Bytes, ObjectError> {
        match self {
            Self::Opened(repository) => repository.get(key).await,
            Self::Keyless { store, .. } => store.get(key).await.map_err(|error| ObjectError::new(key.clone(), error)),
        }
    }

    /// A piece of an object.
    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        match self {
            Self::Opened(repository) => repository.get_range(key, offset, length).await,
            Self::Keyless { store, .. } => {
                store.get_range(key, offset, length).await.map_err(|error| ObjectError::new(key.clone(), error))
            }
        }
    }
}

struct Check<'a> {
    access: &'a Access,
    task: &'a CheckTask,
    events: &'a Events,
    listed: BTreeMap<Key, ObjectInfo>,
    needed: BTreeMap<Key, Needed>,
    checked: Checked,
    /// Told at the end.
    findings: Vec<Finding>,
}

/// Checks the repository, or the objects of one point.
pub async fn check(access: &Access, task: &CheckTask, events: &Events) -> Result<Checked, Trouble> {
    events.progress().phase("listing");
    let listed = access.store().list("", None).await?;
    let listed = listed.into_iter().map(|object| (object.key.clone(), object)).collect();
    let mut check = Check {
        access,
        task,
        events,
        listed,
        needed: BTreeMap::new(),
        checked: Checked::default(),
        findings: Vec::new(),
    };
    // What was found is told, too, where the store gives up half-way.
    let ended = check.everything().await;
    check.tell_all().await;
    ended.map(|()| check.checked)
}

impl Check<'_> {
    async fn everything(&mut self) -> Result<(), Trouble> {
        self.manifests().await?;
        if let Access::Opened(repository) = self.access {
            match &self.task.point {
                None => {
                    self.chain(repository).await?;
                    self.documents(repository).await?;
                }
                Some(_) if self.needed.is_empty() && repository.looks_under() => {
                    let census = Census::take(repository).await?;
                    self.hidden(repository, &census).await?;
                }
                Some(_) => {}
            }
        }
        self.presence();
        if self.task.depth == Depth::Objects {
            self.objects().await?;
        }
        Ok(())
    }

    fn tell(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.checked.findings += 1;
    }

    /// Tells every finding, and of an object that is gone or wrong whether an older version of it is good.
    async fn tell_all(&mut self) {
        let mut findings = std::mem::take(&mut self.findings);
        if self.task.depth == Depth::Objects {
            beneath::read(self.access.store(), &mut findings).await;
        } else {
            let sizes = |key: &Key| self.needed.get(key).map(|needed| needed.size);
            beneath::look(self.access.store(), &mut findings, self.needed.keys(), sizes).await;
        }
        for finding in findings {
            self.events.say(&Event::Finding(finding));
        }
    }

    fn found(&mut self, error: &ObjectError, points: Vec<PointId>) {
        let finding = error.finding(self.access.target(), points);
        self.tell(finding);
    }

    /// Reads the clear section of every manifest, damaged inside or not: what it names is needed.
    async fn manifests(&mut self) -> Result<(), Trouble> {
        let manifests: Vec<Key> =
            self.listed.keys().filter(|key| key.as_str().starts_with(names::POINTS)).cloned().collect();
        for key in manifests {
            let Some(name) = names::parse_manifest(key.as_str()) else { continue };
            let point = PointId::new(name.source.clone(), name.time);
            if self.task.point.as_ref().is_some_and(|wanted| *wanted != point) {
                continue;
            }
            match self.read(&key, &name.sha256).await {
                Ok(bytes) => match Clear::read(&bytes) {
                    Ok((clear, _)) => self.need(&clear, &point),
                    Err(error) => self.found(&ObjectError::new(key, error), vec![point]),
                },
                Err(error) if error.is_damage() => self.shadowed(&error, &name.sha256, point).await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A manifest that is wrong: where an older version is good, what that needs is needed.
    async fn shadowed(&mut self, error: &ObjectError, sha256: &Sha256, point: PointId) {
        let older = shadow::good_version(self.access.store(), &error.object, sha256).await;
        let finding = error.finding(self.access.target(), vec![point.clone()]);
        match older.as_deref().map(Clear::read) {
            Some(Ok((clear, _))) => {
                self.need(&clear, &point);
                self.tell(beneath::hides_a_good_one(finding));
            }
            _ => self.tell(finding),
        }
    }

    /// Manifests that no listing shows and that are there: what they need is needed.
    async fn hidden(&mut self, repository: &Repository, census: &Census) -> Result<(), Trouble> {
        let is_wanted = |point: &PointId| self.task.point.as_ref().is_none_or(|wanted| wanted == point);
        let hidden = census.heads.iter().filter(|head| !self.listed.contains_key(&head.key));
        let hidden: Vec<_> = hidden.filter(|head| is_wanted(&head.description.point)).collect();
        for head in hidden {
            let manifest = load(repository, &head.name, head.size).await?;
            self.need(&manifest.clear, &head.description.point);
            let told = census.findings.iter().find(|finding| finding.object == head.key.as_str());
            if let Some(finding) = told {
                self.tell(finding.clone());
            }
        }
        Ok(())
    }

    /// An object's bytes, which must have this digest.
    async fn read(&mut self, key: &Key, sha256: &Sha256) -> Result<Bytes, ObjectError> {
        let bytes = self.access.get(key).await?;
        self.checked.objects += 1;
        self.checked.bytes += bytes.len() as u64;
        if Sha256::of(&bytes) == *sha256 { Ok(bytes) } else { Err(ObjectError::new(key.clone(), Problem::Digest)) }
    }

    fn need(&mut self, clear: &Clear, point: &PointId) {
        let mut add = |key: Key, reference: &Reference| {
            let needed =
                self.needed.entry(key).or_insert_with(|| Needed { size: reference.size.into(), points: Vec::new() });
            if !needed.points.contains(point) {
                needed.points.push(point.clone());
            }
        };
        for reference in &clear.maps {
            add(names::map(&reference.sha256), reference);
        }
        for reference in &clear.packs {
            add(names::pack(&reference.sha256), reference);
        }
    }

    /// What only the key can tell: manifests that do not open or were moved, and the chain.
    async fn chain(&mut self, repository: &Repository) -> Result<(), Trouble> {
        let census = Census::take(repository).await?;
        let target = self.access.target().to_owned();
        // Digests were told above; what is left is what is wrong inside.
        let told = ["digest", "truncated", shadow::KIND];
        let inside = census.findings.iter().filter(|finding| !told.contains(&finding.kind.as_str()));
        let marks = Marks::list(repository).await?;
        let lost = lost(repository, &census, &marks).await?;
        let findings: Vec<Finding> = inside.cloned().chain(chain_findings(&target, &census, &lost)).collect();
        for finding in findings {
            self.tell(finding);
        }
        self.hidden(repository, &census).await
    }

    /// README.txt, recover.py, key slots, heartbeats, checkpoints and marks.
    async fn documents(&mut self, repository: &Repository) -> Result<(), Trouble> {
        let info = repository.info();
        for (name, sha256) in [(names::README, info.readme_sha256), (names::RECOVER, info.recover_sha256)] {
            let read = self.read(&names::fixed(name), &sha256).await;
            self.sort_out(read.map(drop))?;
        }
        let places = repository.slot_places().iter();
        for place in places.filter(|place| !self.listed.contains_key(*place)).cloned().collect::<Vec<_>>() {
            self.sort_out(repository.get(&place).await.map(drop))?;
        }
        let keys: Vec<Key> = self.listed.keys().cloned().collect();
        for key in keys {
            let text = key.as_str();
            let result = if text.starts_with(names::KEYS) {
                self.prove_slot(repository, &key).await
            } else if let Some(sha256) = names::parse_recover(text) {
                self.read(&key, &sha256).await.map(drop)
            } else if names::parse_heartbeat(text).is_some() {
                self.prove::<Heartbeat>(repository, &key).await
            } else if names::parse_checkpoint(text).is_some() {
                self.open_checkpoint(repository, &key).await
            } else if text.starts_with(names::MARKS) {
                self.prove::<MarkNote>(repository, &key).await
            } else {
                if !is_ours(text) {
                    self.events.warn("unexpected", format!("'{text}' is no object of a block repository"));
                }
                Ok(())
            };
            self.sort_out(result)?;
        }
        for (object, problem) in evidence::problems(repository).await? {
            let kind = if problem.contains("not there") { "missing" } else { "forged" };
            self.tell(Finding {
                target: self.access.target().to_owned(),
                object: object.to_string(),
                kind: kind.to_owned(),
                problem,
                points: Vec::new(),
                paths: Vec::new(),
            });
        }
        Ok(())
    }

    fn sort_out(&mut self, result: Result<(), ObjectError>) -> Result<(), Trouble> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_damage() => {
                self.found(&error, Vec::new());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn prove<T: DeserializeOwned>(&mut self, repository: &Repository, key: &Key) -> Result<(), ObjectError> {
        let bytes = repository.get(key).await?;
        self.checked.objects += 1;
        let proved: Result<T, _> =
            Unproven::parse(&bytes).and_then(|text| text.prove(&repository.keys().mac_key(), key.as_str()));
        proved.map(drop).map_err(|error| ObjectError::new(key.clone(), error))
    }

    /// A slot of one of these keys is proved by it; that of another key only by the key it came in the place of.
    async fn prove_slot(&mut self, repository: &Repository, key: &Key) -> Result<(), ObjectError> {
        let bytes = repository.get(key).await?;
        self.checked.objects += 1;
        let keys = repository.keys();
        let claimed = Unproven::parse(&bytes).and_then(|slot| slot.claim::<KeySlot>());
        let is_of_another =
            claimed.as_ref().is_ok_and(|slot| KeyId::from_text(&slot.key_id).is_some_and(|id| keys.of(id).is_none()));
        let announces = |slot: &KeySlot| keys.all().any(|old| slot.replaces(old, keys.repository()).is_some());
        let is_announced = is_of_another && claimed.is_ok_and(|slot| announces(&slot));
        if is_announced {
            return Ok(());
        }
        match KeySlot::prove(&bytes, key, &keys.mac_key()) {
            Ok(_) => Ok(()),
            // A key of before a rotation proves the next one's slot, and nothing that newer keys made.
            Err(_) if is_of_another && self.is_outdated(repository, key).await? => {
                let message = format!("'{key}' was made with a key that came later: check it with the newest one");
                self.events.warn("unproved", message);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether another key came in the place of the newest one at hand; told of the slot in question when the store does not answer.
    async fn is_outdated(&self, repository: &Repository, slot: &Key) -> Result<bool, ObjectError> {
        let by = successor(repository.store(), repository.keys()).await;
        by.map(|by| by.is_some()).map_err(|error| ObjectError::new(slot.clone(), error))
    }

    async fn open_checkpoint(&mut self, repository: &Repository, key: &Key) -> Result<(), ObjectError> {
        let bytes = repository.get(key).await?;
        self.checked.objects += 1;
        let opened = Checkpoint::open(repository.keys(), key.as_str(), &bytes);
        opened.map(drop).map_err(|error: OpenError| ObjectError::new(key.clone(), error))
    }

    /// Every needed object against the listing.
    fn presence(&mut self) {
        let mut findings = Vec::new();
        for (key, needed) in &self.needed {
            let (kind, problem) = match self.listed.get(key).map(|object| object.size) {
                None => ("missing", "there is no such object".to_owned()),
                Some(size) if size < needed.size => {
                    ("truncated", format!("it has {size} bytes and should have {}", needed.size))
                }
                Some(size) if size > needed.size => {
                    ("digest", format!("it has {size} bytes and should have {}", needed.size))
                }
                Some(_) => continue,
            };
            findings.push(Finding {
                target: self.access.target().to_owned(),
                object: key.to_string(),
                kind: kind.to_owned(),
                problem,
                points: needed.points.clone(),
                paths: Vec::new(),
            });
        }
        self.checked.objects += self.needed.len() as u64;
        for finding in findings {
            self.tell(finding);
        }
    }

    /// Every stored pack and map object, of the slice, against its name.
    async fn objects(&mut self) -> Result<(), Trouble> {
        let wanted = |key: &&Key| {
            let is_named = self.task.point.is_none() || self.needed.contains_key(*key);
            let is_data = key.as_str().starts_with(names::PACKS) || key.as_str().starts_with(names::MAPS);
            is_named && is_data && self.task.slice.is_none_or(|slice| slice.contains(key.as_str().as_bytes()))
        };
        let keys: Vec<Key> = self.listed.keys().filter(wanted).cloned().collect();
        let bytes = keys.iter().filter_map(|key| self.listed.get(key)).map(|object| object.size).sum();
        self.events.progress().begin("reading", bytes, keys.len() as u64);
        let mut reading = JoinSet::new();
        for key in keys {
            if self.listed.get(&key).is_some_and(|object| object.size > BYTES_MAX as u64) {
                let points = self.needed.get(&key).map(|needed| needed.points.clone()).unwrap_or_default();
                self.found(&ObjectError::new(key, Problem::TooLong), points);
                continue;
            }
            while reading.len() >= FETCHES {
                self.take_read(reading.join_next().await)?;
            }
            let Some(size) = self.listed.get(&key).map(|object| object.size) else { continue };
            let access = self.access.clone();
            reading.spawn(async move { (read_object(&access, &key, size).await, key) });
        }
        while !reading.is_empty() {
            self.take_read(reading.join_next().await)?;
        }
        Ok(())
    }

    fn take_read(&mut self, read: Option<Result<ReadObject, tokio::task::JoinError>>) -> Result<(), Trouble> {
        let Some(read) = read else { return Ok(()) };
        let (result, key) =
            read.map_err(|error| Trouble::new(dualsync_model::outcome::Exit::Failed, "internal", &error))?;
        let needed = self.needed.get(&key);
        let points = needed.map(|needed| needed.points.clone()).unwrap_or_default();
        // A size that is wrong was told by `presence`.
        let told = needed.is_some_and(|needed| self.listed.get(&key).is_some_and(|object| object.size != needed.size));
        match result {
            Ok(bytes) => {
                self.checked.bytes += bytes;
                self.events.progress().add(bytes, 1);
                Ok(())
            }
            Err(error) if error.is_damage() => {
                if !told {
                    self.found(&error, points);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What reading one object brought.
type ReadObject = (Result<u64, ObjectError>, Key);

/// Reads one object of `size` bytes piece by piece and compares it with its name; the number of its bytes.
async fn read_object(access: &Access, key: &Key, size: u64) -> Result<u64, ObjectError> {
    let mut hasher = Sha256Stream::default();
    let mut offset = 0;
    while offset < size {
        let length = PIECE_BYTES.min(size - offset);
        hasher.update(&access.get_range(key, offset, length).await?);
        offset += length;
    }
    match names::digest_of(key.as_str()) {
        Some(sha256) if hasher.finish() == sha256 => Ok(size),
        _ => Err(ObjectError::new(key.clone(), Problem::Digest)),
    }
}

fn is_ours(key: &str) -> bool {
    [names::REPO, names::README, names::RECOVER].contains(&key)
        || [names::POINTS, names::PACKS, names::MAPS, names::RUNS, names::MARKS, names::KEYS, "evidence/", "probe/"]
            .iter()
            .any(|folder| key.starts_with(folder))
}
