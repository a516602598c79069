//! Does what a [`Plan`] says, in the order of `docs/decisions/0006-deleting.md`; whatever stops it, the next job goes on.
//!
//! 1. Marks of copies are taken back, at any age: `.undone`, then a look for `.deleting` ([`copies`]).
//!    Marks of objects are taken back soon after they were listed. Taking one back later could come after another
//!    deleter has looked: it is left for the next job.
//! 2. Marks are put. They only start clocks.
//! 3. Copies go: `.deleting`, then a look for `.undone`, then the manifest, with which the copy is gone, then its
//!    signature, which nobody else has. Cut off between them, the signature is an object that nobody names.
//! 4. **Manifests are listed and read again, then the marks.** A run that may name a marked object has put its
//!    manifest before this listing, see the proof.
//! 5. An object goes if it is named by none of these manifests, and its mark is still there and was not taken
//!    back: `.deleting`, then the object. How long this takes does not matter.

mod copies;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dualsync_archive_store::contract::{ErrorKind, Purged};
use dualsync_model::event::RetiredAction;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::events::Events;
use crate::format::{FORMAT, VERSION};
use crate::marks::{Group, Kind, Mark, Marks, mark_key, object_digest};
use crate::minisign::SecretKey;
use crate::objects::ObjectError;
use crate::prune::plan::{Order, Plan};
use crate::prune::survey::Survey;
use crate::prune::{PruneError, random_id};
use crate::record;
use crate::repo::Repository;

/// Marks and deletions under way at once.
pub const AT_ONCE: usize = 8;

/// What deleting works with.
pub struct Applier<'a> {
    /// Where.
    pub repository: &'a Repository,
    /// Signs.
    pub secret: &'a SecretKey,
    /// Progress.
    pub events: &'a Events,
    /// Seconds.
    pub grace: i64,
}

/// What became of copies other than what was planned, by manifest.
pub type Otherwise = BTreeMap<String, (RetiredAction, &'static str)>;

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// Copies that somebody else was quicker with.
    pub otherwise: Otherwise,
    /// Objects that were deleted, manifests among them.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects that are due and locked, of which some version stays.
    pub still_locked_objects: u64,
    /// The bytes of those versions.
    pub still_locked_bytes: u64,
    /// The marks, as they were listed the second time.
    pub marks: Marks,
}

impl Applied {
    fn count(&mut self, order: &Order, purged: Purged) {
        if purged.locked == 0 {
            self.deleted_objects += 1;
            self.deleted_bytes += order.bytes;
        } else {
            self.still_locked_objects += 1;
            self.still_locked_bytes += purged.locked_bytes;
        }
    }
}

impl Applier<'_> {
    /// Applies `plan`; `survey` then holds the manifests of the second listing.
    pub async fn apply(&self, plan: &Plan, survey: &mut Survey) -> Result<Applied, PruneError> {
        let mut applied = Applied::default();
        self.events.phase("marking");
        // Copies first: that an object is needed may rest on a copy that was just taken back.
        if self.take_back(&plan.undo_copies, &mut applied).await? {
            for order in &plan.undo {
                // What comes too late is left for the next job.
                let Ok(put) = survey.undo_until.keep(self.put(order, Kind::Undone)).await else { break };
                put?;
            }
        }
        futures::stream::iter(&plan.mark)
            .map(|order| self.mark(order))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.events.phase("deleting");
        self.delete_copies(plan, &mut applied).await?;
        if plan.objects.is_empty() {
            applied.marks = Marks::list(self.repository).await?;
            return Ok(applied);
        }
        survey.manifests.read_again(self.repository, self.events).await?;
        applied.marks = self.marks_of(&plan.objects).await?;
        let (manifests, marks) = (&survey.manifests, &applied.marks);
        let is_free = |order: &&Order| {
            let stands =
                marks.on(&order.object).iter().any(|group| group.id == order.mark && group.standing().is_some());
            manifests.needing(&order.object).next().is_none() && stands
        };
        let free: Vec<_> = plan.objects.iter().filter(is_free).collect();
        let mut deletions =
            futures::stream::iter(free).map(|order| self.delete_object(order)).buffer_unordered(AT_ONCE);
        while let Some((order, purged)) = deletions.try_next().await? {
            applied.count(order, purged);
        }
        drop(deletions);
        Ok(applied)
    }

    /// The marks as they are now; those on objects that are due are proved once more.
    async fn marks_of(&self, due: &[Order]) -> Result<Marks, ObjectError> {
        let mut marks = Marks::list(self.repository).await?;
        let due: BTreeSet<_> = due.iter().map(|order| object_digest(&order.object)).collect();
        marks.prove(self.repository, |digest, _| due.contains(digest), self.events).await?;
        Ok(marks)
    }

    async fn mark(&self, order: &Order) -> Result<(), PruneError> {
        let mark = random_id(&order.object)?;
        Ok(self.put(&Order { mark, ..order.clone() }, Kind::Mark).await?)
    }

    async fn delete_object<'o>(&self, order: &'o Order) -> Result<(&'o Order, Purged), ObjectError> {
        self.put(order, Kind::Deleting).await?;
        Ok((order, self.repository.objects.delete(&order.object).await?))
    }

    async fn put(&self, order: &Order, kind: Kind) -> Result<(), ObjectError> {
        let key = mark_key(&order.mark, kind);
        let mark = Mark {
            format: FORMAT.to_owned(),
            version: VERSION,
            repository: self.repository.id().to_owned(),
            object: order.object.clone(),
            marked_at: self.repository.objects.now(),
            reason: order.reason.clone(),
            asked: order.asked,
            manifest: order.manifest.clone(),
        };
        let bytes = Bytes::from(record::write(&key, &mark, self.secret));
        match self.repository.objects.put(&key, bytes).await {
            Ok(_) => Ok(()),
            // A job that was cut off, or another deleter, has said it before.
            Err(ObjectError::Store(error)) if error.kind() == ErrorKind::AlreadyExists && kind != Kind::Mark => {
                if self.is_said(order, kind).await? { Ok(()) } else { Err(ObjectError::Store(error)) }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether who may sign has put this companion of the mark already.
    async fn is_said(&self, order: &Order, kind: Kind) -> Result<bool, ObjectError> {
        let mut marks = Marks::list_of(self.repository, &order.object).await?;
        marks.prove(self.repository, |_, found| found == kind, self.events).await?;
        let is_said = |group: &Group| match kind {
            Kind::Mark => false,
            Kind::Deleting => group.is_deleting(),
            Kind::Undone => group.is_undone(),
        };
        Ok(marks.on(&order.object).iter().any(|group| group.id == order.mark && is_said(group)))
    }
}
