//! What is marked, what is taken back, what may be deleted: decided from a [`Survey`] alone.
//!
//! Reads nothing and changes nothing. What it calls due is deleted only if no manifest of a second listing
//! names it; what it spares because of a living run is a courtesy.

use std::collections::BTreeSet;

use dualsync_model::event::{Pruned, Retired, RetiredAction};
use dualsync_model::id::PointId;
use dualsync_model::job::{Anchor, Leaving, PruneTask};

use crate::format::parse_point_key;
use crate::marks::{Group, Kind, mark_key};
use crate::objects::Clock;
use crate::points::Copy;
use crate::prune::survey::{Stored, Survey};
use crate::runs::Purpose;

/// Why an object is marked.
const UNNAMED: &str = "no point needs it";

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// One line for each copy of the job.
    pub retired: Vec<Retired>,
    /// Marks on copies that are taken back.
    pub undo_copies: Vec<Order>,
    /// Marks on objects that are taken back, which may rest on a copy that was.
    pub undo: Vec<Order>,
    /// Of copies that stay, each `.deleting` that met an `.undone` so long ago that nobody acts on it any more.
    pub withdraw: Vec<String>,
    /// Objects and copies that are marked now; their orders have no mark yet.
    pub mark: Vec<Order>,
    /// Copies that are deleted now.
    pub copies: Vec<Order>,
    /// Objects that are deleted unless a manifest of the second listing names them.
    pub objects: Vec<Order>,
    /// Counts, before anything is done.
    pub counts: Pruned,
}

/// A thing to do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its key.
    pub object: String,
    /// The mark that it is done by; empty where it is still to be made.
    pub mark: String,
    /// Why, in words.
    pub reason: String,
    /// Whether a person asked for it.
    pub asked: bool,
    /// Of a manifest, its number and digest.
    pub manifest: Option<Anchor>,
    /// Length of the object.
    pub bytes: u64,
}

impl Plan {
    /// Decides.
    pub fn new(survey: &Survey, task: &PruneTask) -> Self {
        let grace = i64::try_from(task.grace_s).unwrap_or(i64::MAX);
        let (leaving, marked) = (BTreeSet::new(), BTreeSet::new());
        let mut planner = Planner { survey, grace, sweep: task.sweep, plan: Self::default(), leaving, marked };
        planner.old_marks();
        for manifest in &task.undo {
            planner.take_back(manifest);
        }
        for leaving in task.drop.iter().filter(|leaving| !task.undo.contains(&leaving.manifest)) {
            planner.retire(leaving);
        }
        for (key, stored) in &survey.stored {
            planner.object(key, *stored);
        }
        planner.plan
    }

    /// Of the objects that are due, those that only the copies deleted now still name: what a dry run tells.
    pub fn would_delete(&self, survey: &Survey) -> Vec<Order> {
        let going: BTreeSet<_> = self.copies.iter().map(|order| order.object.as_str()).collect();
        let is_free =
            |order: &&Order| survey.manifests.needing(&order.object).all(|need| going.contains(&*need.manifest));
        self.objects.iter().filter(is_free).cloned().collect()
    }
}

struct Planner<'a> {
    survey: &'a Survey,
    grace: i64,
    sweep: bool,
    plan: Plan,
    /// Manifests that are marked and that nothing spares: what they need counts as needed by nobody.
    leaving: BTreeSet<String>,
    /// Manifests that are marked, spared or not.
    marked: BTreeSet<String>,
}

impl Planner<'_> {
    fn old_marks(&mut self) {
        for copy in self.survey.manifests.copies() {
            if self.survey.marks.standing(&copy.key, self.survey.clock).is_some() {
                self.marked.insert(copy.key.clone());
                if self.spared(copy).is_none() {
                    self.leaving.insert(copy.key.clone());
                }
            } else if self.survey.marks.is_undone_late(&copy.key, self.survey.clock, self.grace) {
                // It stays, and is no reason to take marks back.
                self.marked.insert(copy.key.clone());
            }
            let met = self.survey.marks.on(&copy.key).iter().filter(|group| {
                group.met_for(self.survey.clock).is_some_and(|age| self.sweep && age >= self.grace / 4)
            });
            self.plan.withdraw.extend(met.map(|group| mark_key(&group.id, Kind::Deleting)));
        }
    }

    /// Who works with the copy now.
    fn spared(&self, copy: &Copy) -> Option<&'static str> {
        let run = self.survey.living.iter().find(|run| run.beat.parent.as_deref() == Some(copy.key.as_str()))?;
        Some(match run.beat.purpose {
            Purpose::Backup => "a run builds on it",
            Purpose::Restore => "a restore reads it",
            Purpose::Facts => "it is being read",
        })
    }

    fn tell(&mut self, leaving: &Leaving, action: RetiredAction, reason: &str, group: Option<&Group>) {
        let (point, manifest) = (leaving.point.clone(), leaving.manifest.clone());
        let since = group.and_then(|group| group.since(self.survey.clock));
        self.plan.retired.push(Retired { point, manifest, action, reason: reason.to_owned(), since });
    }

    /// A copy that may go.
    fn retire(&mut self, leaving: &Leaving) {
        let survey = self.survey;
        let copy = survey.manifests.copy(&leaving.manifest);
        let Some(copy) =
            copy.filter(|copy| copy.anchor.sha256 == leaving.sha256 && copy.manifest.point == leaving.point)
        else {
            return self.tell(leaving, RetiredAction::Refused, "no manifest with this key and digest is there", None);
        };
        let group = survey.marks.actionable_on_copy(&copy.key, survey.clock);
        let is_newest = survey.manifests.newest().is_some_and(|newest| newest.key == copy.key);
        if is_newest && !leaving.asked {
            // Numbers of manifests and the memory of hosts hang on it.
            self.leaving.remove(&copy.key);
            return self.tell(leaving, RetiredAction::Kept, "it is the newest of the repository", group);
        }
        if let Some(reason) = self.spared(copy) {
            return self.tell(leaving, RetiredAction::Kept, reason, group);
        }
        self.leaving.insert(copy.key.clone());
        let order = |mark: String| Order {
            object: copy.key.clone(),
            mark,
            reason: leaving.reason.clone(),
            asked: leaving.asked,
            manifest: Some(copy.anchor.clone()),
            bytes: survey.manifest_bytes.get(&copy.key).copied().unwrap_or(0),
        };
        let action = match group {
            None => {
                self.plan.mark.push(order(String::new()));
                RetiredAction::Marked
            }
            Some(group) if self.sweep && self.is_due(group) => {
                self.plan.copies.push(order(group.id.clone()));
                RetiredAction::Deleted
            }
            Some(_) => RetiredAction::Waiting,
        };
        self.tell(leaving, action, &leaving.reason, group);
    }

    fn is_due(&self, group: &Group) -> bool {
        group.age(self.survey.clock).is_some_and(|age| age >= self.grace)
    }

    /// A copy whose marks are taken back. Each of them: any one alone would still delete it.
    fn take_back(&mut self, manifest: &str) {
        let survey = self.survey;
        let Some((source, folder, _)) = parse_point_key(manifest) else { return };
        let (point, sha256) = (PointId::new(source, folder.time()), String::new());
        let leaving = Leaving { point, manifest: manifest.to_owned(), sha256, reason: String::new(), asked: true };
        let Some(copy) = survey.manifests.copy(manifest) else {
            return self.tell(&leaving, RetiredAction::Refused, "it is not there any more", None);
        };
        let standing: Vec<_> = survey.marks.on(manifest).iter().filter(|group| group.standing().is_some()).collect();
        let oldest = survey.marks.standing(manifest, survey.clock);
        if survey.marks.is_deleting(manifest) {
            return self.tell(&leaving, RetiredAction::Refused, "its deletion has begun", oldest);
        }
        self.leaving.remove(manifest);
        let is_late = survey.marks.is_undone_late(manifest, survey.clock, self.grace);
        if !is_late && standing.iter().all(|group| is_in_time(group, survey.clock, self.grace)) {
            // It counts as unmarked from now on, and marks on what it names have lost their reason.
            self.marked.remove(manifest);
        }
        for group in standing {
            let anchor = Some(copy.anchor.clone());
            self.plan.undo_copies.push(undo(group, manifest, "taken back", true, anchor));
        }
        self.tell(&leaving, RetiredAction::Undone, "taken back", oldest);
    }

    fn object(&mut self, key: &str, stored: Stored) {
        let survey = self.survey;
        self.plan.counts.objects += 1;
        self.plan.counts.stored_bytes += stored.bytes;
        let mut is_named = false;
        let mut stays = false;
        let mut live_bytes = None;
        for need in survey.manifests.needing(key) {
            is_named = true;
            stays |= !self.marked.contains(&*need.manifest);
            if !self.leaving.contains(&*need.manifest) {
                live_bytes = live_bytes.max(Some(need.live_bytes));
            }
        }
        let standing = survey.marks.actionable(key, survey.clock);
        if let Some(live) = live_bytes {
            self.plan.counts.live_bytes += live.min(stored.bytes);
            // A copy that stays needs it: the mark has lost its reason, and the next run would store it anew. Only an
            // unmarked copy counts: it is there for a whole grace from now on, so a deleter that goes on from an
            // older listing either finds it, or lists the marks after this one was taken back.
            if stays && !survey.marks.is_deleting(key) {
                let groups = survey.marks.on(key).iter().filter(|group| group.standing().is_some());
                self.plan.undo.extend(groups.map(|group| undo(group, key, "needed again", false, None)));
            }
            return;
        }
        let order = |mark: &str| Order {
            object: key.to_owned(),
            mark: mark.to_owned(),
            reason: UNNAMED.to_owned(),
            asked: false,
            manifest: None,
            bytes: stored.bytes,
        };
        match standing {
            Some(group) if self.is_due(group) && self.sweep => self.plan.objects.push(order(&group.id)),
            Some(group) if self.is_due(group) => {}
            Some(_) => {
                self.plan.counts.waiting_objects += 1;
                self.plan.counts.waiting_bytes += stored.bytes;
            }
            None if self.sweep && (is_named || !self.may_be_named_soon(key, stored)) => {
                self.plan.counts.marked_objects += 1;
                self.plan.mark.push(order(""));
            }
            None => {}
        }
    }

    /// Whether a run that goes on, or a later one that goes on from a checkpoint, may be about to name an object
    /// that nobody names now.
    fn may_be_named_soon(&self, key: &str, stored: Stored) -> bool {
        let clock = self.survey.clock;
        let mut runs = self.survey.living.iter().filter(|run| run.beat.purpose == Purpose::Backup);
        let is_of = |since: i64| !clock.is_stores || since >= -Clock::APART_MAX_S;
        self.survey.resumable.contains(key) || runs.any(|run| is_of(stored.modified.seconds_since(run.beat.started_at)))
    }
}

/// Taking back is in time while a quarter of the grace is left, by the clock that says the mark is older: so
/// a deleter that could act on the mark lists it after that, and sees that it was taken back.
fn is_in_time(group: &Group, clock: Clock, grace: i64) -> bool {
    group.age_max(clock).is_some_and(|age| age <= grace - grace / 4)
}

fn undo(group: &Group, object: &str, reason: &str, asked: bool, manifest: Option<Anchor>) -> Order {
    let (object, reason) = (object.to_owned(), reason.to_owned());
    Order { object, mark: group.id.clone(), reason, asked, manifest, bytes: 0 }
}
