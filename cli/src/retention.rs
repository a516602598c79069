//! Asks the rules why each point is kept and which dates the contract lacks.
//!
//! Translation only: what was listed becomes the facts of `dualsync-rules`, its decisions become words.

use dualsync_config::Settings;
use dualsync_config::source::SourceSettings;
use dualsync_model::job::Class;
use dualsync_model::time::Timestamp;
use dualsync_rules::retention::contract::{self, RowState};
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{Plan, Verdict, plan};
use dualsync_rules::schedule::Slot;
use dualsync_verify::report::{ContractRow, ContractState};
use dualsync_verify::side::Side;

use crate::history::{Finished, History};
use crate::listing::Row;
use crate::mechanism::Mechanism;

const DAY_S: i64 = 86_400;

/// Writes into each row why it is kept, or why it may go.
pub fn explain(rows: &mut [Row], settings: &Settings, history: &History, now: Timestamp) {
    for source in &settings.sources {
        let plan = plan_of(rows, source, settings, history, now);
        for row in rows.iter_mut().filter(|row| row.source == source.name) {
            row.reasons = reasons(&plan, row);
        }
    }
}

/// The contract of `source`, block side first, newest date first.
pub fn contract(
    rows: &[Row],
    source: &SourceSettings,
    settings: &Settings,
    history: &History,
    now: Timestamp,
) -> Vec<ContractRow> {
    let plan = plan_of(rows, source, settings, history, now);
    let side = |mechanism: Mechanism| {
        let country = settings.target(source, mechanism).claim.country.to_string();
        let row = move |row: &contract::Row| ContractRow {
            source: source.name.clone(),
            date: row.date,
            mechanism: side_of(mechanism),
            country: country.clone(),
            state: match row.state {
                RowState::Green(_) => ContractState::Green,
                RowState::Amber(..) => ContractState::Amber,
                RowState::Red(_) => ContractState::Red,
                RowState::BeforeStart => ContractState::BeforeStart,
            },
            reason: row.state.to_string(),
            needs: row.needs.to_string(),
            point: match &row.state {
                RowState::Green(point) | RowState::Amber(point, _) => Some(point.clone()),
                RowState::Red(_) | RowState::BeforeStart => None,
            },
        };
        plan.side(mechanism).contract.iter().map(row).collect::<Vec<_>>()
    };
    Mechanism::BOTH.into_iter().flat_map(side).collect()
}

/// The word that verify has for a mechanism.
pub const fn side_of(mechanism: Mechanism) -> Side {
    match mechanism {
        Mechanism::Block => Side::Block,
        Mechanism::Archive => Side::Archive,
    }
}

fn plan_of(rows: &[Row], source: &SourceSettings, settings: &Settings, history: &History, now: Timestamp) -> Plan {
    let copies = |mechanism| {
        rows.iter().filter(|row| row.source == source.name).filter_map(|row| stored(row, mechanism)).collect::<Vec<_>>()
    };
    let (block, archive) = (copies(Mechanism::Block), copies(Mechanism::Archive));
    let slots = slots(source, settings, now);
    let started = history
        .runs()
        .filter(|(started, end)| {
            let made = |end: &Finished| {
                Mechanism::BOTH.into_iter().any(|side| end.copies.get(side).as_ref().is_some_and(|copy| copy.made))
            };
            *started.point.source() == source.name && started.class == Class::Auto && end.is_some_and(made)
        })
        .map(|(started, _)| started.business_date)
        .min();
    let today = settings.business_date(now);
    plan(&Facts { rule: &source.retention, now, today, slots: &slots, started, block: &block, archive: &archive })
}

/// The scheduled runs, as far back as the rule of the source looks and a year more.
fn slots(source: &SourceSettings, settings: &Settings, now: Timestamp) -> Vec<Slot> {
    let parts = source.retention.parts();
    let days = (i64::from(parts.year_ends) + 1) * 366 + i64::from(parts.month_ends) * 31 + i64::from(parts.daily);
    settings.slots(source, now.plus_seconds(-days * DAY_S), now)
}

/// A copy as the rules see it; `None` for one that was never there.
fn stored(row: &Row, mechanism: Mechanism) -> Option<StoredCopy> {
    let copy = row.copies.get(mechanism);
    Some(StoredCopy {
        point: row.point.clone(),
        date: row.business_date,
        class: row.class,
        created_at: row.created_at,
        duration_s: copy.duration_s.unwrap_or_default(),
        // The writers do not tell when their store received a manifest.
        stored_at: None,
        expires: row.expires,
        health: Health::of_state(copy.state)?,
    })
}

/// What both sides say, each once; where they differ, with the side's name.
fn reasons(plan: &Plan, row: &Row) -> Vec<String> {
    let [block, archive] = Mechanism::BOTH.map(|mechanism| {
        let decision = plan.side(mechanism).decisions.iter().find(|decision| decision.point == row.point);
        decision.map(|decision| words(&decision.verdict)).unwrap_or_default()
    });
    let both = block.iter().filter(|word| archive.contains(word)).cloned();
    let only = |words: &[String], others: &[String], mechanism: Mechanism| {
        words
            .iter()
            .filter(|word| !others.contains(word))
            .map(|word| format!("{word} ({mechanism})"))
            .collect::<Vec<_>>()
    };
    both.chain(only(&block, &archive, Mechanism::Block)).chain(only(&archive, &block, Mechanism::Archive)).collect()
}

fn words(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Keep(reasons) => reasons.iter().map(ToString::to_string).collect(),
        Verdict::Drop(reason) => vec![format!("may go: {reason}")],
    }
}
