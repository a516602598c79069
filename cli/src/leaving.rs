//! What is to leave: the rules' decisions as a plan that is shown, and as what each target is told.
//!
//! Pure. Everything that is not in a [`Order`] stays. A copy leaves by the rule of its source, or because a
//! person asked for it; a mark that neither stands behind any more is taken back.

use std::collections::{BTreeMap, BTreeSet};

use dualsync_config::Settings;
use dualsync_model::event::Point;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::job::{Class, Leaving, Lock};
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::retention::plan::{CONFIRMATION_DAYS, DroppedBefore, LargeDrop, Plan, Verdict};
use dualsync_rules::retention::reason::KeepReason;
use serde::Serialize;

use crate::history::History;
use crate::listing::{Answer, CopyRow, Row};
use crate::mechanism::{Mechanism, Pair};
use crate::retention;

/// The plan of one source.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// The source.
    pub source: SourceName,
    /// Its points, newest first.
    pub points: Vec<PointPlan>,
    /// Where a person has to say yes before so much leaves.
    pub large: Pair<Option<LargeDrop>>,
}

/// What becomes of both copies of a point.
#[derive(Clone, Debug, Serialize)]
pub struct PointPlan {
    /// The point.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// The moment of the snapshot.
    pub created_at: Timestamp,
    /// Each copy; `None` where there is none.
    pub copies: Pair<Option<CopyPlan>>,
}

/// What becomes of one copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyPlan {
    /// What.
    pub action: Action,
    /// Why; of several reasons to keep all, of those to drop the first.
    pub reasons: Vec<String>,
    /// Since when it is marked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_at: Option<Timestamp>,
    /// Whether a person asked for it to be deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// Whether it counted for the contract, and the rule lets it go.
    #[serde(skip)]
    pub loss: bool,
    /// What the rule keeps it for; empty when nothing does, or no rule was asked.
    #[serde(skip)]
    pub keeps: Vec<KeepReason>,
    /// The target that has it.
    pub target: String,
}

/// Keep or drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    Keep,
    /// It stays, and the mark of an earlier plan is taken back.
    Undo,
    /// It may go.
    Drop,
}

/// What one target is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// Copies that may go.
    pub drop: Vec<Leaving>,
    /// Manifests whose marks are taken back, with their points.
    pub undo: Vec<(PointId, String)>,
    /// Copies that stay in a bucket that locks, see [`crate::immutability`].
    pub locks: Vec<Lock>,
    /// Of the points in `drop`, those that counted for the contract.
    pub losses: BTreeSet<PointId>,
    /// Of the losses, those that a person said yes to.
    pub confirmed: BTreeSet<PointId>,
}

/// Plans every source that has points, or only those in `wanted`. A source that the configuration does not
/// know has no rule: of it leaves only what a person asked for.
pub fn plans(
    rows: &[Row],
    settings: &Settings,
    history: &History,
    now: Timestamp,
    wanted: Option<&BTreeSet<SourceName>>,
) -> Vec<SourcePlan> {
    let names: BTreeSet<_> = rows.iter().map(|row| &row.source).collect();
    let names = names.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted.contains(name)));
    let plan = |name: &SourceName| match settings.source(name.as_str()) {
        Some(source) => {
            let plan = retention::plan_of(rows, source, settings, history, now);
            of_source(name, rows, &plan, history, now)
        }
        None => of_stranger(name, rows),
    };
    names.map(plan).collect()
}

fn of_source(name: &SourceName, rows: &[Row], plan: &Plan, history: &History, now: Timestamp) -> SourcePlan {
    let copy = |row: &Row, mechanism| {
        let decisions = &plan.side(mechanism).decisions;
        let decision = decisions.iter().find(|decision| decision.point == row.point)?;
        copy_plan(row.copies.get(mechanism), &decision.verdict)
    };
    let points = points(name, rows, copy);
    let large = Pair::new(|mechanism| {
        let before = dropped_before(name, mechanism, &points, history, now);
        plan.side(mechanism).large_drop(&before)
    });
    SourcePlan { source: name.clone(), points, large }
}

/// Without a rule nothing leaves by itself, and marks that a rule once set are taken back.
fn of_stranger(name: &SourceName, rows: &[Row]) -> SourcePlan {
    let copy = |row: &Row, mechanism| {
        let copy: &CopyRow = row.copies.get(mechanism);
        let target = copy.manifest.as_ref().and(copy.target.clone())?;
        let reasons = vec!["its source is not in the configuration".to_owned()];
        let plan = |action, reasons| CopyPlan {
            action,
            reasons,
            marked_at: None,
            asked: false,
            loss: false,
            keeps: Vec::new(),
            target,
        };
        Some(match &copy.mark {
            None => plan(Action::Keep, reasons),
            Some(mark) => {
                let obeyed = mark.asked || mark.deleting;
                let (action, reasons) =
                    if obeyed { (Action::Drop, vec![mark.reason.clone()]) } else { (Action::Undo, reasons) };
                CopyPlan { marked_at: Some(mark.since), asked: mark.asked, ..plan(action, reasons) }
            }
        })
    };
    SourcePlan { source: name.clone(), points: points(name, rows, copy), large: Pair::default() }
}

fn points(name: &SourceName, rows: &[Row], copy: impl Fn(&Row, Mechanism) -> Option<CopyPlan>) -> Vec<PointPlan> {
    let point = |row: &Row| PointPlan {
        point: row.point.clone(),
        business_date: row.business_date,
        class: row.class,
        created_at: row.created_at,
        copies: Pair::new(|mechanism| copy(row, mechanism)),
    };
    let there = |point: &PointPlan| point.copies.iter().any(|(_, copy)| copy.is_some());
    rows.iter().rev().filter(|row| row.source == *name).map(point).filter(there).collect()
}

/// `None` where there is no copy: nothing can become of it.
fn copy_plan(copy: &CopyRow, verdict: &Verdict) -> Option<CopyPlan> {
    let target = copy.manifest.as_ref().and(copy.target.clone())?;
    let mark = copy.mark.as_ref();
    let asked = mark.is_some_and(|mark| mark.asked);
    let plan = |action, reasons, loss| CopyPlan {
        action,
        reasons,
        marked_at: mark.map(|mark| mark.since),
        asked,
        loss,
        keeps: Vec::new(),
        target: target.clone(),
    };
    Some(match verdict {
        Verdict::Keep(reasons) => {
            let action = if mark.is_some() { Action::Undo } else { Action::Keep };
            let words = reasons.iter().map(ToString::to_string).collect();
            CopyPlan { keeps: reasons.clone(), ..plan(action, words, false) }
        }
        // Of a copy that is leaving anyway the mark knows why.
        Verdict::Drop(reason) => {
            let words = mark.filter(|mark| mark.asked || mark.deleting).map(|mark| mark.reason.clone());
            plan(Action::Drop, vec![words.unwrap_or_else(|| reason.to_string())], reason.is_loss())
        }
    })
}

/// What left this side of a source before this plan: as this host remembers, and as the marks in the store tell.
fn dropped_before(
    source: &SourceName,
    mechanism: Mechanism,
    points: &[PointPlan],
    history: &History,
    now: Timestamp,
) -> DroppedBefore {
    let from = now.plus_seconds(-CONFIRMATION_DAYS * 86_400);
    let remembered = history.losses(source, mechanism, from);
    let copies = points.iter().filter_map(|point| Some((&point.point, point.copies.get(mechanism).as_ref()?)));
    let leaving: Vec<_> = copies.filter(|(_, copy)| copy.action == Action::Drop && copy.marked_at.is_some()).collect();
    let told = leaving.iter().filter(|(_, copy)| copy.loss && copy.marked_at >= Some(from)).map(|(point, _)| *point);
    let mut recent: BTreeSet<_> = told.chain(remembered.keys().copied()).collect();
    recent.retain(|point| remembered.get(point) != Some(&true));
    DroppedBefore {
        recent: recent.into_iter().cloned().collect(),
        leaving: leaving.iter().map(|(point, _)| (*point).clone()).collect(),
    }
}

/// What each target is told. A side that needs a yes and has none drops nothing new; what was announced before
/// goes on leaving.
pub fn orders(plans: &[SourcePlan], answers: &[Answer], yes: bool) -> BTreeMap<String, Order> {
    let mut orders: BTreeMap<String, Order> = BTreeMap::new();
    for plan in plans {
        for point in &plan.points {
            for (mechanism, copy) in point.copies.iter() {
                let Some(copy) = copy else { continue };
                let large = plan.large.get(mechanism).is_some();
                let withheld = large && !yes && copy.loss && copy.marked_at.is_none();
                if copy.action == Action::Keep || withheld {
                    continue;
                }
                let order = orders.entry(copy.target.clone()).or_default();
                order.add(point, copy, answers, large && copy.marked_at.is_none());
            }
        }
    }
    orders
}

impl Order {
    fn add(&mut self, point: &PointPlan, copy: &CopyPlan, answers: &[Answer], confirmed: bool) {
        let id = &point.point;
        // A commit that was tried again may have left two manifests of one point: they leave together.
        let manifests = held(answers, &copy.target).filter(|manifest| manifest.point == *id);
        if copy.action == Action::Undo {
            let marked = manifests.filter(|manifest| manifest.mark.is_some());
            self.undo.extend(marked.map(|manifest| (id.clone(), manifest.manifest.clone())));
            return;
        }
        self.drop.extend(manifests.map(|manifest| leaving(manifest, &copy.reasons.join(", "), copy.asked)));
        if copy.loss {
            self.losses.insert(id.clone());
            self.confirmed.extend(confirmed.then(|| id.clone()));
        }
    }

    /// The same without copies that are marked already: to mark them again would say nothing.
    pub fn unannounced(&self, answers: &[Answer]) -> Self {
        let marked: BTreeSet<_> = answers
            .iter()
            .flat_map(|answer| &answer.points)
            .filter(|manifest| manifest.mark.is_some())
            .map(|manifest| &manifest.anchor.sha256)
            .collect();
        let mut order = self.clone();
        order.drop.retain(|leaving| !marked.contains(&leaving.sha256));
        order
    }

    /// Whether the target has nothing to do for it.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.undo.is_empty() && self.locks.is_empty()
    }
}

/// A listing that was cut off says nothing about what is missing in it: on that side nothing is known.
pub fn whole(mut answers: Vec<Answer>) -> Vec<Answer> {
    for answer in answers.iter_mut().filter(|answer| answer.error.is_some()) {
        answer.points.clear();
    }
    answers
}

/// Whether any copy is to leave.
pub fn is_anything(plans: &[SourcePlan]) -> bool {
    let copies = plans.iter().flat_map(|plan| &plan.points).flat_map(|point| point.copies.iter());
    copies.filter_map(|(_, copy)| copy.as_ref()).any(|copy| copy.action == Action::Drop)
}

/// What a person must say yes to, one sentence for each side.
pub fn questions(plans: &[SourcePlan]) -> Vec<String> {
    let side = |plan: &SourcePlan, mechanism: Mechanism| {
        let large = (*plan.large.get(mechanism)).as_ref()?;
        Some(format!(
            "{} {mechanism}: {} of {} points would leave within 7 days",
            plan.source, large.dropped, large.points
        ))
    };
    plans.iter().flat_map(|plan| Mechanism::BOTH.into_iter().filter_map(|mechanism| side(plan, mechanism))).collect()
}

/// The oldest date of a source's contract points, but for those from the future.
pub fn first_date(rows: &[Row], source: &SourceName, now: Timestamp) -> Option<Date> {
    // What a person asked to be deleted is no past of the source.
    let stays = |copy: &CopyRow| copy.manifest.is_some() && !copy.mark.as_ref().is_some_and(|mark| mark.asked);
    let there = |row: &&Row| {
        row.source == *source
            && row.class == Class::Auto
            && row.created_at <= now
            && row.copies.iter().any(|(_, copy)| stays(copy))
    };
    rows.iter().filter(there).map(|row| row.business_date).min()
}

/// The copies that a target told of.
pub fn held<'a>(answers: &'a [Answer], target: &str) -> impl Iterator<Item = &'a Point> {
    answers.iter().filter(move |answer| answer.target == *target).flat_map(|answer| &answer.points)
}

/// A copy that may go.
pub fn leaving(manifest: &Point, reason: &str, asked: bool) -> Leaving {
    Leaving {
        point: manifest.point.clone(),
        manifest: manifest.manifest.clone(),
        sha256: manifest.anchor.sha256.clone(),
        reason: reason.to_owned(),
        asked,
    }
}
