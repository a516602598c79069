//! Ten simulated years, night by night, with random outages of either side and copies that rot, against a naive model.
//!
//! The model never forgets: it remembers every good copy there ever was and walks the calendar one
//! day at a time. The store forgets what the plan drops, the same morning. So a date that is dropped
//! and needed later shows, and so does a point that stays for no reason. Only when a copy rots the model forgets what had left
//! by then: nobody could know that it would be needed in the place of the rotten one.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot be set up is a broken test")]

use std::collections::{BTreeMap, BTreeSet};

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::retention::contract::RowState;
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{SidePlan, Verdict, plan};
use dualsync_rules::retention::rule::{Rule, RuleParts};
use dualsync_rules::schedule::{DUE_TOLERANCE_S, Slot};
use proptest::prelude::*;

const NIGHTS: i64 = 3653;
const START: &str = "2024-01-01";

/// A side fails in the nights `from..from + length`.
#[derive(Clone, Debug)]
struct Outage {
    block: bool,
    archive: bool,
    from: i64,
    length: i64,
}

/// The oldest but `at` of the copies of a side that are whole and have their date for themselves rots in this night.
#[derive(Clone, Debug)]
struct Rot {
    block: bool,
    night: i64,
    at: prop::sample::Index,
}

fn rots() -> impl Strategy<Value = Vec<Rot>> {
    let one = (any::<bool>(), 0..NIGHTS, any::<prop::sample::Index>());
    prop::collection::vec(one.prop_map(|(block, night, at)| Rot { block, night, at }), 0..120)
}

fn outages() -> impl Strategy<Value = Vec<Outage>> {
    let short = 1_i64..4;
    let long = 10_i64..60;
    let one = (0_u8..3, 0..NIGHTS, prop_oneof![4 => short, 1 => long]).prop_map(|(side, from, length)| Outage {
        block: side != 1,
        archive: side != 0,
        from,
        length,
    });
    prop::collection::vec(one, 0..120)
}

#[derive(Default)]
struct Side {
    store: Vec<StoredCopy>,
    ever_good: BTreeSet<Date>,
}

impl Side {
    fn newest(&self) -> Option<Date> {
        self.ever_good.last().copied()
    }

    /// Whether the first copy of `date` is there: the one that counts.
    fn holds(&self, date: Date) -> bool {
        self.store.iter().any(|copy| copy.created_at == run_of(date))
    }

    /// Dates of which a good copy is there.
    fn good(&self) -> BTreeSet<Date> {
        self.store.iter().filter(|copy| copy.health == Health::Good).map(|copy| copy.date).collect()
    }

    /// A good copy turns out to be damaged; what had left by now is gone for good.
    fn rot(&mut self, at: prop::sample::Index) {
        let alone = |copy: &StoredCopy| self.store.iter().filter(|other| other.date == copy.date).count() == 1;
        let whole: Vec<_> = (0..self.store.len())
            .filter(|at| self.store[*at].health == Health::Good && alone(&self.store[*at]))
            .collect();
        if whole.is_empty() {
            return;
        }
        self.store[whole[at.index(whole.len())]].health = Health::Damaged;
        self.ever_good = self.good();
    }
}

fn run_of(date: Date) -> Timestamp {
    date.plus_days(1).midnight_utc().plus_seconds(3600)
}

/// When the plan is made.
fn morning_of(date: Date) -> Timestamp {
    run_of(date).plus_seconds(8 * 3600)
}

fn copy(date: Date, at: Timestamp) -> StoredCopy {
    StoredCopy {
        point: PointId::new("web".parse().unwrap(), at),
        date,
        class: Class::Auto,
        created_at: at,
        duration_s: 600,
        stored_at: Some(at.plus_seconds(600)),
        expires: None,
        health: Health::Good,
    }
}

/// The dates needed from a last date; true where something may stand in.
type Needs = BTreeMap<Date, bool>;

/// Walks once for each last date.
struct Naive<'a> {
    rule: &'a RuleParts,
    known: BTreeMap<Date, Needs>,
}

impl Naive<'_> {
    fn needs(&mut self, last: Option<Date>) -> Needs {
        let rule = self.rule;
        last.map(|last| self.known.entry(last).or_insert_with(|| walk_back(rule, last)).clone()).unwrap_or_default()
    }
}

/// Which dates are needed, found by walking back one day at a time.
fn walk_back(rule: &RuleParts, last: Date) -> Needs {
    let mut needs = BTreeMap::new();
    let (mut month_ends, mut year_ends) = (0, 0);
    let months = 31 * (i64::from(rule.month_ends) + 2);
    let years = 366 * (i64::from(rule.year_ends) + 1);
    for back in 0..i64::from(rule.daily).max(months).max(years) {
        let day = last.plus_days(-back);
        let is_month_end = day.plus_days(1).day() == 1 && (day.month(), day.year()) != (last.month(), last.year());
        let is_year_end = day.month() == 12 && day.day() == 31 && day.year() < last.year();
        let daily = back < i64::from(rule.daily);
        let month_end = is_month_end && month_ends < rule.month_ends;
        let year_end = is_year_end && year_ends < rule.year_ends;
        month_ends += u32::from(is_month_end);
        year_ends += u32::from(is_year_end);
        if daily || month_end || year_end {
            needs.insert(day, month_end || year_end);
        }
    }
    needs
}

/// The day whose good copy stands in for `date`, by walking back to the first of its month.
fn naive_substitute(side: &Side, date: Date) -> Option<Date> {
    (1..i64::from(date.day())).map(|back| date.plus_days(-back)).find(|day| side.ever_good.contains(day))
}

/// What must be there: each needed date that ever was good, or else what stands in for it.
fn naive_wanted(side: &Side, needs: &Needs) -> BTreeSet<Date> {
    let wanted = needs.iter().filter_map(|(date, substitutable)| {
        if side.ever_good.contains(date) {
            Some(*date)
        } else if *substitutable {
            naive_substitute(side, *date)
        } else {
            None
        }
    });
    wanted.collect()
}

fn check_contract(side: &Side, plan: &SidePlan, needs: &Needs, started: Date) {
    assert_eq!(plan.contract.len(), needs.len());
    for row in &plan.contract {
        let substitutable = needs[&row.date];
        let expected = if side.ever_good.contains(&row.date) {
            "green"
        } else if row.date < started {
            "before_start"
        } else if row.needs.daily || !substitutable || naive_substitute(side, row.date).is_none() {
            "red"
        } else {
            "amber"
        };
        assert_eq!(row.state.word(), expected, "{row:?}");
        if let RowState::Amber(_, date) = row.state {
            assert_eq!(Some(date), naive_substitute(side, row.date));
        }
    }
}

fn check_side(side: &Side, other: &Side, plan: &SidePlan, naive: &mut Naive<'_>, tonight: Date, started: Option<Date>) {
    let needs = naive.needs(Some(tonight));
    if let Some(started) = started {
        check_contract(side, plan, &needs, started);
    } else {
        // Only a source that had a point has a start; before that the last due date alone is red.
        let red = plan.contract.iter().filter(|row| row.state.word() == "red").map(|row| row.date);
        assert!(red.eq(needs.keys().filter(|date| **date == tonight).copied()));
    }

    let standing = naive.needs(side.newest());
    let mut wanted = naive_wanted(side, &needs);
    wanted.extend(naive_wanted(side, &standing));
    wanted.extend(side.newest());
    for date in &wanted {
        assert!(side.holds(*date), "{date} is needed on {tonight} and was dropped");
    }

    // A date that was good on both sides and has left one of them is no reason to let an older one go: it may rot where it still is.
    let both = side.good().intersection(&other.good()).last().copied();
    let other_standing = naive.needs(other.newest());
    let other_needs = |date: &Date| needs.contains_key(date) || other_standing.contains_key(date);
    let good = side.store.iter().filter(|copy| copy.health == Health::Good);
    let newest = good.map(|copy| copy.created_at).max();
    for copy in &side.store {
        let is_second = copy.created_at != run_of(copy.date);
        let is_damaged = copy.health == Health::Damaged;
        let nothing_better = is_damaged && (needs.contains_key(&copy.date) || standing.contains_key(&copy.date));
        let reason = nothing_better
            || (!is_second && wanted.contains(&copy.date))
            || Some(copy.created_at) == newest
            || both.is_none_or(|both| copy.date >= both && !is_second || copy.date > both)
            || (is_second && morning_of(tonight).seconds_since(copy.created_at) < 86_400)
            || (other_needs(&copy.date) && !other.ever_good.contains(&copy.date));
        let verdict =
            || plan.decisions.iter().find(|decision| decision.point == copy.point).map(|found| &found.verdict);
        assert!(reason, "{} stays on {tonight} for no reason but {:?}", copy.point, verdict());
    }
}

fn apply(side: &mut Side, plan: &SidePlan) {
    for decision in &plan.decisions {
        if matches!(decision.verdict, Verdict::Drop(_)) {
            side.store.retain(|copy| copy.point != decision.point);
        }
    }
}

/// Each night: run, plan, drop, look. Every ninth night a second run follows two hours later.
fn simulate(rule: &Rule, outages: &[Outage], rots: &[Rot]) {
    let start: Date = START.parse().unwrap();
    let (mut block, mut archive) = (Side::default(), Side::default());
    let mut naive = Naive { rule: rule.parts(), known: BTreeMap::new() };
    let mut slots: Vec<Slot> = Vec::new();
    let mut started: Option<Date> = None;
    for night in 0..NIGHTS {
        let date = start.plus_days(night);
        let at = run_of(date);
        slots.push(Slot { at, date, due_at: at.plus_seconds(DUE_TOLERANCE_S) });
        let down = |side: fn(&Outage) -> bool| {
            outages.iter().any(|outage| side(outage) && (outage.from..outage.from + outage.length).contains(&night))
        };
        for (side, is_down) in [(&mut block, down(|o| o.block)), (&mut archive, down(|o| o.archive))] {
            if is_down {
                continue;
            }
            side.store.push(copy(date, at));
            side.ever_good.insert(date);
            if night % 9 == 0 {
                side.store.push(copy(date, at.plus_seconds(7200)));
            }
        }
        started = started.or_else(|| first_of(&block, &archive));
        for rot in rots.iter().filter(|rot| rot.night == night) {
            if rot.block { block.rot(rot.at) } else { archive.rot(rot.at) }
        }
        let facts = Facts {
            rule,
            now: morning_of(date),
            today: date,
            slots: &slots[slots.len().saturating_sub(40)..],
            started,
            block: &block.store,
            archive: &archive.store,
        };
        let plan = plan(&facts);
        apply(&mut block, plan.side(Mechanism::Block));
        apply(&mut archive, plan.side(Mechanism::Archive));
        check_side(&block, &archive, &plan.block, &mut naive, date, started);
        check_side(&archive, &block, &plan.archive, &mut naive, date, started);
    }
}

fn first_of(block: &Side, archive: &Side) -> Option<Date> {
    block.ever_good.first().into_iter().chain(archive.ever_good.first()).min().copied()
}

#[test]
fn ten_years_without_an_outage_keep_the_contract() {
    simulate(&Rule::CONTRACT, &[], &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_needed_date_is_lost_and_nothing_else_is_kept(outages in outages()) {
        simulate(&Rule::CONTRACT, &outages, &[]);
    }

    #[test]
    fn a_copy_that_rots_costs_no_other_one(outages in outages(), rots in rots()) {
        simulate(&Rule::CONTRACT, &outages, &rots);
    }

    #[test]
    fn this_holds_for_other_contracts_too(
        outages in outages(),
        rots in rots(),
        daily in 0_u32..40,
        month_ends in 0_u32..14,
        year_ends in 0_u32..3,
    ) {
        let parts = RuleParts { daily, month_ends, year_ends, ..RuleParts::default() };
        if let Ok(rule) = Rule::new(parts) {
            simulate(&rule, &outages, &rots);
        }
    }
}
