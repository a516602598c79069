//! `dualsync show`: everything about one point.

use dualsync_model::event::Point;

use crate::app::App;
use crate::args::ShowArgs;
use crate::commands::list;
use crate::exit::Ending;
use crate::human;
use crate::listing::{CopyRow, Row, word};
use crate::mechanism::Mechanism;
use crate::point::{resolve, source_of};

/// Asks both stores and shows the one.
pub async fn run(app: &App<'_>, args: &ShowArgs) -> anyhow::Result<Ending> {
    app.create_state()?;
    let answers = app.list(source_of(&args.point).as_ref()).await;
    let rows = app.rows(&answers)?;
    let known: Vec<_> = rows.iter().map(|row| row.point.clone()).collect();
    let point = resolve(&args.point, &known)?;
    let Some(row) = rows.iter().find(|row| row.point == point) else { return Ok(list::ending(&answers)) };
    app.output.json(row);
    show(app, row);
    Ok(list::ending(&answers))
}

fn show(app: &App<'_>, row: &Row) {
    let line = |label: &str, value: &str| {
        if !value.is_empty() {
            app.output.say(&format!("{label:<16} {value}"));
        }
    };
    line("point", &row.point.to_string());
    line("business date", &row.business_date.to_string());
    line("taken", &format!("{} ({})", row.created_at.whole_second(), human::ago(row.created_at, app.now)));
    if let Some(point) = Mechanism::BOTH.into_iter().find_map(|mechanism| row.copies.get(mechanism).manifest.as_ref()) {
        let still = if point.frozen { "frozen" } else { "not frozen" };
        line("snapshot", &format!("{} ({still}), id {}", point.snapshot_method, point.snapshot_id));
        line("left out", &point.exclude.join(" "));
    }
    line("size", &human::bytes(row.size_bytes));
    line("note", row.note.as_deref().unwrap_or_default());
    line("expires", &row.expires.map(|time| time.to_string()).unwrap_or_default());
    line("kept", &row.reasons.join(", "));
    for (mechanism, copy) in row.copies.iter() {
        app.output.say("");
        line(&format!("{mechanism} copy"), word(copy.state));
        show_copy(app, &line, copy);
    }
}

fn show_copy(app: &App<'_>, line: &impl Fn(&str, &str), copy: &CopyRow) {
    line("  target", copy.target.as_deref().unwrap_or_default());
    line("  verified", &copy.verified_at.map(|time| time.whole_second().to_string()).unwrap_or_default());
    if let Some(mark) = &copy.mark {
        let grace_s = i64::try_from(app.settings.limits.grace.as_secs()).unwrap_or(i64::MAX);
        let goes = mark.since.plus_seconds(grace_s).whole_second();
        line("  marked", &format!("{}: {}; goes after {goes}", mark.since.whole_second(), mark.reason));
    }
    if let Some(point) = &copy.manifest {
        show_manifest(line, point);
    }
    for problem in &copy.problems {
        line("  problem", problem);
    }
}

fn show_manifest(line: &impl Fn(&str, &str), point: &Point) {
    line("  size", &human::bytes(point.size_bytes));
    line("  stored", &format!("{} ({} added)", human::bytes(point.stored_bytes), human::bytes(point.added_bytes)));
    line("  took", &human::seconds(point.duration_s));
    if point.incomplete_entries > 0 {
        let entries = human::count(point.incomplete_entries, "entry");
        line("  incomplete", &format!("{entries} could not be read as they were"));
    }
    line("  manifest", &point.manifest);
    line("  sequence", &format!("{}, SHA-256 {}", point.anchor.sequence, point.anchor.sha256));
}
