//! What to mark, what to take back, what to delete: decided from what was seen, without a request.
//!
//! [`Plan::new`] is step 3 and the choice of step 4, [`doomed`] that of step 6, which needs the second listing. What is
//! told about a copy is decided here too, so that a dry run says what a real one does.

use std::collections::HashSet;

use dualsync_block_store::contract::Key;
use dualsync_model::event::{Retired, RetiredAction};
use dualsync_model::id::PointId;
use dualsync_model::job::{Leaving, PruneTask};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::marks::Proved;
use crate::names;
use crate::prune::survey::{KnownMark, Survey};

/// An object was put that may be younger than a run: times of two machines.
const CLOCK_SLACK_S: i64 = 600;

/// Marks that have served: what of their ages matters to a deleter.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// Nothing announces its deletion.
    Free,
    /// Marked, and inside its grace.
    Waiting(&'a KnownMark),
    /// Marked for the whole grace, or its deletion has begun.
    Due(&'a KnownMark),
}

/// How an object with these marks stands.
pub fn standing(marks: &[KnownMark], grace_s: u64) -> Standing<'_> {
    let oldest = marks.iter().filter(|mark| mark.stands).max_by_key(|mark| (mark.proved.deleting, mark.least_s));
    match oldest {
        None => Standing::Free,
        Some(mark) if mark.proved.deleting || mark.least_s >= grace_s => Standing::Due(mark),
        Some(mark) => Standing::Waiting(mark),
    }
}

/// Whether every mark is taken back in time: a quarter of the grace must be left, so that whoever acts on a mark that is a
/// whole grace old has seen `.undone` in its listing. Those of objects are only taken back then; those of a copy at any
/// age, since who deletes a copy looks for `.undone` once more.
fn can_be_undone_in_time(marks: &[KnownMark], grace_s: u64) -> bool {
    let mut standing = marks.iter().filter(|mark| mark.stands);
    standing.all(|mark| !mark.proved.deleting && mark.most_s <= grace_s - grace_s / 4)
}

/// A mark to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMark {
    /// What is marked.
    pub object: Key,
    /// Its digest.
    pub sha256: Sha256,
    /// Why.
    pub reason: String,
    /// Whether a person asked for it.
    pub asked: bool,
}

/// An object to be deleted, by this mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its key.
    pub object: Key,
    /// Its digest.
    pub sha256: Sha256,
    /// Its stored bytes.
    pub bytes: u64,
    /// The mark.
    pub mark: Proved,
}

/// What is done about one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Its grace begins.
    Mark(NewMark),
    /// Its marks are taken back.
    Undo(Vec<Proved>),
    /// Its manifest is deleted.
    Delete(Box<Doomed>),
}

/// One copy: what is done, and what is told once it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// What is done.
    pub act: Act,
    /// What is told.
    pub told: Retired,
}

/// Steps 3 and 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The copies of `undo` and `drop`.
    pub copies: Vec<CopyPlan>,
    /// Objects whose marks are taken back, since a copy that stays names them.
    pub undo: Vec<Proved>,
    /// Objects that nobody needs.
    pub mark: Vec<NewMark>,
}

/// One copy that may be talked about: a good manifest, or one that cannot be read.
struct Candidate {
    point: PointId,
    key: Key,
    sha256: Sha256,
    bytes: u64,
    is_newest: bool,
    is_readable: bool,
}

impl Plan {
    /// What `task` asks for, as far as what was seen permits it.
    pub fn new(task: &PruneTask, survey: &Survey) -> Self {
        let undo = task.undo.iter().filter_map(|manifest| {
            let name = names::parse_manifest(manifest)?;
            Some(undo_copy(survey, manifest, &PointId::new(name.source, name.time)))
        });
        let dropped = task.drop.iter().filter(|leaving| !task.undo.contains(&leaving.manifest));
        let mut seen = HashSet::new();
        let dropped = dropped.filter(|leaving| seen.insert(leaving.manifest.as_str()));
        let copies: Vec<_> = undo.chain(dropped.map(|leaving| drop_copy(task, survey, leaving))).collect();
        let leaving = leaving(survey, &copies);
        let stays = |manifest: &Sha256| !leaving.contains(manifest);
        let lingering = lingering(task, survey, &copies);
        let is_free = |manifest: &Sha256| stays(manifest) && !lingering.contains(manifest);
        let undo = objects_to_undo(task, survey, &is_free);
        // Where a manifest cannot be read nobody knows what it needs.
        let knows_all = survey.copies.unknown(|_| false) == 0;
        let mark = if task.sweep && knows_all { objects_to_mark(task, survey, &stays) } else { Vec::new() };
        Self { copies, undo, mark }
    }
}

fn find(survey: &Survey, manifest: &str) -> Option<Candidate> {
    let census = &survey.copies.census;
    let newest = census.newest().map(|head| head.name.sha256);
    let good = census.heads.iter().find(|head| head.key.as_str() == manifest).map(|head| Candidate {
        point: head.description.point.clone(),
        key: head.key.clone(),
        sha256: head.name.sha256,
        bytes: head.size,
        is_newest: newest == Some(head.name.sha256),
        is_readable: true,
    });
    let unreadable = || {
        let copy = survey.copies.unreadable.iter().find(|copy| copy.manifest == manifest)?;
        let listed = census.listed.iter().find(|object| object.key.as_str() == manifest);
        Some(Candidate {
            point: copy.point.clone(),
            key: Key::new(manifest).ok()?,
            sha256: copy.sha256,
            bytes: listed.map_or(0, |object| object.size),
            is_newest: false,
            is_readable: false,
        })
    };
    good.or_else(unreadable)
}

fn marks_on<'a>(survey: &'a Survey, object: &Sha256) -> &'a [KnownMark] {
    survey.known.get(object).map(Vec::as_slice).unwrap_or_default()
}

fn since(mark: &KnownMark) -> Timestamp {
    mark.proved.mark.put.unwrap_or(mark.proved.note.marked_at)
}

fn undo_copy(survey: &Survey, manifest: &str, point: &PointId) -> CopyPlan {
    let tell = |action, reason: &str, since, act| CopyPlan {
        act,
        told: Retired { point: point.clone(), manifest: manifest.to_owned(), action, reason: reason.to_owned(), since },
    };
    let refuse = |reason, since| tell(RetiredAction::Refused, reason, since, Act::Nothing);
    let Some(copy) = find(survey, manifest) else { return refuse("there is no such copy", None) };
    let marks = marks_on(survey, &copy.sha256);
    let standing: Vec<&KnownMark> = marks.iter().filter(|mark| mark.stands).collect();
    // Taken back or not: whoever put `.deleting` may have looked for `.undone` before.
    if let Some(begun) = marks.iter().find(|mark| mark.proved.mark.deleting.is_some()) {
        return refuse("its deletion has begun", Some(since(begun)));
    }
    let Some(first) = standing.iter().copied().max_by_key(|mark| mark.most_s) else {
        let was_undone = marks.iter().any(|mark| mark.proved.undone);
        let done = || tell(RetiredAction::Undone, "its mark was taken back before", None, Act::Nothing);
        return if was_undone { done() } else { refuse("it is not marked", None) };
    };
    let marked = Some(since(first));
    let act = Act::Undo(standing.into_iter().map(|mark| mark.proved.clone()).collect());
    tell(RetiredAction::Undone, "asked for", marked, act)
}

fn drop_copy(task: &PruneTask, survey: &Survey, leaving: &Leaving) -> CopyPlan {
    let tell = |action, reason: &str, since, act| CopyPlan {
        act,
        told: Retired {
            point: leaving.point.clone(),
            manifest: leaving.manifest.clone(),
            action,
            reason: reason.to_owned(),
            since,
        },
    };
    let refuse = |reason| tell(RetiredAction::Refused, reason, None, Act::Nothing);
    let Some(copy) = find(survey, &leaving.manifest) else { return refuse("there is no such copy") };
    if copy.sha256.to_string() != leaving.sha256 || copy.point != leaving.point {
        return refuse("the manifest is that of another copy");
    }
    if !leaving.asked && !copy.is_readable {
        return refuse("its manifest cannot be read, and only a person can give it up");
    }
    if !leaving.asked && copy.is_newest {
        let reason = "it is the newest of the repository: sequence numbers and the memory of hosts hang on it";
        return tell(RetiredAction::Kept, reason, None, Act::Nothing);
    }
    match standing(marks_on(survey, &copy.sha256), task.grace_s) {
        Standing::Free => {
            let (reason, asked) = (leaving.reason.clone(), leaving.asked);
            let mark = NewMark { object: copy.key, sha256: copy.sha256, reason, asked };
            tell(RetiredAction::Marked, &leaving.reason, None, Act::Mark(mark))
        }
        Standing::Due(mark) if survey.held().contains(&copy.sha256) => {
            tell(RetiredAction::Kept, "a run or a restore needs it now", Some(since(mark)), Act::Nothing)
        }
        Standing::Due(mark) if task.sweep => {
            let (proved, marked) = (mark.proved.clone(), Some(since(mark)));
            let doomed = Doomed { object: copy.key, sha256: copy.sha256, bytes: copy.bytes, mark: proved };
            tell(RetiredAction::Deleted, &leaving.reason, marked, Act::Delete(Box::new(doomed)))
        }
        Standing::Due(mark) | Standing::Waiting(mark) => {
            tell(RetiredAction::Waiting, &leaving.reason, Some(since(mark)), Act::Nothing)
        }
    }
}

/// Manifests whose objects may go: marked, or marked by this job, and held by nobody.
fn leaving(survey: &Survey, copies: &[CopyPlan]) -> HashSet<Sha256> {
    let marked = survey.copies.census.heads.iter().map(|head| head.name.sha256);
    let marked = marked.filter(|sha256| marks_on(survey, sha256).iter().any(|mark| mark.stands));
    let mut leaving: HashSet<Sha256> = marked.collect();
    for copy in copies {
        match &copy.act {
            Act::Mark(mark) => drop(leaving.insert(mark.sha256)),
            Act::Undo(_) => {
                if let Some(name) = names::parse_manifest(&copy.told.manifest) {
                    leaving.remove(&name.sha256);
                }
            }
            Act::Nothing | Act::Delete(_) => {}
        }
    }
    for held in survey.held() {
        leaving.remove(&held);
    }
    leaving
}

/// Manifests that stay, and whose marks were taken back late, or are so by this job: no reason to take other marks back.
fn lingering(task: &PruneTask, survey: &Survey, copies: &[CopyPlan]) -> HashSet<Sha256> {
    let lingers = |marks: &[KnownMark]| marks.iter().any(|mark| mark.lingers);
    let before = survey.copies.census.heads.iter().map(|head| head.name.sha256);
    let before = before.filter(|sha256| lingers(marks_on(survey, sha256)));
    let undone = copies.iter().filter(|copy| matches!(copy.act, Act::Undo(_)));
    let now = undone.filter_map(|copy| names::parse_manifest(&copy.told.manifest)).map(|name| name.sha256);
    let now = now.filter(|sha256| !can_be_undone_in_time(marks_on(survey, sha256), task.grace_s));
    before.chain(now).collect()
}

fn objects_to_undo(task: &PruneTask, survey: &Survey, stays: &impl Fn(&Sha256) -> bool) -> Vec<Proved> {
    let mut undo = Vec::new();
    for object in survey.objects.keys() {
        let marks = marks_on(survey, object);
        // A mark that is too old to be taken back stays: runs send again what it holds, and it is
        // deleted when nobody names it any more.
        if can_be_undone_in_time(marks, task.grace_s) && survey.uses.is_named(object, stays) {
            undo.extend(marks.iter().filter(|mark| mark.stands).map(|mark| mark.proved.clone()));
        }
    }
    undo
}

fn objects_to_mark(task: &PruneTask, survey: &Survey, stays: &impl Fn(&Sha256) -> bool) -> Vec<NewMark> {
    let first_run = survey.first_run();
    let mut mark = Vec::new();
    for (sha256, object) in &survey.objects {
        let is_free = matches!(standing(marks_on(survey, sha256), task.grace_s), Standing::Free);
        if !is_free || survey.resumable.contains(sha256) || survey.uses.is_named(sha256, stays) {
            continue;
        }
        let is_named = survey.uses.is_named(sha256, |_| true);
        // What nobody names yet may be of a run that has not ended.
        let may_be_new = first_run.is_some_and(|began| {
            !survey.has_clock || object.modified.plus_seconds(CLOCK_SLACK_S) >= began.whole_second()
        });
        if !is_named && may_be_new {
            continue;
        }
        let reason = if is_named { "only copies that leave need it" } else { "no copy needs it" };
        mark.push(NewMark { object: object.key.clone(), sha256: *sha256, reason: reason.to_owned(), asked: false });
    }
    mark
}

/// Step 6: objects that are marked for the whole grace and that no manifest names. `is_gone` are the manifests that
/// this job deleted; what any other manifest of either listing names is kept.
pub fn doomed(grace_s: u64, survey: &Survey, is_gone: impl Fn(&Sha256) -> bool) -> Vec<Doomed> {
    let mut doomed = Vec::new();
    for (sha256, object) in &survey.objects {
        let Standing::Due(mark) = standing(marks_on(survey, sha256), grace_s) else { continue };
        if survey.resumable.contains(sha256) || survey.uses.is_named(sha256, |manifest| !is_gone(manifest)) {
            continue;
        }
        let (object, bytes) = (object.key.clone(), object.size);
        doomed.push(Doomed { object, sha256: *sha256, bytes, mark: mark.proved.clone() });
    }
    doomed
}
