//! What each target did about copies that leave, for people, for programs and for the exit code.

use dualsync_config::target::TargetSettings;
use dualsync_model::event::{Pruned, Retired, RetiredAction};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;
use dualsync_verify::report::ContractRow;
use serde::Serialize;

use crate::app::App;
use crate::exit::{Ending, judge_writer, with_causes};
use crate::human;
use crate::listen::Heard;
use crate::lock::LockError;

/// The last line of `prune --json`, `delete --json` and `undelete --json`.
#[derive(Serialize)]
pub struct Retirement {
    message_type: &'static str,
    dry_run: bool,
    exit_code: u8,
    targets: Vec<Outcome>,
    /// Dates of the contract that are worse off; `delete` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    loses: Option<Vec<ContractRow>>,
}

/// What became of one target.
#[derive(Serialize)]
pub struct Outcome {
    target: String,
    mechanism: &'static str,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    copies: Vec<Retired>,
    #[serde(flatten)]
    pruned: Option<Pruned>,
    #[serde(skip)]
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It did what it was told.
    Done,
    /// It did not, or not all of it.
    Failed,
    /// It was left alone, since a run is on.
    Skipped,
}

impl Outcome {
    fn new(target: &TargetSettings, state: State, ending: Ending) -> Self {
        Self {
            target: target.target.name.clone(),
            mechanism: target.mechanism.as_str(),
            state,
            problem: ending.message.clone(),
            copies: Vec::new(),
            pruned: None,
            ending,
        }
    }

    /// It did not answer the listing, or did not tell everything; that is told already.
    pub fn silent(target: &TargetSettings) -> Self {
        let mut outcome = Self::new(target, State::Failed, Ending::done());
        outcome.problem = Some("it did not tell all that it holds, so nothing was marked or deleted there".to_owned());
        outcome
    }

    /// A run is on.
    pub fn locked(target: &TargetSettings, error: &LockError) -> Self {
        let exit = match error {
            LockError::Held { .. } => Exit::Locked,
            LockError::Io { .. } => Exit::Failed,
        };
        let message = format!("{}: not pruned: {}", target.target.name, with_causes(error));
        let hint = "a folder is pruned while no run of this host is on; run `dualsync prune` again after it";
        Self::new(target, State::Skipped, Ending::with(vec![exit], message, hint))
    }

    /// It was told, and said this.
    pub fn told(target: &TargetSettings, heard: Heard) -> Self {
        let ending = heard.error.as_ref().map_or_else(Ending::done, |error| {
            let (exit, hint) = judge_writer(error);
            let message = Some(format!("{}: {}", target.target.name, with_causes(error)));
            Ending { exits: vec![exit], message, details: error.tail().to_vec(), hint }
        });
        let state = if heard.error.is_none() { State::Done } else { State::Failed };
        Self { copies: heard.retired, pruned: heard.pruned, ..Self::new(target, state, ending) }
    }

    /// The same for what a person asked for: what was refused is a failure then. A rule only tries again.
    #[must_use]
    pub fn strict(mut self) -> Self {
        let refused = self.copies.iter().filter(|copy| copy.action == RetiredAction::Refused);
        let refused: Vec<_> = refused.map(|copy| format!("{}: {}", copy.point, copy.reason)).collect();
        if !refused.is_empty() && self.ending.exits.is_empty() {
            let message = format!("{}: refused: {}", self.target, refused.join("; "));
            self.ending = Ending::with(vec![Exit::Failed], message, "`dualsync list` shows what is there");
        }
        self
    }
}

impl Retirement {
    /// Of everything that was heard.
    pub fn new(dry_run: bool, targets: Vec<Outcome>) -> Self {
        let exits = targets.iter().flat_map(|outcome| outcome.ending.exits.iter().copied());
        Self { message_type: "summary", dry_run, exit_code: Exit::worst(exits).code(), targets, loses: None }
    }

    /// The same with the dates that the contract loses.
    #[must_use]
    pub fn losing(self, loses: Vec<ContractRow>) -> Self {
        Self { loses: Some(loses), ..self }
    }

    /// Says it, with what each target holds and got rid of.
    pub fn show(&self, app: &App<'_>) {
        app.output.json(self);
        for outcome in &self.targets {
            app.output.say(&format!("{}: {}", outcome.target, self.headline(outcome)));
            for copy in &outcome.copies {
                app.output.say(&format!("  {}", line(copy, grace_s(app), self.dry_run)));
            }
        }
    }

    /// Says what became of each copy, and nothing of the whole.
    pub fn show_copies(&self, app: &App<'_>) {
        app.output.json(self);
        for outcome in &self.targets {
            for copy in &outcome.copies {
                app.output.say(&format!("{}: {}", outcome.target, line(copy, grace_s(app), self.dry_run)));
            }
        }
    }

    fn headline(&self, outcome: &Outcome) -> String {
        let Some(pruned) = &outcome.pruned else {
            return outcome.problem.clone().unwrap_or_default();
        };
        let would = if self.dry_run { "would delete" } else { "deleted" };
        let freed = pruned.deleted_bytes;
        let left = pruned.stored_bytes.saturating_sub(if self.dry_run { 0 } else { freed });
        let mut text = format!(
            "{would} {} ({}); {} stored, {} of it in use",
            human::count(pruned.deleted_objects, "object"),
            human::bytes(freed),
            human::bytes(left),
            human::bytes(pruned.live_bytes),
        );
        let waiting = pruned.marked_objects + pruned.waiting_objects;
        if waiting > 0 {
            let bytes = human::bytes(pruned.waiting_bytes);
            text = format!("{text}; {} wait for their grace to end ({bytes})", human::count(waiting, "object"));
        }
        text
    }

    /// How it ended: each side for itself, the worst exit counts.
    pub fn ending(self) -> Ending {
        Ending::all(self.targets.into_iter().map(|outcome| outcome.ending).collect())
    }
}

fn grace_s(app: &App<'_>) -> i64 {
    i64::try_from(app.settings.limits.grace.as_secs()).unwrap_or(i64::MAX)
}

/// What became of one copy, in words; `dry` for what would.
fn line(copy: &Retired, grace_s: i64, dry: bool) -> String {
    let goes = |since: Option<Timestamp>| {
        since.map(|since| format!(", goes after {}", since.plus_seconds(grace_s).whole_second())).unwrap_or_default()
    };
    let (would, verb) = match (copy.action, dry) {
        (RetiredAction::Marked, true) => ("would be marked", String::new()),
        (RetiredAction::Marked, false) => ("marked", goes(copy.since)),
        (RetiredAction::Waiting, _) => ("waits", goes(copy.since)),
        (RetiredAction::Undone, true) => ("would be kept again", String::new()),
        (RetiredAction::Undone, false) => ("kept again", String::new()),
        (RetiredAction::Deleted, true) => ("would be deleted", String::new()),
        (RetiredAction::Deleted, false) => ("deleted", String::new()),
        (RetiredAction::Kept, _) => ("kept for now", String::new()),
        (RetiredAction::Refused, _) => ("refused", String::new()),
    };
    format!("{} {would}: {}{verb}", copy.point, copy.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_says_what_became_of_it_and_when_it_goes() {
        let check = |action, dry, expected: &str| {
            let copy = Retired {
                point: "web@20261120T020000Z".parse().unwrap(),
                manifest: "points/web/x".into(),
                action,
                reason: "left the contract".into(),
                since: Some("2026-11-20T02:00:00.5Z".parse().unwrap()),
            };
            assert_eq!(line(&copy, 86_400, dry), format!("web@20261120T020000Z {expected}"));
        };
        check(RetiredAction::Marked, false, "marked: left the contract, goes after 2026-11-21T02:00:00Z");
        check(RetiredAction::Marked, true, "would be marked: left the contract");
        check(RetiredAction::Waiting, true, "waits: left the contract, goes after 2026-11-21T02:00:00Z");
        check(RetiredAction::Deleted, false, "deleted: left the contract");
        check(RetiredAction::Undone, false, "kept again: left the contract");
        check(RetiredAction::Kept, false, "kept for now: left the contract");
    }
}
