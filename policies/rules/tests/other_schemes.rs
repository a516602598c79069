//! The schemes beside the contract (weekly, monthly, yearly, every six hours, the last ones, the young ones, and both caps)
//! over four simulated years of irregular nights, against a model that walks the calendar back one day at a time.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot be set up is a broken test")]

use std::collections::BTreeSet;
use std::time::Duration;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{Verdict, plan};
use dualsync_rules::retention::rule::{Rule, RuleParts};
use proptest::prelude::*;

const NIGHTS: i64 = 1461;
/// A Monday.
const START: &str = "2024-01-01";
/// The hours of the runs after a date's end, of which a night makes the first ones.
const HOURS: [i64; 4] = [1, 5, 9, 19];
const QUARTER_S: i64 = 6 * 3600;

fn copy(date: Date, hour: i64) -> StoredCopy {
    let at = date.plus_days(1).midnight_utc().plus_seconds(hour * 3600);
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

/// The copies that a rule keeps, by the moments they were made.
type Moments = BTreeSet<Timestamp>;

/// The first copy of a date.
fn first(copies: &[StoredCopy], date: Date) -> Option<Timestamp> {
    copies.iter().filter(|copy| copy.date == date).map(|copy| copy.created_at).min()
}

/// Walks back from the newest date. The first day of each period that has a copy is kept, until `count` are; after a day that
/// `begins` a period another one is walked through.
fn walk_back(copies: &[StoredCopy], count: u32, begins: fn(Date) -> bool) -> Moments {
    let mut kept = Moments::new();
    let (Some(newest), Some(oldest)) = (copies.iter().map(|c| c.date).max(), copies.iter().map(|c| c.date).min())
    else {
        return kept;
    };
    let (mut day, mut has_one) = (newest, false);
    while day >= oldest && kept.len() < count as usize {
        if !has_one && let Some(moment) = first(copies, day) {
            kept.insert(moment);
            has_one = true;
        }
        has_one &= !begins(day);
        day = day.plus_days(-1);
    }
    kept
}

fn is_monday(day: Date) -> bool {
    (day.days() - START.parse::<Date>().unwrap().days()) % 7 == 0
}

/// The same quarter by quarter of a day in UTC, of each the first copy.
fn quarters_back(moments: &Moments, count: u32) -> Moments {
    let mut kept = Moments::new();
    let (Some(newest), Some(oldest)) = (moments.last(), moments.first()) else { return kept };
    let mut from = newest.utc_date().midnight_utc();
    while from.plus_seconds(QUARTER_S) <= *newest {
        from = from.plus_seconds(QUARTER_S);
    }
    while from.plus_seconds(QUARTER_S) > *oldest && kept.len() < count as usize {
        kept.extend(moments.range(from..from.plus_seconds(QUARTER_S)).next());
        from = from.plus_seconds(-QUARTER_S);
    }
    kept
}

/// Everything that the rule asks for among `copies`, in the words of its own page.
fn wanted(parts: &RuleParts, copies: &[StoredCopy]) -> Moments {
    let moments: Moments = copies.iter().map(|copy| copy.created_at).collect();
    let Some(newest) = moments.last().copied() else { return moments };
    let older_than =
        |moment: &Timestamp, limit: Duration| newest.seconds_since(*moment).unsigned_abs() > limit.as_secs();
    let mut kept = walk_back(copies, parts.weekly, is_monday);
    kept.extend(walk_back(copies, parts.monthly, |day| day.day() == 1));
    kept.extend(walk_back(copies, parts.yearly, |day| (day.month(), day.day()) == (1, 1)));
    kept.extend(quarters_back(&moments, parts.every_6h));
    kept.extend(moments.iter().rev().take(parts.keep_last as usize));
    if let Some(within) = parts.keep_within {
        kept.extend(moments.iter().filter(|moment| !older_than(moment, within)));
    }
    kept.insert(newest);
    if let Some(age) = parts.max_age {
        kept.retain(|moment| !older_than(moment, age));
    }
    while parts.max_points.is_some_and(|most| kept.len() > most as usize) {
        kept.pop_first();
    }
    kept
}

/// What stays for other reasons than the rule's: the first of the newest date, and the others of a date for a day.
fn stays_all_the_same(copies: &[StoredCopy], copy: &StoredCopy, now: Timestamp) -> bool {
    let newest = copies.iter().map(|copy| copy.date).max();
    if first(copies, copy.date) == Some(copy.created_at) {
        Some(copy.date) == newest
    } else {
        now.seconds_since(copy.created_at) < 86_400
    }
}

/// Each night makes as many copies as the pattern says; each evening what the plan drops leaves both sides.
fn simulate(rule: &Rule, pattern: &[usize]) {
    let parts = rule.parts();
    let has_caps = parts.max_points.is_some() || parts.max_age.is_some();
    let start: Date = START.parse().unwrap();
    let (mut store, mut ever): (Vec<StoredCopy>, Vec<StoredCopy>) = (Vec::new(), Vec::new());
    for (night, runs) in (0..NIGHTS).zip(pattern.iter().cycle()) {
        let date = start.plus_days(night);
        let made: Vec<_> = HOURS.iter().take(*runs).map(|hour| copy(date, *hour)).collect();
        store.extend(made.iter().cloned());
        ever.extend(made);
        let now = date.plus_days(1).midnight_utc().plus_seconds(22 * 3600);
        let today = date.plus_days(1);
        let facts = Facts { rule, now, today, slots: &[], started: None, block: &store, archive: &store };
        let plan = plan(&facts);
        assert_eq!(plan.block.decisions, plan.archive.decisions);
        let wanted_now = wanted(parts, &store);
        let before = store.clone();
        store.retain(|copy| {
            let decision = plan.block.decisions.iter().find(|decision| decision.point == copy.point).unwrap();
            let is_kept = matches!(decision.verdict, Verdict::Keep(_));
            let expected = wanted_now.contains(&copy.created_at) || stays_all_the_same(&before, copy, now);
            assert_eq!(is_kept, expected, "{date} {parts:?}: {decision:?}");
            is_kept
        });
        // What left on some evening is not wanted on a later one, as if nothing had ever left. A cap may want it back: what
        // stood in its place can be one and the same copy later on.
        if !has_caps && night % 61 == 0 {
            let there: Moments = store.iter().map(|copy| copy.created_at).collect();
            let since = ever.len().saturating_sub(1_500);
            let missing: Vec<_> = wanted(parts, &ever[since..]).difference(&there).copied().collect();
            assert!(missing.is_empty(), "{date} {parts:?}: {missing:?}");
        }
    }
}

/// Nights with none, one, or several copies.
fn pattern() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![2 => Just(0_usize), 5 => Just(1), 1 => 2..=HOURS.len()], 1..90)
}

fn rule() -> impl Strategy<Value = RuleParts> {
    let counts = (0_u32..8, 0_u32..6, 0_u32..3, 0_u32..12, 0_u32..8);
    let days = |most: u64| prop::option::of((1..most).prop_map(|days| Duration::from_hours(24 * days)));
    (counts, days(60), days(500), prop::option::of(1_u32..20)).prop_map(
        |((weekly, monthly, yearly, every_6h, keep_last), keep_within, max_age, max_points)| RuleParts {
            weekly,
            monthly,
            yearly,
            every_6h,
            keep_last,
            keep_within,
            max_age,
            max_points,
            ..RuleParts::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_evening_what_the_rule_asks_for_stays_and_nothing_else(parts in rule(), pattern in pattern()) {
        if let Ok(rule) = Rule::new(parts) {
            simulate(&rule, &pattern);
        }
    }

    #[test]
    fn without_caps_nothing_that_left_is_wanted_later(parts in rule(), pattern in pattern()) {
        if let Ok(rule) = Rule::new(RuleParts { max_age: None, max_points: None, ..parts }) {
            simulate(&rule, &pattern);
        }
    }
}
