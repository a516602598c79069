//! The marks of a deleter: `marks/<sha256>-<random>`, with `.deleting` or `.undone` beside them.
//!
//! A mark announces that an object may be deleted, a grace later. Two kinds of reader go by them,
//! and each is careful in its own way. A *run* goes by names: it uses nothing that has a mark, proved
//! or not, and believes that a mark was taken back only when the MAC of `.undone` says so. A *deleter*
//! goes by proofs: whatever under `marks/` does not prove itself is never a reason to delete.
//!
//! The age of a mark is the store's time minus the mark's own; where the store has no clock, the
//! mark says when it was made. docs/decisions/0006-deleting.md says why this is enough.

use std::collections::HashMap;

use dualsync_block_store::contract::{ErrorKind, Key, ObjectInfo, StoreError};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::document::Unproven;
use crate::fetch::{ObjectError, Problem};
use crate::format::{DAY_S, marks::LIFE_DAYS};
use crate::names::{self, Companion, MarkPart};
use crate::repository::Repository;

/// Where a store's times and its clock may differ by rounding and by its several machines.
const CLOCK_SLACK_S: i64 = 600;

/// What a mark or a companion says, with a MAC like every document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkNote {
    /// Key of what is marked.
    pub object: String,
    /// When it was marked, by the clock of the job that did it.
    pub marked_at: Timestamp,
    /// Why it leaves.
    #[serde(default)]
    pub reason: String,
    /// Whether a person asked for it; else the rule did, or nobody needs it.
    #[serde(default)]
    pub asked: bool,
    /// When a companion was written; absent in a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// One mark by its names alone. Times are the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Key of the mark, whether it is there or only a companion.
    pub key: Key,
    /// When it was put; `None` when it is cleared away and a companion is not yet.
    pub put: Option<Timestamp>,
    /// When `.deleting` was put.
    pub deleting: Option<Timestamp>,
    /// When `.undone` was put.
    pub undone: Option<Timestamp>,
}

impl Mark {
    fn new(key: Key) -> Self {
        Self { key, put: None, deleting: None, undone: None }
    }

    /// Key of a companion.
    pub fn beside(&self, companion: Companion) -> Key {
        names::companion(&self.key, companion)
    }
}

/// Every mark at one moment.
#[derive(Debug, Default)]
pub struct Marks {
    by_object: HashMap<Sha256, Vec<Mark>>,
    /// Names that no writer of format 1 gives, with the object that they begin with.
    strange: Vec<(Key, Option<Sha256>)>,
}

impl Marks {
    /// Lists the marks: one request.
    pub async fn list(repository: &Repository) -> Result<Self, StoreError> {
        Ok(Self::from_listing(repository.store().list(names::MARKS, None).await?))
    }

    /// Lists the marks of one object.
    pub async fn list_of(repository: &Repository, object: &Sha256) -> Result<Self, StoreError> {
        let prefix = format!("{}{object}", names::MARKS);
        Ok(Self::from_listing(repository.store().list(&prefix, None).await?))
    }

    fn from_listing(listed: Vec<ObjectInfo>) -> Self {
        let mut marks = Self::default();
        for ObjectInfo { key, modified, .. } in listed {
            match names::parse_mark(key.as_str()) {
                None => marks.strange.push((key, None)),
                Some(name) => match name.part {
                    MarkPart::Mark => marks.entry(name.object, key).put = Some(modified),
                    MarkPart::Companion(of, Companion::Deleting) => {
                        marks.entry(name.object, of).deleting = Some(modified);
                    }
                    MarkPart::Companion(of, Companion::Undone) => marks.entry(name.object, of).undone = Some(modified),
                    MarkPart::Strange => marks.strange.push((key, Some(name.object))),
                },
            }
        }
        marks
    }

    fn entry(&mut self, object: Sha256, key: Key) -> &mut Mark {
        let of_object = self.by_object.entry(object).or_default();
        let at = of_object.iter().position(|mark| mark.key == key).unwrap_or_else(|| {
            of_object.push(Mark::new(key));
            of_object.len() - 1
        });
        &mut of_object[at]
    }

    /// The marks of one object, by their names.
    pub fn of(&self, object: &Sha256) -> &[Mark] {
        self.by_object.get(object).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every marked object with its marks.
    pub fn all(&self) -> impl Iterator<Item = (&Sha256, &[Mark])> {
        self.by_object.iter().map(|(object, marks)| (object, marks.as_slice()))
    }

    /// Names under `marks/` that no writer of format 1 gives.
    pub fn strange(&self) -> impl Iterator<Item = &Key> {
        self.strange.iter().map(|(key, _)| key)
    }

    /// How long ago `object` was marked, for a run: `None` when it is not marked, or every mark was
    /// taken back in time. The largest number when its deletion has begun or nobody can tell.
    ///
    /// `grace_s` is that of the run. A mark that was taken back late counts: a deleter may have
    /// listed the marks before and go on from there.
    pub async fn age_for_run_s(&self, repository: &Repository, object: &Sha256, grace_s: u64) -> Option<u64> {
        if self.strange.iter().any(|(_, of)| of.as_ref() == Some(object)) {
            return Some(u64::MAX);
        }
        let mut oldest = None;
        for mark in self.of(object) {
            // `.undone` alone is what is left of a mark that was cleared away.
            let is_left_over = mark.put.is_none() && mark.deleting.is_none();
            if !is_left_over && !is_taken_back(repository, mark, grace_s).await {
                oldest = oldest.max(Some(age_of_one_s(repository, mark).await));
            }
        }
        oldest
    }

    /// Why `object` was deleted, as far as a holder of the key says that it was.
    pub async fn deletion(&self, repository: &Repository, object: &Sha256) -> Result<Option<String>, ObjectError> {
        for mark in self.of(object).iter().filter(|mark| mark.deleting.is_some()) {
            if let Some(note) = proved_note(repository, &mark.beside(Companion::Deleting), object).await? {
                return Ok(Some(note.reason));
            }
        }
        Ok(None)
    }

    /// The marks of an object that prove themselves, for whoever deletes or tells.
    pub async fn proved(&self, repository: &Repository, object: &Sha256) -> Result<Vec<Proved>, ObjectError> {
        let mut proved = Vec::new();
        for mark in self.of(object).iter().filter(|mark| mark.put.is_some()) {
            if let Some(mark) = prove(repository, mark, object).await? {
                proved.push(mark);
            }
        }
        Ok(proved)
    }
}

/// A mark that a holder of the key made, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// What is marked.
    pub object: Sha256,
    /// Its names.
    pub mark: Mark,
    /// What it says.
    pub note: MarkNote,
    /// Whether its deletion was announced, and that too proves itself.
    pub deleting: bool,
    /// Whether it was taken back, proved or not: in doubt a deleter makes a new mark.
    pub undone: bool,
    /// Whether a companion does not prove itself: nothing is deleted by this mark.
    pub spoiled: bool,
}

impl Proved {
    /// Whether it says that its object may be deleted, now or when its grace is over.
    pub fn stands(&self, repository: &Repository) -> bool {
        let store = repository.store();
        let is_fresh = store.now().seconds_since(self.since(store.has_clock())) < i64::from(LIFE_DAYS * DAY_S);
        !self.undone && !self.spoiled && (is_fresh || self.deleting)
    }

    /// Whether it was taken back so late that a deleter may not have seen it: then its object stays, and a run uses neither
    /// the object nor what only that needs, until the mark is cleared away.
    pub async fn lingers(&self, repository: &Repository, grace_s: u64) -> bool {
        self.undone && !is_taken_back(repository, &self.mark, grace_s).await
    }

    /// Since when, by the store's clock where it has one.
    pub fn since(&self, has_clock: bool) -> Timestamp {
        self.mark.put.filter(|_| has_clock).unwrap_or(self.note.marked_at)
    }
}

/// The mark with its companions, `None` when it does not prove itself or was cleared away meanwhile.
///
/// The mark is read after the listing, and whoever clears marks away deletes a mark before its
/// companions: so a mark that is still there had, during the whole listing, every companion it ever had.
async fn prove(repository: &Repository, mark: &Mark, object: &Sha256) -> Result<Option<Proved>, ObjectError> {
    let Some(note) = proved_note(repository, &mark.key, object).await? else { return Ok(None) };
    let mut proved = Proved {
        object: *object,
        mark: mark.clone(),
        note,
        deleting: false,
        undone: mark.undone.is_some(),
        spoiled: false,
    };
    if mark.deleting.is_some() {
        proved.deleting = proved_note(repository, &mark.beside(Companion::Deleting), object).await?.is_some();
        proved.spoiled = !proved.deleting;
    }
    Ok(Some(proved))
}

/// What the document at `key` says about `object`, when a holder of the key wrote it there.
///
/// # Errors
/// Only when the store does not answer: what is gone or does not prove itself is `None`.
pub async fn proved_note(repository: &Repository, key: &Key, object: &Sha256) -> Result<Option<MarkNote>, ObjectError> {
    let bytes = match repository.get(key).await {
        Ok(bytes) => bytes,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let note =
        Unproven::parse(&bytes).and_then(|text| text.prove::<MarkNote>(&repository.keys().mac_key(), key.as_str()));
    Ok(note.ok().filter(|note| names::digest_of(&note.object).as_ref() == Some(object)))
}

fn is_gone(error: &ObjectError) -> bool {
    matches!(&error.problem, Problem::Store(error) if error.kind() == ErrorKind::NotFound)
}

/// The same for a run: what cannot be read warns as if it were not proved.
async fn note_for_run(repository: &Repository, key: &Key) -> Option<MarkNote> {
    let object = names::parse_mark(key.as_str())?.object;
    proved_note(repository, key, &object).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a mark cannot be read");
        None
    })
}

/// Whether a run may believe that the mark was taken back.
///
/// A deleter that acts on the mark of an object has listed it when it was a whole grace old. `.undone` is put there
/// while at least a quarter of the grace is left; half of that quarter is given away here to slow puts.
async fn is_taken_back(repository: &Repository, mark: &Mark, grace_s: u64) -> bool {
    let (Some(undone), None) = (mark.undone, mark.deleting) else { return false };
    let Some(note) = note_for_run(repository, &mark.beside(Companion::Undone)).await else { return false };
    let took_s = match mark.put.filter(|_| repository.store().has_clock()) {
        Some(put) => undone.seconds_since(put),
        None => note.at.map_or(i64::MAX, |at| at.seconds_since(note.marked_at)),
    };
    took_s <= i64::try_from(grace_s - grace_s / 8).unwrap_or(i64::MAX)
}

async fn age_of_one_s(repository: &Repository, mark: &Mark) -> u64 {
    let Some(put) = mark.put.filter(|_| mark.deleting.is_none()) else { return u64::MAX };
    let store = repository.store();
    let since = if store.has_clock() {
        Some(put)
    } else {
        note_for_run(repository, &mark.key).await.map(|note| note.marked_at)
    };
    since.map_or(u64::MAX, |since| age_s(store.now(), since))
}

/// Seconds from `since` to `now`; the largest number when `since` lies ahead by more than clocks may differ.
fn age_s(now: Timestamp, since: Timestamp) -> u64 {
    let age_s = now.seconds_since(since);
    if age_s < -CLOCK_SLACK_S { u64::MAX } else { u64::try_from(age_s).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str) -> ObjectInfo {
        ObjectInfo { key: key.parse().unwrap(), size: 1, modified: Timestamp::from_seconds(5) }
    }

    #[test]
    fn marks_of_one_object_are_kept_apart() {
        let object = Sha256::of(b"x");
        let (one, two) = (names::mark(&object, [1; 8]), names::mark(&object, [2; 8]));
        let keys =
            [format!("{one}"), format!("{two}"), format!("{two}.undone"), format!("marks/{object}"), "marks/x".into()];
        let marks = Marks::from_listing(keys.iter().map(|key| listed(key)).collect());
        let [first, second] = marks.of(&object) else { panic!("two marks: {marks:?}") };
        assert!((first.put.is_some(), first.undone) == (true, None) && second.undone.is_some());
        assert_eq!(marks.strange().count(), 2);
        assert!(marks.of(&Sha256::of(b"y")).is_empty());
    }

    #[test]
    fn a_mark_from_the_future_is_of_unknown_age() {
        let now = Timestamp::from_seconds(10_000);
        assert_eq!(age_s(now, Timestamp::from_seconds(9_000)), 1_000);
        assert_eq!(age_s(now, Timestamp::from_seconds(10_001)), 0, "rounding");
        assert_eq!(age_s(now, Timestamp::from_seconds(20_000)), u64::MAX);
    }
}
