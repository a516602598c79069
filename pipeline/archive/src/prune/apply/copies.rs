//! Copies: a mark that is taken back, and a deletion that is carried out, may meet.
//!
//! Who takes back puts `.undone` and then looks for `.deleting`; who deletes puts `.deleting` and then looks for
//! `.undone`. Whatever the order, one of the two sees the other, and the copy stays if it is the deleter.
//!
//! The name `.deleting` is one for all who act by that mark, so nobody takes it away who finds `.undone`: another may have
//! looked before that came and be about to delete, and who takes back must see it. A manifest is deleted within an eighth of
//! the grace after its `.deleting`, or not in this job, and who takes back looks within an eighth, or is refused.
//! So when an `.undone` is a quarter of the grace old, everybody who could go by either of them has ended, and who looks later
//! leaves the copy: then any sweep takes the `.deleting` away.

use dualsync_archive_store::contract::Purged;
use dualsync_model::event::RetiredAction;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, Applied, Applier};
use crate::deadline::Deadline;
use crate::format::{MANIFEST_NAME, SIGNATURE_NAME};
use crate::marks::{Group, Kind, Marks};
use crate::objects::ObjectError;
use crate::prune::plan::{Order, Plan};

/// What became of a copy that was to be deleted.
enum Fate {
    Deleted,
    /// Its mark was taken back.
    Kept,
    /// It took so long that somebody else may be at work.
    Late,
    /// A lock holds its manifest.
    Locked(Purged),
}

impl Applier<'_> {
    /// Takes the marks of copies back; `false` when one met a deletion, after which no mark may rest on these copies.
    pub(super) async fn take_back(&self, orders: &[Order], applied: &mut Applied) -> Result<bool, ObjectError> {
        let mut met_none = true;
        for order in orders {
            let soon = Deadline::after(self.grace / 8);
            self.put(order, Kind::Undone).await?;
            let Ok(found) = soon.keep(self.look(order)).await else {
                let late = "it took too long to look whether its deletion has begun";
                applied.otherwise.insert(order.object.clone(), (RetiredAction::Refused, late));
                met_none = false;
                continue;
            };
            if found?.is_some_and(|group| group.is_deleting()) {
                applied.otherwise.insert(order.object.clone(), (RetiredAction::Refused, "its deletion has begun"));
                met_none = false;
            }
        }
        Ok(met_none)
    }

    /// Deletes the copies that are due, several at once: each by its own mark.
    pub(super) async fn delete_copies(&self, plan: &Plan, applied: &mut Applied) -> Result<(), ObjectError> {
        for key in &plan.withdraw {
            self.repository.objects.delete(key).await?;
        }
        let mut deletions = futures::stream::iter(&plan.copies)
            .map(|order| async move { Ok::<_, ObjectError>((order, self.delete_copy(order).await?)) })
            .buffer_unordered(AT_ONCE);
        while let Some((order, fate)) = deletions.try_next().await? {
            let reason = match fate {
                Fate::Deleted => {
                    applied.count(order, Purged::default());
                    continue;
                }
                Fate::Locked(purged) => {
                    applied.count(order, purged);
                    "a lock on it has not ended: a later sweep goes on"
                }
                Fate::Kept => "its mark was taken back",
                Fate::Late => "its deletion took too long: the next sweep goes on",
            };
            applied.otherwise.insert(order.object.clone(), (RetiredAction::Kept, reason));
        }
        Ok(())
    }

    async fn delete_copy(&self, order: &Order) -> Result<Fate, ObjectError> {
        let objects = &self.repository.objects;
        let deadline = Deadline::after(self.grace / 8);
        self.put(order, Kind::Deleting).await?;
        // The mark is read after `.undone` was listed: one that is still there was seen with all that took it back.
        let stands = self.look(order).await?.is_some_and(|group| group.standing().is_some() && !group.is_undone());
        if !stands {
            return Ok(Fate::Kept);
        }
        match deadline.keep(objects.delete(&order.object)).await {
            Ok(deleted) => {
                let purged = deleted?;
                if purged.locked > 0 {
                    return Ok(Fate::Locked(purged));
                }
            }
            Err(_) => return Ok(Fate::Late),
        }
        objects.delete(&order.object.replace(MANIFEST_NAME, SIGNATURE_NAME)).await?;
        Ok(Fate::Deleted)
    }

    /// The mark of this order as it is now, with its companions, proved.
    async fn look(&self, order: &Order) -> Result<Option<Group>, ObjectError> {
        let mut marks = Marks::list_of(self.repository, &order.object).await?;
        marks.prove(self.repository, |_, _| true, self.events).await?;
        Ok(marks.into_group(&order.object, &order.mark))
    }
}
