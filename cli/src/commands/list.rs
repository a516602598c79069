//! `dualsync list`: the points, with the state of both copies.

use dualsync_model::job::Class;
use dualsync_model::outcome::Exit;

use crate::app::App;
use crate::args::ListArgs;
use crate::exit::{Ending, judge_writer, with_causes};
use crate::human;
use crate::listing::{Answer, CopyRow, Row, word};
use crate::mechanism::Mechanism;

/// Asks both stores, merges, shows.
pub async fn run(app: &App<'_>, args: &ListArgs) -> anyhow::Result<Ending> {
    let source = args.source.as_deref().map(|name| app.source(name)).transpose()?;
    app.create_state()?;
    let answers = app.list(source.map(|source| &source.name)).await;
    let mut rows = app.rows(&answers)?;
    if let Some(source) = source {
        rows.retain(|row| row.source == source.name);
    }
    app.output.json(&rows);
    show(app, &rows);
    Ok(ending(&answers))
}

fn show(app: &App<'_>, rows: &[Row]) {
    if rows.is_empty() {
        return app.output.say("no points yet; `dualsync run` makes the first");
    }
    let heading = ["POINT", "DATE", "CLASS", "BLOCK", "ARCHIVE", "SIZE", "STORED", "ADDED", "TOOK", "VERIFIED", "KEPT"];
    let cells: Vec<_> = rows.iter().map(|row| cells(app, row)).collect();
    app.output.table(heading, &cells);
    for row in rows {
        for (mechanism, copy) in row.copies.iter() {
            for problem in &copy.problems {
                app.output.say(&format!("{} {mechanism}: {problem}", row.point));
            }
        }
    }
}

fn cells(app: &App<'_>, row: &Row) -> [String; 11] {
    let sum = |number: fn(&CopyRow) -> Option<u64>| {
        let known: Vec<_> =
            Mechanism::BOTH.into_iter().filter_map(|mechanism| number(row.copies.get(mechanism))).collect();
        (!known.is_empty()).then(|| known.into_iter().fold(0, u64::saturating_add))
    };
    let bytes = |number| sum(number).map(human::bytes).unwrap_or_default();
    let took = Mechanism::BOTH.into_iter().filter_map(|mechanism| row.copies.get(mechanism).duration_s).max();
    let verified = Mechanism::BOTH.into_iter().filter_map(|mechanism| row.copies.get(mechanism).verified_at).max();
    [
        row.point.to_string(),
        row.business_date.to_string(),
        class_word(row.class).to_owned(),
        word(row.copies.block.state).to_owned(),
        word(row.copies.archive.state).to_owned(),
        if row.size_bytes > 0 { human::bytes(row.size_bytes) } else { String::new() },
        bytes(|copy| copy.stored_bytes),
        bytes(|copy| copy.added_bytes),
        took.map(human::seconds).unwrap_or_default(),
        verified.map(|then| human::ago(then, app.now)).unwrap_or_default(),
        row.reasons.join(", "),
    ]
}

const fn class_word(class: Class) -> &'static str {
    match class {
        Class::Auto => "auto",
        Class::Manual => "manual",
    }
}

/// A list without one of the targets is no list: it says which one did not answer.
pub fn ending(answers: &[Answer]) -> Ending {
    let silent: Vec<_> = answers.iter().filter_map(|answer| Some((answer, answer.error.as_ref()?))).collect();
    let Some((_, first)) = silent.first() else { return Ending::done() };
    let exits: Vec<Exit> = silent.iter().map(|(_, error)| judge_writer(error).0).collect();
    let told: Vec<_> =
        silent.iter().map(|(answer, error)| format!("{}: {}", answer.target, with_causes(*error))).collect();
    Ending {
        exits,
        message: Some(format!("not every target answered: {}", told.join("; "))),
        details: first.tail().to_vec(),
        hint: judge_writer(first).1,
    }
}
