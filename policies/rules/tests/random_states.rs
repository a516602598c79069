//! What holds for any state of the two stores, however it came about.

#![expect(clippy::unwrap_used, reason = "a state that cannot be set up is a broken test")]

use std::collections::BTreeSet;
use std::time::Duration;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::retention::contract::RowState;
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{Plan, SidePlan, Verdict, plan};
use dualsync_rules::retention::reason::DropReason;
use dualsync_rules::retention::rule::{Rule, RuleParts};
use dualsync_rules::schedule::{DUE_TOLERANCE_S, Slot};
use proptest::prelude::*;

const TODAY: &str = "2027-01-10";

fn today() -> Date {
    TODAY.parse().unwrap()
}

fn now() -> Timestamp {
    today().plus_days(1).midnight_utc().plus_seconds(9 * 3600)
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        8 => Just(Health::Good),
        1 => Just(Health::Unknown),
        1 => Just(Health::Damaged),
        1 => Just(Health::Missing),
        1 => Just(Health::Deleting),
    ]
}

/// A copy of the last 400 days, now and then manual, from the future, or with another clock than the store's.
fn copy() -> impl Strategy<Value = StoredCopy> {
    (-2_i64..400, 0_i64..4, health(), 0_u8..20).prop_map(|(back, hour, health, kind)| {
        let date = today().plus_days(-back);
        let created_at = date.plus_days(1).midnight_utc().plus_seconds(hour * 3600);
        StoredCopy {
            point: PointId::new("web".parse().unwrap(), created_at),
            date,
            class: if kind == 0 { Class::Manual } else { Class::Auto },
            created_at,
            duration_s: 60,
            stored_at: Some(created_at.plus_seconds(if kind == 1 { 90_000 } else { 60 })),
            expires: (kind == 0).then(|| created_at.plus_seconds(30 * 86_400)),
            health,
        }
    })
}

/// One copy for each point: a store cannot hold two of one id.
fn store() -> impl Strategy<Value = Vec<StoredCopy>> {
    prop::collection::vec(copy(), 0..60).prop_map(|mut copies| {
        copies.sort_by(|a, b| a.point.cmp(&b.point));
        copies.dedup_by(|a, b| a.point == b.point);
        copies
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let counts = (0_u32..15, 0_u32..5, 0_u32..2, 0_u32..6, 0_u32..6, 0_u32..6, 0_u32..3);
    let caps = (prop::option::of(20_u32..30), prop::option::of(10_u64..500));
    (counts, 0_u32..4, prop::option::of(1_u64..40), caps).prop_filter_map(
        "a rule that contradicts itself",
        |(
            (daily, month_ends, year_ends, every_6h, weekly, monthly, yearly),
            keep_last,
            within,
            (max_points, max_age),
        )| {
            Rule::new(RuleParts {
                daily,
                month_ends,
                year_ends,
                every_6h,
                weekly,
                monthly,
                yearly,
                keep_last,
                keep_within: within.map(|days| Duration::from_hours(24 * days)),
                max_points,
                max_age: max_age.map(|days| Duration::from_hours(24 * days)),
            })
            .ok()
        },
    )
}

fn decide(rule: &Rule, block: &[StoredCopy], archive: &[StoredCopy]) -> Plan {
    let slots: Vec<_> = (0..400)
        .rev()
        .map(|back| {
            let date = today().plus_days(-back);
            let at = date.plus_days(1).midnight_utc();
            Slot { at, date, due_at: at.plus_seconds(DUE_TOLERANCE_S) }
        })
        .collect();
    plan(&Facts { rule, now: now(), today: today(), slots: &slots, started: None, block, archive })
}

fn dropped(side: &SidePlan) -> BTreeSet<PointId> {
    let leaves = side.decisions.iter().filter(|decision| matches!(decision.verdict, Verdict::Drop(_)));
    leaves.map(|decision| decision.point.clone()).collect()
}

fn remaining(copies: &[StoredCopy], side: &SidePlan) -> Vec<StoredCopy> {
    let gone = dropped(side);
    copies.iter().filter(|copy| !gone.contains(&copy.point)).cloned().collect()
}

fn counts(copy: &StoredCopy) -> bool {
    let clock = copy.stored_at.is_none_or(|stored| stored.seconds_since(copy.created_at) <= 3660);
    copy.class == Class::Auto
        && copy.health == Health::Good
        && copy.created_at <= now()
        && copy.date <= today()
        && clock
}

proptest! {
    #[test]
    fn every_copy_is_decided_once_and_every_keep_has_a_reason(rule in rule(), block in store(), archive in store()) {
        let plan = decide(&rule, &block, &archive);
        for (copies, side) in [(&block, &plan.block), (&archive, &plan.archive)] {
            let decided: BTreeSet<_> = side.decisions.iter().map(|decision| decision.point.clone()).collect();
            prop_assert_eq!(decided.len(), side.decisions.len());
            prop_assert_eq!(decided, copies.iter().map(|copy| copy.point.clone()).collect::<BTreeSet<_>>());
            for decision in &side.decisions {
                prop_assert!(!matches!(&decision.verdict, Verdict::Keep(reasons) if reasons.is_empty()));
            }
        }
    }

    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_drop_and_the_contract_as_it_was(
        rule in rule(), block in store(), archive in store(),
    ) {
        let before = decide(&rule, &block, &archive);
        let (block, archive) = (remaining(&block, &before.block), remaining(&archive, &before.archive));
        let after = decide(&rule, &block, &archive);
        prop_assert!(dropped(&after.block).is_empty() && dropped(&after.archive).is_empty());
        for (before, after) in [(&before.block, &after.block), (&before.archive, &after.archive)] {
            let there = |side: &SidePlan| {
                let rows = side.contract.iter().filter(|row| matches!(row.state, RowState::Green(_) | RowState::Amber(..)));
                rows.map(|row| (row.date, row.state.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(there(before), there(after));
        }
    }

    #[test]
    fn the_newest_good_copy_of_each_side_stays(rule in rule(), block in store(), archive in store()) {
        let plan = decide(&rule, &block, &archive);
        for (copies, side) in [(&block, &plan.block), (&archive, &plan.archive)] {
            let newest = copies.iter().filter(|copy| counts(copy)).max_by_key(|copy| copy.created_at);
            prop_assert!(newest.is_none_or(|copy| !dropped(side).contains(&copy.point)));
        }
    }

    #[test]
    fn with_one_side_empty_the_other_drops_no_good_date(rule in rule(), block in store()) {
        let plan = decide(&rule, &block, &[]);
        let left = remaining(&block, &plan.block);
        let dates = |copies: &[StoredCopy]| copies.iter().filter(|copy| counts(copy)).map(|copy| copy.date).collect::<BTreeSet<_>>();
        prop_assert_eq!(dates(&block), dates(&left));
    }

    #[test]
    fn damage_on_one_side_never_makes_the_other_drop_more(
        rule in rule(), block in store(), archive in store(), which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!archive.is_empty());
        let before = decide(&rule, &block, &archive);
        let mut worse = archive.clone();
        worse[which.index(archive.len())].health = Health::Damaged;
        let after = decide(&rule, &block, &worse);
        let (before, after) = (dropped(&before.block), dropped(&after.block));
        prop_assert!(after.is_subset(&before), "{:?}", after.difference(&before).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_dropped_has_a_younger_date_on_both_sides(rule in rule(), block in store(), archive in store()) {
        let plan = decide(&rule, &block, &archive);
        let dates = |copies: &[StoredCopy]| copies.iter().filter(|copy| counts(copy)).map(|copy| copy.date).collect::<BTreeSet<_>>();
        let both = dates(&block).intersection(&dates(&archive)).last().copied();
        for decision in &plan.block.decisions {
            if let Verdict::Drop(reason) = decision.verdict
                && !matches!(reason, DropReason::Marked | DropReason::Expired)
            {
                prop_assert!(both.is_some_and(|both| decision.date <= both), "{decision:?}");
            }
        }
    }
}
