//! Carries a plan out: puts marks and companions, and deletes. Nothing is decided here.
//!
//! Each call is safe to end anywhere and to repeat: a mark only announces, `.deleting` stands before its
//! object goes, and whoever comes after goes on from what is there.

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, StoreError};
use dualsync_block_store::versions::{Remains, erase};

use crate::digest::Sha256;
use crate::document;
use crate::format::{DAY_S, marks::LISTING_DAYS_MAX};
use crate::marks::{MarkNote, Marks, Proved, proved_note};
use crate::moment::Moment;
use crate::names::{self, Companion};
use crate::prune::error::PruneError;
use crate::prune::plan::{Doomed, NewMark};
use crate::prune::survey::Clocks;
use crate::repository::Repository;
use crate::seal::random_bytes;

/// Puts and deletes for one job.
pub struct Deleter<'a> {
    repository: &'a Repository,
    clocks: &'a Clocks,
    grace_s: u64,
    /// Whether the store keeps what is deleted, until its versions go.
    keeps_versions: bool,
    /// Before the marks were listed.
    listed: Moment,
}

impl<'a> Deleter<'a> {
    /// A deleter that is about to list the marks.
    pub fn new(repository: &'a Repository, clocks: &'a Clocks, grace_s: u64, keeps_versions: bool) -> Self {
        Self { repository, clocks, grace_s, keeps_versions, listed: Moment::now(repository.store()) }
    }

    /// Begins the grace of an object.
    ///
    /// The time in a mark must not be much older than the mark: where the store has no clock nobody sees that a
    /// host slept in between. Such a mark is taken back at once.
    pub async fn mark(&self, mark: &NewMark) -> Result<(), PruneError> {
        let began = Moment::now(self.repository.store());
        let key = names::mark(&mark.sha256, random_bytes()?);
        let note = MarkNote {
            object: mark.object.to_string(),
            marked_at: self.clocks.by_job(self.repository),
            reason: mark.reason.clone(),
            asked: mark.asked,
            at: None,
        };
        self.repository.put_document(&key, &note).await?;
        if !self.repository.store().has_clock() && began.elapsed_s(self.repository.store()) > self.grace_s / 8 {
            self.put_note(&key, Companion::Undone, &mark.sha256, &note).await?;
            return Err(PruneError::Slow(mark.object.to_string()));
        }
        Ok(())
    }

    /// Takes the mark of an object back.
    pub async fn undo(&self, mark: &Proved) -> Result<(), PruneError> {
        self.put_companion(mark, Companion::Undone).await
    }

    /// Takes the marks of one copy back; false when its deletion has begun meanwhile.
    ///
    /// `.undone` first, then the look for `.deleting`; [`Deleter::delete_copy`] does it the other way round. So one of
    /// the two sees the other, at any age of the mark.
    pub async fn undo_copy(&self, marks: &[Proved]) -> Result<bool, PruneError> {
        for mark in marks {
            self.put_companion(mark, Companion::Undone).await?;
        }
        let Some(copy) = marks.first() else { return Ok(true) };
        let now = Marks::list_of(self.repository, &copy.object).await?;
        Ok(now.of(&copy.object).iter().all(|mark| mark.deleting.is_none()))
    }

    /// Announces the deletion of a pack or map object, then deletes it; what is left of it because it is locked.
    ///
    /// Power cut between the two: the object is there and every run sees that it goes; the next deleter goes on.
    pub async fn delete(&self, doomed: &Doomed) -> Result<Remains, PruneError> {
        self.refuse_stale()?;
        if !doomed.mark.deleting {
            self.put_companion(&doomed.mark, Companion::Deleting).await?;
        }
        self.delete_now(doomed).await
    }

    /// Announces the deletion of a manifest, looks whether its mark was taken back, and deletes it if not; `None` when it stays.
    ///
    /// Power cut anywhere before the deletion: `.deleting` stays, and whoever takes the mark back now is refused. With
    /// `.undone` beside it nobody goes by that mark any more. It is not taken away then: another deleter may have
    /// announced by the same name, looked before `.undone` came, and be about to delete.
    pub async fn delete_copy(&self, doomed: &Doomed) -> Result<Option<Remains>, PruneError> {
        self.refuse_stale()?;
        if !doomed.mark.deleting {
            self.put_companion(&doomed.mark, Companion::Deleting).await?;
        }
        let now = Marks::list_of(self.repository, &doomed.sha256).await?;
        let mut marks = now.of(&doomed.sha256).iter();
        if marks.any(|mark| mark.key == doomed.mark.mark.key && mark.undone.is_some()) {
            return Ok(None);
        }
        self.delete_now(doomed).await.map(Some)
    }

    /// Marks that have served are cleared away later, and then no run would see that the object goes.
    fn refuse_stale(&self) -> Result<(), PruneError> {
        if self.listed.elapsed_s(self.repository.store()) > u64::from(LISTING_DAYS_MAX * DAY_S) {
            return Err(PruneError::Stale(LISTING_DAYS_MAX));
        }
        Ok(())
    }

    async fn delete_now(&self, doomed: &Doomed) -> Result<Remains, PruneError> {
        let remains = erase(self.repository.store(), &doomed.object, self.keeps_versions).await?;
        self.repository.cache().forget(&doomed.sha256);
        Ok(remains)
    }

    async fn put_companion(&self, mark: &Proved, companion: Companion) -> Result<(), PruneError> {
        self.put_note(&mark.mark.key, companion, &mark.object, &mark.note).await
    }

    async fn put_note(
        &self,
        mark: &Key,
        companion: Companion,
        object: &Sha256,
        note: &MarkNote,
    ) -> Result<(), PruneError> {
        let key = names::companion(mark, companion);
        let note = MarkNote { at: Some(self.clocks.by_job(self.repository)), ..note.clone() };
        let bytes = Bytes::from(document::encode(&note, &self.repository.keys().mac_key(), key.as_str()));
        match self.repository.put(&key, bytes.clone(), Sha256::of(&bytes)).await {
            // Another deleter came first and said the same. What does not prove itself there is no announcement.
            Err(error) if is_taken(&error) => match proved_note(self.repository, &key, object).await? {
                Some(_) => Ok(()),
                None => Err(error.into()),
            },
            other => Ok(other?),
        }
    }
}

fn is_taken(error: &StoreError) -> bool {
    error.kind() == ErrorKind::AlreadyExists
}
