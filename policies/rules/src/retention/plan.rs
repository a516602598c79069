//! The decisions on both sides: for each copy keep or drop, for each date of the contract its state.

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::Date;

use super::contract::{Row, rows};
use super::copy::{Distrust, Health, StoredCopy};
use super::facts::Facts;
use super::reason::{DropReason, KeepReason};
use super::side::Side;
use crate::mechanism::Mechanism;

/// Seconds for which a point stays that is not the first of its date.
pub const SECOND_OF_DATE_S: i64 = 24 * 3600;

/// The days within which a third of the points may go without being asked for.
pub const CONFIRMATION_DAYS: i64 = 7;

/// What is to be done about one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The point.
    pub point: PointId,
    /// Its business date.
    pub date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// Keep or drop.
    pub verdict: Verdict,
}

/// Keep or drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Keep, for these reasons; never empty.
    Keep(Vec<KeepReason>),
    /// Drop.
    Drop(DropReason),
}

/// The plan of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidePlan {
    /// The date the contract is judged from: the last that is due or has a good point.
    pub last: Option<Date>,
    /// One decision for each copy, newest first.
    pub decisions: Vec<Decision>,
    /// One row for each date of the contract, newest first.
    pub contract: Vec<Row>,
    /// Good contract points of the last [`CONFIRMATION_DAYS`] days that stay.
    fresh: usize,
}

/// The plans of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The block side's.
    pub block: SidePlan,
    /// The archive side's.
    pub archive: SidePlan,
}

impl Plan {
    /// The plan of one side.
    pub const fn side(&self, mechanism: Mechanism) -> &SidePlan {
        match mechanism {
            Mechanism::Block => &self.block,
            Mechanism::Archive => &self.archive,
        }
    }
}

/// Decides about every copy of a source. Equal facts give equal plans.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let block = Side::new(facts, facts.block);
    let archive = Side::new(facts, facts.archive);
    let started = started(facts);
    Plan { block: side_plan(facts, &block, &archive, started), archive: side_plan(facts, &archive, &block, started) }
}

/// Points from the future say nothing about the past; any other, even a lost one, shows that the source existed.
fn started(facts: &Facts<'_>) -> Option<Date> {
    let copies = facts.block.iter().chain(facts.archive);
    let told = copies.filter(|copy| copy.class == Class::Auto && copy.distrust(facts.now, facts.today).is_none());
    told.map(|copy| copy.date).chain(facts.started).min()
}

fn side_plan(facts: &Facts<'_>, side: &Side<'_>, other: &Side<'_>, started: Option<Date>) -> SidePlan {
    let mut copies: Vec<_> = side.copies.iter().collect();
    copies.sort_by(|a, b| (b.date, b.created_at, &b.point).cmp(&(a.date, a.created_at, &a.point)));
    let decide = |copy: &&StoredCopy| Decision {
        point: copy.point.clone(),
        date: copy.date,
        class: copy.class,
        verdict: verdict(facts, side, other, copy),
    };
    let decisions: Vec<_> = copies.iter().map(decide).collect();
    let young = facts.now.plus_seconds(-CONFIRMATION_DAYS * 86_400);
    let fresh = copies.iter().filter(|copy| copy.created_at > young && !side.reasons(&copy.point).is_empty()).count();
    SidePlan { last: side.last, decisions, contract: rows(facts, side, started), fresh }
}

fn verdict(facts: &Facts<'_>, side: &Side<'_>, other: &Side<'_>, copy: &StoredCopy) -> Verdict {
    let keep = |reason| Verdict::Keep(vec![reason]);
    match copy.health {
        Health::Deleting => return Verdict::Drop(DropReason::Marked),
        Health::Missing => return keep(KeepReason::Gone),
        Health::Good | Health::Unknown | Health::Damaged => {}
    }
    match copy.distrust(facts.now, facts.today) {
        Some(Distrust::Future) => return keep(KeepReason::Future),
        Some(Distrust::ClockDisagrees) => return keep(KeepReason::ClockDisagrees),
        None => {}
    }
    if copy.class == Class::Manual {
        let over = copy.expires.is_some_and(|expires| expires <= facts.now);
        return if over { Verdict::Drop(DropReason::Expired) } else { keep(KeepReason::Manual(copy.expires)) };
    }
    if copy.health == Health::Unknown {
        return keep(KeepReason::NotLookedAt);
    }
    let reasons = side.reasons(&copy.point);
    if reasons.is_empty() { candidate(facts, side, other, copy) } else { Verdict::Keep(reasons) }
}

/// A copy that the rule of its own side no longer needs. Everything that still speaks for it is asked here.
fn candidate(facts: &Facts<'_>, side: &Side<'_>, other: &Side<'_>, copy: &StoredCopy) -> Verdict {
    let first = side.first.get(&copy.date);
    let is_second = first.is_some_and(|first| first.point != copy.point);
    let mut reasons = Vec::new();
    let goes_at = copy.created_at.plus_seconds(SECOND_OF_DATE_S);
    if is_second && goes_at > facts.now {
        reasons.push(KeepReason::SecondOfDate(goes_at));
    }
    if first.is_none() && side.needed.contains_key(&copy.date) {
        reasons.push(KeepReason::NothingBetter);
    }
    let successor = newest_of_both(side, other);
    let succeeded = successor.is_some_and(|date| if is_second { copy.date <= date } else { copy.date < date });
    if !succeeded {
        reasons.push(KeepReason::NoSuccessor);
    }
    if other.needed.contains_key(&copy.date) && !other.first.contains_key(&copy.date) {
        reasons.push(KeepReason::OtherSideLacks);
    }
    if !reasons.is_empty() {
        return Verdict::Keep(reasons);
    }
    let second = is_second.then_some(DropReason::SecondOfDate);
    Verdict::Drop(side.cap(&copy.point).or(second).unwrap_or(DropReason::LeftContract))
}

/// The newest date that is good on both sides.
fn newest_of_both(side: &Side<'_>, other: &Side<'_>) -> Option<Date> {
    side.first.keys().rev().find(|date| other.first.contains_key(date)).copied()
}

impl SidePlan {
    /// Whether a person must say yes: more than a third of the points would be gone within seven days.
    ///
    /// `dropped_before` are the contract points dropped in the seven days before this plan. Not asked
    /// for: manual points and points that never counted for their date, and drops that are each made
    /// up by a good point of these seven days, which is how a small rule moves on every night.
    pub fn needs_confirmation(&self, dropped_before: usize) -> bool {
        let leaves = |decision: &&Decision| {
            let reasons = [DropReason::LeftContract, DropReason::TooMany, DropReason::TooOld];
            matches!(decision.verdict, Verdict::Drop(reason) if reasons.contains(&reason))
        };
        let held = |decision: &&Decision| {
            let gone = [Verdict::Drop(DropReason::Marked), Verdict::Keep(vec![KeepReason::Gone])];
            decision.class == Class::Auto && !gone.contains(&decision.verdict)
        };
        let dropped = self.decisions.iter().filter(leaves).count() + dropped_before;
        let points = self.decisions.iter().filter(held).count() + dropped_before;
        dropped * 3 > points && dropped > self.fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(kept: u32, dropped: u32, other: &[Verdict], fresh: usize) -> SidePlan {
        let verdicts = (0..kept)
            .map(|_| Verdict::Keep(vec![KeepReason::Daily]))
            .chain((0..dropped).map(|_| Verdict::Drop(DropReason::LeftContract)))
            .chain(other.iter().cloned());
        let date: Date = "2026-11-20".parse().unwrap();
        let decisions = verdicts.map(|verdict| Decision {
            point: "web@20261120T010000Z".parse().unwrap(),
            date,
            class: Class::Auto,
            verdict,
        });
        SidePlan { last: Some(date), decisions: decisions.collect(), contract: Vec::new(), fresh }
    }

    #[test]
    fn more_than_a_third_within_seven_days_is_asked_for() {
        let check = |kept, dropped, before, expected| {
            assert_eq!(side(kept, dropped, &[], 0).needs_confirmation(before), expected, "{kept} {dropped} {before}");
        };
        check(12, 0, 0, false);
        check(12, 6, 0, false);
        check(12, 7, 0, true);
        check(12, 1, 5, false);
        check(12, 1, 6, true);
        check(1, 1, 0, true);
    }

    #[test]
    fn drops_that_new_points_make_up_for_are_not_asked_for() {
        // daily = 3 in its seventh night: one leaves a night and one comes a night.
        assert!(!side(3, 1, &[], 7).needs_confirmation(6));
        assert!(side(3, 2, &[], 7).needs_confirmation(6));
    }

    #[test]
    fn what_never_counted_is_no_loss() {
        let never = [DropReason::Expired, DropReason::Marked, DropReason::SecondOfDate].map(Verdict::Drop);
        assert!(!side(3, 0, &never, 0).needs_confirmation(0));
        let caps = [DropReason::TooMany, DropReason::TooOld].map(Verdict::Drop);
        assert!(side(3, 0, &caps, 0).needs_confirmation(0));
        // A copy that is gone already does not make the third larger.
        let gone = vec![Verdict::Keep(vec![KeepReason::Gone]); 9];
        assert!(side(3, 2, &gone, 0).needs_confirmation(0));
    }
}
