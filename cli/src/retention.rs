//! Asks the rules why each point is kept and which dates the contract lacks.
//!
//! Translation only: what was listed becomes the facts of `dualsync-rules`, its decisions become words.

use dualsync_config::Settings;
use dualsync_config::source::SourceSettings;
use dualsync_model::time::Timestamp;
use dualsync_rules::retention::contract::{self, RowState};
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{Plan, Verdict, plan};
use dualsync_rules::schedule::Slot;
use dualsync_verify::report::{ContractRow, ContractState};
use dualsync_verify::side::Side;

use crate::app::App;
use crate::history::{self, Began, History, Record};
use crate::listing::{CopyRow, Row};
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

/// The decisions about every copy of `source`.
pub fn plan_of(rows: &[Row], source: &SourceSettings, settings: &Settings, history: &History, now: Timestamp) -> Plan {
    let copies = |mechanism| {
        rows.iter().filter(|row| row.source == source.name).filter_map(|row| stored(row, mechanism)).collect::<Vec<_>>()
    };
    let (block, archive) = (copies(Mechanism::Block), copies(Mechanism::Archive));
    let slots = slots(source, settings, now);
    let started = history.first_date(&source.name);
    let today = settings.business_date(now);
    plan(&Facts { rule: &source.retention, now, today, slots: &slots, started, block: &block, archive: &archive })
}

/// The first date of a source is noted before its oldest point may leave.
pub fn remember_beginnings(app: &App<'_>, rows: &[Row], history: &History) -> anyhow::Result<()> {
    for source in &app.settings.sources {
        let Some(date) = crate::leaving::first_date(rows, &source.name, app.now) else { continue };
        if history.first_date(&source.name).is_none_or(|known| date < known) {
            let began = Began { source: source.name.clone(), date };
            history::append(&app.state.history(), &Record::Began(began))?;
        }
    }
    Ok(())
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
        stored_at: copy.manifest.as_ref().and_then(|point| point.stored_at),
        expires: row.expires,
        health: health(copy)?,
    })
}

/// A person's mark is obeyed, and so is a deletion that has begun. A mark of the rule is only the rule's own
/// announcement: the copy is judged anew by what it is worth, so that the mark can be taken back.
fn health(copy: &CopyRow) -> Option<Health> {
    match &copy.mark {
        Some(mark) if mark.asked || mark.deleting => Some(Health::Deleting),
        Some(_) if copy.damaged => Some(Health::Damaged),
        Some(_) => Some(Health::Good),
        // Somebody restores it, which says nothing of what it is worth.
        None if copy.is_damaged() => Some(Health::Damaged),
        None => Health::of_state(copy.state),
    }
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

#[cfg(test)]
mod tests {
    use dualsync_model::event::{CopyState, PointMark};

    use super::*;

    #[test]
    fn the_rules_own_mark_hides_nothing_and_a_persons_is_obeyed() {
        let check = |asked, deleting, damaged, expected| {
            let reason = "left the contract".to_owned();
            let mark = PointMark { since: Timestamp::from_seconds(0), reason, asked, deleting };
            let copy = CopyRow { mark: Some(mark), damaged, ..CopyRow::bare(CopyState::Deleting) };
            assert_eq!(health(&copy), Some(expected));
        };
        check(false, false, false, Health::Good);
        check(false, false, true, Health::Damaged);
        check(false, true, false, Health::Deleting);
        check(true, false, false, Health::Deleting);
        let restoring = |damaged| CopyRow { damaged, ..CopyRow::bare(CopyState::Restoring) };
        assert_eq!(health(&restoring(false)), Some(Health::Good));
        assert_eq!(health(&restoring(true)), Some(Health::Damaged), "who restores it makes it no better");
        assert_eq!(health(&CopyRow::bare(CopyState::Error)), None);
        assert_eq!(health(&CopyRow::bare(CopyState::Missing)), Some(Health::Missing));
    }
}
