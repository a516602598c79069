//! The plan in words: each point, what becomes of its copies and why.

use dualsync_model::job::Class;
use dualsync_model::outcome::Exit;
use serde::Serialize;

use crate::app::App;
use crate::exit::{Ending, with_causes};
use crate::human;
use crate::leaving::{self, Action, CopyPlan, PointPlan, SourcePlan};
use crate::listing::Answer;
use crate::mechanism::{Mechanism, Pair};

/// One `plan` line of `prune --json`.
#[derive(Serialize)]
struct PlanLine<'a> {
    message_type: &'static str,
    source: &'a str,
    confirm: Pair<bool>,
    points: &'a [PointPlan],
}

/// Shows the plan of each source, and which side is not known.
pub fn plans(app: &App<'_>, plans: &[SourcePlan], answers: &[Answer]) {
    for answer in answers {
        if let Some(error) = &answer.error {
            let other = answer.mechanism.other();
            app.output.warn(&format!(
                "{}: {}; nobody knows what it holds, so the {other} side keeps what {} may lack",
                answer.target,
                with_causes(error),
                answer.target,
            ));
        }
    }
    for plan in plans {
        app.output.json(&PlanLine {
            message_type: "plan",
            source: plan.source.as_str(),
            confirm: Pair::new(|mechanism| plan.large.get(mechanism).is_some()),
            points: &plan.points,
        });
    }
    let rows: Vec<_> = plans.iter().flat_map(|plan| &plan.points).map(|point| cells(app, point)).collect();
    if rows.is_empty() {
        return app.output.say("no points yet; `dualsync run` makes the first");
    }
    app.output.table(["POINT", "DATE", "AGE", "CLASS", "BLOCK", "ARCHIVE"], &rows);
}

fn cells(app: &App<'_>, point: &PointPlan) -> [String; 6] {
    let copy = |mechanism| point.copies.get(mechanism).as_ref().map(|copy| words(app, copy)).unwrap_or_default();
    [
        point.point.to_string(),
        point.business_date.to_string(),
        human::seconds(app.now.seconds_since(point.created_at).max(0).unsigned_abs()),
        if point.class == Class::Manual { "manual".to_owned() } else { "auto".to_owned() },
        copy(Mechanism::Block),
        copy(Mechanism::Archive),
    ]
}

fn words(app: &App<'_>, copy: &CopyPlan) -> String {
    let what = match copy.action {
        Action::Keep => "keep",
        Action::Undo => "keep again",
        Action::Drop => "drop",
    };
    let since = match copy.marked_at {
        Some(since) if copy.asked => format!(" (asked for {})", human::ago(since, app.now)),
        Some(since) => format!(" (marked {})", human::ago(since, app.now)),
        None => String::new(),
    };
    format!("{what}: {}{since}", copy.reasons.join(", "))
}

/// How a prune ends that kept what nobody said yes to.
pub fn withheld(plans: &[SourcePlan]) -> Ending {
    Ending::with(
        vec![Exit::Failed],
        format!("{}: these stay until somebody says yes", leaving::questions(plans).join("; ")),
        "look at `dualsync prune --dry-run`, then `dualsync prune --yes`",
    )
}
