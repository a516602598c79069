//! Marks: the announcement that an object or a point will be deleted.
//!
//! A mark of the object with key K is `marks/<SHA-256 of K>-<random>`, beside it come `.deleting` when
//! the deletion begins and `.undone` when it is taken back. Each is a signed record.
//!
//! Who can write to the bucket can put names there. A name alone is enough for a run to keep away from an
//! object, which costs a stranger's victim some sending and nothing else; to pass over a point, to take a
//! mark back, and above all to delete anything, it must be signed. Only what decides something is fetched:
//! a bucket without marks costs the listing. `docs/decisions/0006-deleting.md` has the rules and their proof.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::job::Anchor;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::events::Events;
use crate::format::{MARK_BYTES_MAX, MARKS, is_digest, is_hex};
use crate::objects::{Clock, ObjectError};
use crate::repo::Repository;

/// Marks fetched at once.
const FETCHES: usize = 8;

/// What a mark of version 1 says, signed for its own key; its two companions say the same of themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`crate::format::FORMAT`].
    pub format: String,
    /// [`crate::format::VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// Key of the marked object.
    pub object: String,
    /// When this was written, by the store's clock where it has one.
    pub marked_at: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// Whether a person asked for it; else the rule did.
    #[serde(default)]
    pub asked: bool,
    /// Of a manifest, its number and digest: what a host remembers may be what was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Anchor>,
}

/// The marks of a repository at one moment, by the digest of the marked key.
#[derive(Debug, Default)]
pub struct Marks(BTreeMap<String, Vec<Group>>);

/// A mark and its companions.
#[derive(Debug, Default)]
pub struct Group {
    /// Digest and random part.
    pub id: String,
    /// The mark itself.
    pub mark: Option<Found>,
    /// Deletion has begun.
    pub deleting: Option<Found>,
    /// It was taken back.
    pub undone: Option<Found>,
}

/// A name under `marks/`.
#[derive(Debug)]
pub struct Found {
    /// Last modification by the store's clock.
    pub modified: Timestamp,
    size: u64,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    NotAsked,
    Refused,
    Good(Box<Mark>),
}

/// Which of the three names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The mark itself.
    Mark,
    /// Deletion has begun.
    Deleting,
    /// It was taken back.
    Undone,
}

impl Kind {
    /// In the order in which they are cleared away: without its mark, a companion means nothing.
    pub const ALL: [Self; 3] = [Self::Mark, Self::Deleting, Self::Undone];

    fn suffix(self) -> &'static str {
        match self {
            Self::Mark => "",
            Self::Deleting => ".deleting",
            Self::Undone => ".undone",
        }
    }
}

/// Key of a mark or of its companion.
pub fn mark_key(id: &str, kind: Kind) -> String {
    format!("{MARKS}{id}{}", kind.suffix())
}

/// Whether this is the name of a mark, whoever put it there.
pub fn is_mark_key(key: &str) -> bool {
    parse(key).is_some()
}

/// The first part of the names of all marks of an object.
pub fn object_digest(key: &str) -> String {
    Digest::of(key.as_bytes()).hex()
}

/// Digest, id and kind in a name; `None` for what is no mark.
fn parse(key: &str) -> Option<(&str, &str, Kind)> {
    let name = key.strip_prefix(MARKS)?;
    let (id, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
    let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    let (digest, random) = id.split_once('-')?;
    (is_digest(digest) && random.len() == 16 && is_hex(random)).then_some((digest, id, kind))
}

impl Found {
    /// What it says, where it was proved.
    pub fn record(&self) -> Option<&Mark> {
        match &self.proof {
            Proof::Good(mark) => Some(mark),
            Proof::NotAsked | Proof::Refused => None,
        }
    }
}

fn record(found: Option<&Found>) -> Option<&Mark> {
    found.and_then(Found::record)
}

impl Group {
    /// The three names that are there.
    pub fn names(&self) -> impl Iterator<Item = (Kind, &Found)> {
        let all = [(Kind::Mark, &self.mark), (Kind::Deleting, &self.deleting), (Kind::Undone, &self.undone)];
        all.into_iter().filter_map(|(kind, found)| Some((kind, found.as_ref()?)))
    }

    /// Whether a run has to keep away, whoever put it there. Once deletion has begun, taking back comes too late.
    fn holds(&self) -> bool {
        self.deleting.is_some() || (self.mark.is_some() && !self.is_undone())
    }

    /// Whether it was taken back by who may sign.
    pub fn is_undone(&self) -> bool {
        record(self.undone.as_ref()).is_some()
    }

    /// Whether who may sign says that the object is deleted.
    pub fn is_deleting(&self) -> bool {
        record(self.deleting.as_ref()).is_some()
    }

    /// The proved mark that holds: what a deleter may act on.
    pub fn standing(&self) -> Option<&Mark> {
        let mark = record(self.mark.as_ref())?;
        (!self.is_undone() || self.is_deleting()).then_some(mark)
    }

    /// Whether it was taken back, but so late that a deleter may have looked before: more than seven eighths of the
    /// grace after it was put, by whichever clock says so. Only the mark of a copy may be.
    fn is_undone_late(&self, clock: Clock, grace: i64) -> bool {
        let (Some(mark), Some(undone)) = (&self.mark, &self.undone) else { return false };
        let (Some(said), Some(undone_said)) = (mark.record(), undone.record()) else { return false };
        let seen = if clock.is_stores { undone.modified.seconds_since(mark.modified) } else { 0 };
        undone_said.marked_at.seconds_since(said.marked_at).max(seen) > grace - grace / 8
    }

    /// Since when, by the store's clock where it has one.
    pub fn since(&self, clock: Clock) -> Option<Timestamp> {
        let mark = self.standing()?;
        if clock.is_stores { self.mark.as_ref().map(|found| found.modified) } else { Some(mark.marked_at) }
    }

    /// How old a run has to take it for, seconds: what cannot be told counts as the oldest.
    fn age_for_run(&self, clock: Clock) -> i64 {
        if clock.is_stores {
            let names = [&self.mark, &self.deleting].into_iter().flatten();
            return names.map(|found| clock.age(found.modified)).max().unwrap_or(i64::MAX);
        }
        let marked_at = record(self.mark.as_ref()).map(|mark| mark.marked_at);
        // From the future: one of the two clocks is wrong, and nobody knows by how much.
        marked_at.map(|at| clock.age(at)).filter(|age| *age >= -Clock::APART_MAX_S).unwrap_or(i64::MAX)
    }

    /// How old a deleter may take it for: the store's word or the record's, whichever is less.
    pub fn age(&self, clock: Clock) -> Option<i64> {
        self.ages(clock)?.into_iter().min()
    }

    /// How old it may be at most, which is what taking back has to look at.
    pub fn age_max(&self, clock: Clock) -> Option<i64> {
        self.ages(clock)?.into_iter().max()
    }

    fn ages(&self, clock: Clock) -> Option<Vec<i64>> {
        let said = clock.age(self.standing()?.marked_at);
        let seen = self.mark.as_ref().filter(|_| clock.is_stores).map(|found| clock.age(found.modified));
        Some(seen.into_iter().chain([said]).collect())
    }
}

impl Marks {
    /// Every name under `marks/`, nothing of it proved. By one listing.
    pub async fn list(repository: &Repository) -> Result<Self, ObjectError> {
        Ok(Self::of_listing(&repository.objects.list(MARKS).await?))
    }

    /// The names of the marks of one object, nothing of it proved.
    pub async fn list_of(repository: &Repository, object: &str) -> Result<Self, ObjectError> {
        let prefix = format!("{MARKS}{}-", object_digest(object));
        Ok(Self::of_listing(&repository.objects.list(&prefix).await?))
    }

    /// Lists the marks, and proves those that take a mark back or are on one of `objects`.
    pub async fn load<'a>(
        repository: &Repository,
        objects: impl IntoIterator<Item = &'a str>,
        events: &Events,
    ) -> Result<Self, ObjectError> {
        let mut marks = Self::list(repository).await?;
        if !marks.0.is_empty() {
            let digests: BTreeSet<_> = objects.into_iter().map(object_digest).collect();
            marks.prove(repository, |digest, kind| kind == Kind::Undone || digests.contains(digest), events).await?;
        }
        Ok(marks)
    }

    fn of_listing(listing: &[ObjectInfo]) -> Self {
        let mut groups: BTreeMap<String, Vec<Group>> = BTreeMap::new();
        for info in listing {
            let Some((digest, id, kind)) = parse(info.key.as_str()) else { continue };
            let of_object = groups.entry(digest.to_owned()).or_default();
            let at = of_object.iter().position(|group| group.id == id).unwrap_or_else(|| {
                of_object.push(Group { id: id.to_owned(), ..Group::default() });
                of_object.len() - 1
            });
            *of_object[at].slot(kind) =
                Some(Found { modified: info.modified, size: info.size, proof: Proof::NotAsked });
        }
        Self(groups)
    }

    /// Fetches and proves the names that `decides` chooses by digest of the object and kind, and warns of those
    /// that nobody signed. Only a store that fails is an error.
    pub async fn prove(
        &mut self,
        repository: &Repository,
        decides: impl Fn(&str, Kind) -> bool,
        events: &Events,
    ) -> Result<(), ObjectError> {
        let mut asked = Vec::new();
        for (digest, groups) in &self.0 {
            for group in groups {
                let names = group
                    .names()
                    .filter(|(kind, found)| matches!(found.proof, Proof::NotAsked) && decides(digest, *kind));
                asked.extend(names.map(|(kind, found)| (digest.clone(), group.id.clone(), kind, found.size)));
            }
        }
        let mut proofs = futures::stream::iter(asked)
            .map(|(digest, id, kind, size)| async move {
                let proof = prove(repository, &digest, &mark_key(&id, kind), size).await;
                (digest, id, kind, proof)
            })
            .buffered(FETCHES);
        while let Some((digest, id, kind, proof)) = proofs.next().await {
            let proof = proof?;
            if matches!(proof, Proof::Refused) {
                let key = mark_key(&id, kind);
                events.warn("forged", format!("{key} is not signed as a mark: somebody else put it there"), None);
            }
            let group = self.0.get_mut(&digest).and_then(|groups| groups.iter_mut().find(|group| group.id == id));
            if let Some(found) = group.and_then(|group| group.slot(kind).as_mut()) {
                found.proof = proof;
            }
        }
        Ok(())
    }

    /// All marks, with the digest of the key that each is on.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.0.iter().flat_map(|(digest, groups)| groups.iter().map(move |group| (digest.as_str(), group)))
    }

    /// The marks on the object with this key.
    pub fn on(&self, key: &str) -> &[Group] {
        // Without a mark anywhere, nobody needs the digest.
        if self.0.is_empty() { &[] } else { self.0.get(&object_digest(key)).map_or(&[], Vec::as_slice) }
    }

    /// The mark with this id on the object with this key.
    pub fn into_group(mut self, key: &str, id: &str) -> Option<Group> {
        self.0.remove(&object_digest(key))?.into_iter().find(|group| group.id == id)
    }

    /// Whether the object with this key is marked, by whomever.
    pub fn is_marked(&self, key: &str) -> bool {
        self.on(key).iter().any(Group::holds)
    }

    /// Whether the point with this manifest is marked by who may sign.
    pub fn is_proved(&self, key: &str) -> bool {
        self.on(key).iter().any(|group| group.standing().is_some() || group.is_deleting())
    }

    /// Whether the mark of the point with this manifest was taken back too late for a run to build on it, and for its
    /// objects' marks to be taken back on its account. `docs/decisions/0006-deleting.md` has the reason.
    pub fn is_undone_late(&self, key: &str, clock: Clock, grace: i64) -> bool {
        self.on(key).iter().any(|group| group.is_undone_late(clock, grace))
    }

    /// Whether who may sign says that the object with this key is deleted.
    pub fn is_deleting(&self, key: &str) -> bool {
        self.on(key).iter().any(Group::is_deleting)
    }

    /// The proved mark that has stood longest on the object with this key.
    pub fn standing(&self, key: &str, clock: Clock) -> Option<&Group> {
        let standing = self.on(key).iter().filter(|group| group.standing().is_some());
        standing.max_by_key(|group| group.age(clock))
    }

    /// The same for who acts on it: one beside which a stranger has put a `.deleting` cannot be carried out, since that
    /// name is taken.
    pub fn actionable(&self, key: &str, clock: Clock) -> Option<&Group> {
        let is_free = |group: &&Group| group.deleting.is_none() || group.is_deleting();
        let standing = self.on(key).iter().filter(|group| group.standing().is_some());
        standing.filter(is_free).max_by_key(|group| group.age(clock))
    }

    /// The same for a copy, whose mark is dead once it was taken back, whatever else lies beside it.
    pub fn actionable_on_copy(&self, key: &str, clock: Clock) -> Option<&Group> {
        let is_free = |group: &&Group| !group.is_undone() && (group.deleting.is_none() || group.is_deleting());
        let standing = self.on(key).iter().filter(|group| group.standing().is_some());
        standing.filter(is_free).max_by_key(|group| group.age(clock))
    }

    /// How long the object with this key has been marked, as a run has to see it; `None` where it is not.
    pub fn age_for_run(&self, key: &str, clock: Clock) -> Option<i64> {
        self.on(key).iter().filter(|group| group.holds()).map(|group| group.age_for_run(clock)).max()
    }

    /// Whether a point with this number and digest was deleted by who may sign.
    pub fn has_deleted(&self, anchor: &Anchor) -> bool {
        let deleting = self.groups().filter_map(|(_, group)| record(group.deleting.as_ref()));
        deleting.into_iter().any(|mark| mark.manifest.as_ref() == Some(anchor))
    }
}

impl Group {
    /// For how long at least an `.undone` has been there, where a `.deleting` is there too; else `None`.
    pub fn met_for(&self, clock: Clock) -> Option<i64> {
        let said = record(self.undone.as_ref()).filter(|_| self.is_deleting())?.marked_at;
        let seen = self.undone.as_ref().filter(|_| clock.is_stores).map(|found| clock.age(found.modified));
        seen.into_iter().chain([clock.age(said)]).min()
    }

    fn slot(&mut self, kind: Kind) -> &mut Option<Found> {
        match kind {
            Kind::Mark => &mut self.mark,
            Kind::Deleting => &mut self.deleting,
            Kind::Undone => &mut self.undone,
        }
    }
}

/// Whether the pinned key signed this mark for this object of this repository.
async fn prove(repository: &Repository, digest: &str, key: &str, size: u64) -> Result<Proof, ObjectError> {
    if size > MARK_BYTES_MAX {
        return Ok(Proof::Refused);
    }
    let bytes = match repository.objects.get(key, MARK_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.finding().is_some() => return Ok(Proof::Refused),
        Err(error) => return Err(error),
    };
    let is_ours = |mark: &Mark| object_digest(&mark.object) == digest;
    let mark = repository.record::<Mark>(key, &bytes).ok().filter(is_ours);
    Ok(mark.map_or(Proof::Refused, |mark| Proof::Good(Box::new(mark))))
}

#[cfg(test)]
mod tests;
