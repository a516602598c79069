//! `dualsync check`: tries everything that a run needs, and says what the two paths share.

mod local;

use std::fmt::Write as _;

use dualsync_config::target::TargetSettings;
use dualsync_model::event::{Capability, CapabilityState};
use dualsync_model::job::{ProbeTask, Task};
use dualsync_model::outcome::Exit;
use dualsync_rules::residency::Severity;
use serde::Serialize;

use crate::app::App;
use crate::exit::{Ending, judge_writer, with_causes};
use crate::output::Light;
use crate::repository;
use crate::writer::WriterError;

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    message_type: &'static str,
    /// What it is about: `config`, `target paris`, `source web`, `host`, `shared`.
    pub subject: String,
    /// What was looked at.
    pub name: String,
    /// Good, to be looked at, bad.
    pub state: Light,
    /// What was found.
    pub detail: String,
}

impl Row {
    /// A line.
    pub fn new(subject: impl Into<String>, name: impl Into<String>, state: Light, detail: impl Into<String>) -> Self {
        Self { message_type: "check", subject: subject.into(), name: name.into(), state, detail: detail.into() }
    }
}

/// Everything, in the order in which a run would need it. A broken policy ends it: nothing is touched then.
pub async fn run(app: &App<'_>) -> anyhow::Result<Ending> {
    let mut table = Table { app, rows: Vec::new(), exits: Vec::new() };
    table.policy();
    if let Err(error) = app.settings.check_policy() {
        return Err(error.into());
    }
    table.local();
    for (name, target) in &app.settings.targets {
        table.target(name, target).await;
    }
    for row in shared(app) {
        table.add(row);
    }
    Ok(table.ending())
}

/// What both copies of each source still have in common.
pub fn shared(app: &App<'_>) -> Vec<Row> {
    local::shared(app)
}

struct Table<'a> {
    app: &'a App<'a>,
    rows: Vec<Row>,
    exits: Vec<Exit>,
}

impl Table<'_> {
    /// Shows the line at once: a store that hangs should not hide what is known.
    fn add(&mut self, row: Row) {
        self.app.output.json(&row);
        self.app.output.lit(row.state, &format!("{:<18} {:<18} {}", row.subject, row.name, row.detail));
        if row.state == Light::Fail && self.exits.is_empty() {
            self.exits.push(Exit::Failed);
        }
        self.rows.push(row);
    }

    fn policy(&mut self) {
        let settings = &self.app.settings;
        let (sources, targets) = (settings.sources.len() as u64, settings.targets.len() as u64);
        let detail = format!(
            "{}: {}, {}",
            self.app.config.display(),
            crate::human::count(sources, "source"),
            crate::human::count(targets, "target")
        );
        self.add(Row::new("config", "syntax", Light::Ok, detail));
        let mut seen = Vec::new();
        for finding in settings.sources.iter().flat_map(|source| settings.policy_findings(source)) {
            if seen.contains(&finding) {
                continue;
            }
            let light = match finding.severity {
                Severity::Good => Light::Ok,
                Severity::Declared => Light::Warn,
                Severity::Refused => Light::Fail,
            };
            self.add(Row::new(format!("target {}", finding.target), "policy", light, finding.message.clone()));
            seen.push(finding);
        }
    }

    fn local(&mut self) {
        for row in local::host(self.app) {
            self.add(row);
        }
        for source in &self.app.settings.sources {
            for row in local::source(self.app, source) {
                self.add(row);
            }
        }
        for (name, target) in &self.app.settings.targets {
            for row in local::keys(name, target) {
                self.add(row);
            }
        }
    }

    async fn target(&mut self, name: &str, target: &TargetSettings) {
        let subject = format!("target {name}");
        let heard = self.app.ask(target, Task::Probe(ProbeTask {})).await;
        for capability in &heard.capabilities {
            self.add(judge(&subject, capability));
        }
        let enforces =
            |capability: &Capability| capability.name == "object_lock" && capability.state == CapabilityState::Enforced;
        if target.target.immutability.is_some() && heard.error.is_none() && !heard.capabilities.iter().any(enforces) {
            let why = "`immutability` is asked for, and the store was not seen to enforce an object lock: a run stores nothing there";
            self.add(Row::new(subject.clone(), "immutability", Light::Fail, why.to_owned()));
        }
        if let Some(error) = &heard.error {
            self.failed(subject, "store", error);
            return;
        }
        // The store answers: whether the repository is there and the keys fit it.
        match repository::ask(self.app, target).await {
            Ok(found) => {
                let newest =
                    found.newest.map_or("no copy yet".to_owned(), |newest| format!("newest copy {}", newest.sequence));
                let detail = format!("{} opens with the keys of this host, {newest}", found.id);
                self.add(Row::new(subject, "repository", Light::Ok, detail));
            }
            Err(error) => self.failed(subject, "repository", &error),
        }
    }

    fn failed(&mut self, subject: String, name: &str, error: &WriterError) {
        let (exit, hint) = judge_writer(error);
        let mut detail = with_causes(error);
        if let Some(hint) = hint {
            // Writing to a String cannot fail.
            let _ = write!(detail, " ({hint})");
        }
        self.exits.push(exit);
        self.add(Row::new(subject, name, Light::Fail, detail));
    }

    fn ending(self) -> Ending {
        let count = |light| self.rows.iter().filter(|row| row.state == light).count();
        let (warn, fail) = (count(Light::Warn), count(Light::Fail));
        self.app.output.json(&serde_json::json!({
            "message_type": "summary", "ok": count(Light::Ok), "warn": warn, "fail": fail,
        }));
        if fail == 0 {
            let all = if warn == 0 { "all good".to_owned() } else { format!("good, {warn} to look at") };
            self.app.output.say(&all);
            return Ending::done();
        }
        let first = self.rows.iter().find(|row| row.state == Light::Fail);
        let words = first.map(|row| format!("{} {}: {}", row.subject, row.name, row.detail)).unwrap_or_default();
        let more = if fail > 1 { format!(" (and {} more)", fail - 1) } else { String::new() };
        Ending::with(self.exits, format!("{words}{more}"), "mend what is marked FAIL and check again")
    }
}

/// What a store can do, as light: what answers "yes" and does nothing is worse than what says no.
fn judge(subject: &str, capability: &Capability) -> Row {
    let light = match capability.state {
        CapabilityState::Enforced | CapabilityState::Absent | CapabilityState::NotTried => Light::Ok,
        CapabilityState::Ignored => Light::Warn,
        CapabilityState::Failed => Light::Fail,
    };
    let word = match capability.state {
        CapabilityState::Enforced => "works",
        CapabilityState::Ignored => "is accepted and ignored, so it is not relied on",
        CapabilityState::Absent => "is not there, and not needed",
        CapabilityState::NotTried => "was not tried, and is not needed",
        CapabilityState::Failed => "does not work",
    };
    Row::new(subject, capability.name.clone(), light, format!("{word}: {}", capability.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_ignored_is_a_warning_and_a_missing_one_is_not() {
        let check = |state, expected| {
            let capability = Capability { name: "object_lock".into(), state, detail: "tried".into() };
            let row = judge("target paris", &capability);
            assert_eq!(row.state, expected);
            assert!(row.detail.ends_with(": tried"), "{}", row.detail);
        };
        check(CapabilityState::Enforced, Light::Ok);
        check(CapabilityState::Absent, Light::Ok);
        check(CapabilityState::NotTried, Light::Ok);
        check(CapabilityState::Ignored, Light::Warn);
        check(CapabilityState::Failed, Light::Fail);
    }
}
