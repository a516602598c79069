//! Quiet months: a contract that moves on by a date a night, with runs that take longer or shorter, never asks anybody.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot be set up is a broken test")]

use std::collections::BTreeMap;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{CONFIRMATION_DAYS, DroppedBefore, Verdict, plan};
use dualsync_rules::retention::rule::{Rule, RuleParts};
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

fn rules() -> impl Strategy<Value = Rule> {
    let small = (1_u32..15).prop_map(|daily| Rule::new(RuleParts { daily, ..RuleParts::default() }).unwrap());
    prop_oneof![Just(Rule::CONTRACT), small]
}

/// A run begins at one and marks what left at its end; two nights later that is deleted.
fn nights_without_a_question(rule: &Rule, lengths: &[i64]) {
    let first: Date = "2026-11-20".parse().unwrap();
    let mut store: Vec<StoredCopy> = Vec::new();
    let mut marks: BTreeMap<PointId, Timestamp> = BTreeMap::new();
    for (night, length) in (0_i64..).zip(lengths) {
        let date = first.plus_days(night);
        let began = date.plus_days(1).midnight_utc().plus_seconds(3600);
        let now = began.plus_seconds(*length);
        store.push(StoredCopy {
            point: PointId::new("web".parse().unwrap(), began),
            date,
            class: Class::Auto,
            created_at: began,
            duration_s: length.unsigned_abs(),
            stored_at: Some(now),
            expires: None,
            health: Health::Good,
        });
        let facts = Facts { rule, now, today: date, slots: &[], started: Some(first), block: &store, archive: &store };
        let planned = plan(&facts);
        let side = planned.side(Mechanism::Block);
        let week = now.plus_seconds(-CONFIRMATION_DAYS * DAY_S);
        let before = DroppedBefore {
            recent: marks.iter().filter(|(_, at)| **at >= week).map(|(point, _)| point.clone()).collect(),
            leaving: store
                .iter()
                .filter(|copy| copy.health == Health::Deleting)
                .map(|copy| copy.point.clone())
                .collect(),
        };
        assert_eq!(side.large_drop(&before), None, "night {night} of {length} s, {:?}", rule.parts());
        for copy in store.iter_mut().filter(|copy| copy.health == Health::Good) {
            let decision = side.decisions.iter().find(|decision| decision.point == copy.point).unwrap();
            if matches!(decision.verdict, Verdict::Drop(_)) {
                copy.health = Health::Deleting;
                marks.insert(copy.point.clone(), now);
            }
        }
        store.retain(|copy| marks.get(&copy.point).is_none_or(|at| now.seconds_since(*at) < 2 * DAY_S));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_contract_that_moves_on_night_by_night_asks_nobody(
        rule in rules(), lengths in prop::collection::vec(60_i64..6 * 3600, 60),
    ) {
        nights_without_a_question(&rule, &lengths);
    }
}

#[test]
fn runs_that_take_the_same_time_to_the_second_ask_nobody() {
    nights_without_a_question(&Rule::CONTRACT, &[600; 200]);
}
