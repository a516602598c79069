//! The decisions on both sides: for each copy keep or drop, for each date of the contract its state.

use std::collections::BTreeSet;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};

use super::contract::{Row, rows};
use super::copy::{Distrust, Health, StoredCopy};
use super::facts::Facts;
use super::reason::{DropReason, KeepReason};
use super::rule::RuleParts;
use super::side::Side;
use crate::mechanism::Mechanism;

/// Seconds for which a point stays that is not the first of its date.
pub const SECOND_OF_DATE_S: i64 = 24 * 3600;

/// The days within which a third of the points may go without being asked for.
pub const CONFIRMATION_DAYS: i64 = 7;

/// What came is counted for so much longer than what left, in seconds. A point is of the beginning of its run and a mark of its
/// end: a run that took longer a week ago than tonight has its mark within the seven days and its point before them.
const EDGE_S: i64 = 12 * 3600;

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
    /// The same, of [`EDGE_S`] more.
    fresh_with_edge: usize,
    /// When that longer time began.
    young: Timestamp,
    /// How many points the calendar alone may take out of the rule in that time.
    by_calendar: usize,
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
    let young = facts.now.plus_seconds(-CONFIRMATION_DAYS * 86_400 - EDGE_S);
    let fresh_since =
        |from| copies.iter().filter(|copy| copy.created_at > from && !side.reasons(&copy.point).is_empty()).count();
    let (fresh, fresh_with_edge) = (fresh_since(young.plus_seconds(EDGE_S)), fresh_since(young));
    SidePlan {
        last: side.last,
        decisions,
        contract: rows(facts, side, started),
        fresh,
        fresh_with_edge,
        young,
        by_calendar: by_calendar(facts.rule.parts()),
    }
}

/// In a week a month, a year, and twice a week may end (both days at its edges are counted), and the oldest of each goes.
fn by_calendar(rule: &RuleParts) -> usize {
    let once =
        [rule.month_ends, rule.year_ends, rule.monthly, rule.yearly].into_iter().filter(|count| *count > 0).count();
    once + if rule.weekly > 0 { 2 } else { 0 }
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

/// What left this side before this plan was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedBefore {
    /// Contract points that began to leave in the last [`CONFIRMATION_DAYS`] days without a person's yes.
    pub recent: BTreeSet<PointId>,
    /// Points that are leaving already: the plan drops them again and loses nothing more by it.
    pub leaving: BTreeSet<PointId>,
}

/// More than a third of the points would be gone within [`CONFIRMATION_DAYS`] days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeDrop {
    /// Contract points that leave now or left in these days.
    pub dropped: usize,
    /// Of so many.
    pub points: usize,
}

impl SidePlan {
    /// What a person must say yes to: more than a third of the points would be gone within seven days.
    ///
    /// Not asked for: manual points, points that never counted for their date, and drops that are made up for,
    /// which is how a small rule moves on every night: not more leave now than fresh ones stay, and not more left
    /// in these days than came, but for those that the calendar takes out: when a month ends, the oldest month end goes.
    /// A plan that drops nothing new is not asked for either, whatever went before it.
    pub fn large_drop(&self, before: &DroppedBefore) -> Option<LargeDrop> {
        let is_loss = |decision: &Decision| matches!(decision.verdict, Verdict::Drop(reason) if reason.is_loss());
        let held = |decision: &&Decision| {
            let gone = [Verdict::Drop(DropReason::Marked), Verdict::Keep(vec![KeepReason::Gone])];
            decision.class == Class::Auto
                && !gone.contains(&decision.verdict)
                && !(is_loss(decision) && before.leaving.contains(&decision.point))
        };
        let held: Vec<_> = self.decisions.iter().filter(held).collect();
        let new: Vec<_> = held.iter().filter(|decision| is_loss(decision)).map(|decision| &decision.point).collect();
        let (dropped, points) = (new.len() + before.recent.len(), held.len() + before.recent.len());
        let came = new.iter().copied().chain(&before.recent).filter(|point| point.time() > self.young).count();
        let made_up_for = new.len() <= self.fresh && dropped <= self.fresh_with_edge + came + self.by_calendar;
        (!new.is_empty() && dropped * 3 > points && !made_up_for).then_some(LargeDrop { dropped, points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last moment that is not within the seven days.
    const YOUNG: i64 = 1_000_000;

    /// A point made so many seconds after the seven days began; before them when negative.
    fn point(after: i64) -> PointId {
        PointId::new("web".parse().unwrap(), Timestamp::from_seconds(YOUNG + after))
    }

    /// Points of long ago, the dropped ones first.
    fn side(kept: usize, dropped: usize, other: &[Verdict], fresh: usize) -> SidePlan {
        let verdicts = std::iter::repeat_n(Verdict::Drop(DropReason::LeftContract), dropped)
            .chain(std::iter::repeat_n(Verdict::Keep(vec![KeepReason::Daily]), kept))
            .chain(other.iter().cloned());
        let decision = |(before, verdict): (i64, Verdict)| {
            let point = point(-before);
            Decision { date: point.time().utc_date(), point, class: Class::Auto, verdict }
        };
        let decisions = (0..).zip(verdicts).map(decision).collect();
        SidePlan {
            last: None,
            decisions,
            contract: Vec::new(),
            fresh,
            fresh_with_edge: fresh,
            young: Timestamp::from_seconds(YOUNG),
            by_calendar: 0,
        }
    }

    /// So many that left in the seven days, of which so many were made in them.
    fn recent(old: i64, young: i64) -> DroppedBefore {
        let recent = (0..old).map(|at| point(-1000 - at)).chain((1..=young).map(point)).collect();
        DroppedBefore { recent, ..DroppedBefore::default() }
    }

    #[test]
    fn more_than_a_third_within_seven_days_is_asked_for() {
        let check = |kept, dropped, before, expected: Option<(usize, usize)>| {
            let expected = expected.map(|(dropped, points)| LargeDrop { dropped, points });
            let found = side(kept, dropped, &[], 0).large_drop(&recent(before, 0));
            assert_eq!(found, expected, "{kept} {dropped} {before}");
        };
        check(12, 0, 0, None);
        check(12, 6, 0, None);
        check(12, 7, 0, Some((7, 19)));
        check(12, 1, 5, None);
        check(12, 1, 6, Some((7, 19)));
        check(12, 0, 20, None);
        check(1, 1, 0, Some((1, 2)));
    }

    #[test]
    fn drops_that_new_points_make_up_for_are_not_asked_for() {
        // daily = 7: one leaves a night and one comes a night.
        assert_eq!(side(7, 1, &[], 7).large_drop(&recent(6, 0)), None);
        // daily = 3: the one that leaves now was made in this week, and so were three of the six before it.
        let mut plan = side(3, 1, &[], 3);
        plan.decisions[0].point = point(500);
        assert_eq!(plan.large_drop(&recent(3, 3)), None);
        assert!(plan.large_drop(&recent(4, 2)).is_some());
        // A rule that was cut from six to one in the first week of a source loses five points all the same.
        let mut first_week = side(1, 5, &[], 1);
        first_week.decisions.iter_mut().zip(1..).for_each(|(decision, after)| decision.point = point(after));
        assert_eq!(first_week.large_drop(&DroppedBefore::default()), Some(LargeDrop { dropped: 5, points: 6 }));
    }

    #[test]
    fn what_is_leaving_already_is_no_new_loss() {
        let plan = side(6, 4, &[], 0);
        let leaving = |count| plan.decisions.iter().take(count).map(|decision| decision.point.clone()).collect();
        let check = |recent, leaving, expected: Option<(usize, usize)>| {
            let expected = expected.map(|(dropped, points)| LargeDrop { dropped, points });
            assert_eq!(plan.large_drop(&DroppedBefore { recent, leaving }), expected);
        };
        check(BTreeSet::new(), leaving(0), Some((4, 10)));
        check(BTreeSet::new(), leaving(4), None);
        check(BTreeSet::new(), leaving(3), None);
        // Three that began to leave this week, and one more now.
        check(leaving(3), leaving(3), Some((4, 10)));
    }

    #[test]
    fn what_never_counted_is_no_loss() {
        let none = DroppedBefore::default();
        let never = [DropReason::Expired, DropReason::Marked, DropReason::SecondOfDate].map(Verdict::Drop);
        assert_eq!(side(3, 0, &never, 0).large_drop(&none), None);
        let caps = [DropReason::TooMany, DropReason::TooOld].map(Verdict::Drop);
        assert!(side(3, 0, &caps, 0).large_drop(&none).is_some());
        // A copy that is gone already does not make the third larger.
        let gone = vec![Verdict::Keep(vec![KeepReason::Gone]); 9];
        assert!(side(3, 2, &gone, 0).large_drop(&none).is_some());
    }
}
