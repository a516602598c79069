//! What the contract loses by a deletion: its rows with the copies, and without.

use dualsync_model::event::{CopyState, PointMark};
use dualsync_verify::report::{ContractRow, ContractState};
use dualsync_verify::side::Side;

use super::{Chosen, REASON};
use crate::app::App;
use crate::listing::Row;
use crate::mechanism::Mechanism;
use crate::retention;

/// The rows that are worse off without the copies.
pub fn of(app: &App<'_>, rows: &[Row], chosen: &Chosen) -> anyhow::Result<Vec<ContractRow>> {
    let history = app.history()?;
    let without = without(app, rows, chosen);
    let contract = |rows: &[Row]| -> Vec<_> {
        let sources = app.settings.sources.iter();
        sources.flat_map(|source| retention::contract(rows, source, &app.settings, &history, app.now)).collect()
    };
    let side = |side| match side {
        Side::Block => Mechanism::Block,
        Side::Archive => Mechanism::Archive,
    };
    let gone = |row: &ContractRow| {
        let is_it = |known: &&Row| known.source == row.source && known.business_date == row.date;
        rows.iter().filter(is_it).any(|known| chosen.has(&known.point, side(row.mechanism)))
    };
    Ok(worse(&contract(rows), &contract(&without), gone))
}

fn without(app: &App<'_>, rows: &[Row], chosen: &Chosen) -> Vec<Row> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        for mechanism in Mechanism::BOTH {
            if chosen.has(&row.point, mechanism) {
                let mark = PointMark { since: app.now, reason: REASON.to_owned(), asked: true, deleting: false };
                let copy = row.copies.get_mut(mechanism);
                (copy.state, copy.mark) = (CopyState::Deleting, Some(mark));
            }
        }
    }
    rows
}

/// The rows of `before` that are worse in `after`, as they are there. Without its newest point the contract is
/// judged from an earlier date: then a row that is `gone` is a loss, and rows that only moved are none.
fn worse(before: &[ContractRow], after: &[ContractRow], gone: impl Fn(&ContractRow) -> bool) -> Vec<ContractRow> {
    let rank = |state: &ContractState| match state {
        ContractState::Green | ContractState::BeforeStart => 0,
        ContractState::Amber => 1,
        ContractState::Red => 2,
    };
    let same = |a: &ContractRow, b: &ContractRow| (&a.source, a.date, a.mechanism) == (&b.source, b.date, b.mechanism);
    let lost = |was: &ContractRow| match after.iter().find(|row| same(row, was)) {
        Some(is) => (rank(&is.state) > rank(&was.state)).then(|| is.clone()),
        None => (was.state == ContractState::Green && gone(was)).then(|| ContractRow {
            state: ContractState::Red,
            reason: "the copy is marked for deletion".to_owned(),
            point: None,
            ..was.clone()
        }),
    };
    before.iter().filter_map(lost).collect()
}

/// A row in words.
pub fn words(row: &ContractRow) -> String {
    let side = match row.mechanism {
        Side::Block => "block",
        Side::Archive => "archive",
    };
    format!("{} of {} ({side}, {}): {}", row.date, row.source, row.country, row.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_gets_worse_is_a_loss() {
        use ContractState::{Amber, BeforeStart, Green, Red};

        let row = |date: &str, state| ContractRow {
            source: "web".parse().unwrap(),
            date: date.parse().unwrap(),
            mechanism: Side::Block,
            country: "DE".into(),
            state,
            reason: "no copy".into(),
            needs: "daily".into(),
            point: None,
        };
        let before = [
            row("2026-11-20", Green),
            row("2026-11-19", Green),
            row("2026-11-18", Red),
            row("2026-10-31", Green),
            row("2026-09-30", Amber),
            row("2025-12-31", BeforeStart),
        ];
        let dates = |rows: Vec<ContractRow>| rows.iter().map(|row| row.date.to_string()).collect::<Vec<_>>();
        let mut after = before.to_vec();
        for (at, state) in [(1, Red), (3, Amber), (4, Green)] {
            after[at].state = state;
        }
        assert_eq!(words(&after[1]), "2026-11-19 of web (block, DE): no copy");
        assert_eq!(dates(worse(&before, &after, |_| true)), ["2026-11-19", "2026-10-31"]);
        // The newest point goes: the contract is judged from the day before, and a red date comes into sight.
        let mut after = before[1..].to_vec();
        after.push(row("2026-11-08", Red));
        assert_eq!(dates(worse(&before, &after, |row| row.date == before[0].date)), ["2026-11-20"]);
        assert!(worse(&before, &after, |_| false).is_empty());
    }
}
