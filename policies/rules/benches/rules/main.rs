//! One decision over everything that both sides hold: `cargo bench -p dualsync-rules`.
//!
//! Figures to compare, before and after a change; nothing fails because it is slow.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{Plan, Verdict, plan};
use dualsync_rules::retention::rule::Rule;
use dualsync_rules::schedule::{DUE_TOLERANCE_S, Slot};

const NIGHTS: i64 = 3653;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let first: Date = "2024-01-01".parse().expect("a date");
    let dates: Vec<Date> = (0..NIGHTS).map(|night| first.plus_days(night)).collect();
    let every: Vec<StoredCopy> = dates.iter().map(|date| copy(*date)).collect();
    let kept = standing(&every, &decide(&dates, &every));
    let mut group = criterion.benchmark_group("plan, in copies of both sides");
    for (name, copies) in [("ten years of nights", &every), ("what the contract keeps of them", &kept)] {
        group.throughput(Throughput::Elements(2 * copies.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decide(&dates, black_box(copies))));
    }
    group.finish();
    criterion.final_summary();
}

/// Both sides hold the same.
fn decide(dates: &[Date], copies: &[StoredCopy]) -> Plan {
    let slot =
        |date: &Date| Slot { at: run_of(*date), date: *date, due_at: run_of(*date).plus_seconds(DUE_TOLERANCE_S) };
    let slots: Vec<Slot> = dates[dates.len() - 40..].iter().map(slot).collect();
    let today = *dates.last().expect("there are nights");
    plan(&Facts {
        rule: &Rule::CONTRACT,
        now: run_of(today).plus_seconds(8 * 3600),
        today,
        slots: &slots,
        started: dates.first().copied(),
        block: copies,
        archive: copies,
    })
}

fn standing(copies: &[StoredCopy], plan: &Plan) -> Vec<StoredCopy> {
    let decisions = &plan.side(Mechanism::Block).decisions;
    let stays = |copy: &&StoredCopy| {
        let decision = decisions.iter().find(|decision| decision.point == copy.point);
        decision.is_some_and(|decision| !matches!(decision.verdict, Verdict::Drop(_)))
    };
    copies.iter().filter(stays).cloned().collect()
}

fn run_of(date: Date) -> Timestamp {
    date.plus_days(1).midnight_utc().plus_seconds(3600)
}

fn copy(date: Date) -> StoredCopy {
    let at = run_of(date);
    StoredCopy {
        point: PointId::new("web".parse().expect("a name"), at),
        date,
        class: Class::Auto,
        created_at: at,
        duration_s: 600,
        stored_at: Some(at.plus_seconds(600)),
        expires: None,
        health: Health::Good,
    }
}
