//! Sorts every error into an exit code, a kind and a hint, and every end into what is told about it.
//!
//! Commands return errors of any type; this file knows which of them is whose fault. Several exits may
//! hold at once: the worst wins (the order is [`Exit::worst`]'s) and the JSON lists all.

use std::fmt;

use dualsync_config::ConfigError;
use dualsync_model::outcome::Exit;
use serde::Serialize;

use crate::destination::NoCopy;
use crate::lock::LockError;
use crate::output::Output;
use crate::point::PointError;
use crate::state::StateError;
use crate::writer::WriterError;

/// How a command ended.
#[derive(Debug)]
pub struct Ending {
    /// All exits that hold; none means done.
    pub exits: Vec<Exit>,
    /// One sentence for every end but a good one.
    pub message: Option<String>,
    /// Lines that explain it: last words of a program.
    pub details: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// Wrong usage or configuration that clap cannot see, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
    hint: Option<String>,
}

impl UsageError {
    /// A mistake and the way out of it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// A signal or the user stopped the command.
#[derive(Debug, thiserror::Error)]
#[error("stopped by {0}")]
pub struct Interrupted(pub &'static str);

impl Ending {
    /// Everything was done.
    pub const fn done() -> Self {
        Self { exits: Vec::new(), message: None, details: Vec::new(), hint: None }
    }

    /// The work was done as far as it could be, and this is what must be known.
    pub fn with(exits: Vec<Exit>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exits, message: Some(message.into()), details: Vec::new(), hint: Some(hint.into()) }
    }

    /// The same end with its subject in front of the sentence.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.message = self.message.map(|message| format!("{subject}: {message}"));
        self
    }

    /// Several ends in one: every exit, every sentence, the hint of the first that has one.
    pub fn all(endings: Vec<Self>) -> Self {
        let mut all = Self::done();
        let mut sentences = Vec::new();
        for ending in endings {
            all.exits.extend(ending.exits);
            sentences.extend(ending.message);
            all.details.extend(ending.details);
            all.hint = all.hint.or(ending.hint);
        }
        all.message = (!sentences.is_empty()).then(|| sentences.join("; "));
        all
    }

    /// The number for the shell.
    pub fn code(&self) -> u8 {
        Exit::worst(self.exits.iter().copied()).code()
    }

    /// Says it, where there is something to say.
    pub fn tell(&self, output: &Output) {
        let Some(message) = &self.message else { return };
        if output.is_json() {
            output.json_error(&ExitError {
                message_type: "exit_error",
                code: self.code(),
                codes: self.codes(),
                message,
                details: &self.details,
                hint: self.hint.as_deref(),
            });
        } else {
            output.error(message, &self.details, self.hint.as_deref());
        }
    }

    /// Every code that holds, worst first.
    fn codes(&self) -> Vec<u8> {
        let mut exits = self.exits.clone();
        exits.sort_unstable();
        exits.dedup();
        exits.into_iter().map(Exit::code).collect()
    }
}

/// The last line of `--json` on standard error.
#[derive(Serialize)]
struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    codes: Vec<u8>,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    details: &'a [String],
    hint: Option<&'a str>,
}

impl From<anyhow::Error> for Ending {
    fn from(error: anyhow::Error) -> Self {
        let (exit, hint) = error.chain().find_map(judge).unwrap_or((Exit::Failed, None));
        let details = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<WriterError>())
            .map(|error| error.tail().to_vec())
            .unwrap_or_default();
        Self { exits: vec![exit], message: Some(sentence(&error)), details, hint }
    }
}

/// The exit and the hint of an error this program knows.
fn judge(cause: &(dyn std::error::Error + 'static)) -> Option<(Exit, Option<String>)> {
    if let Some(error) = cause.downcast_ref::<UsageError>() {
        return Some((Exit::Usage, error.hint.clone()));
    }
    if let Some(Interrupted(_)) = cause.downcast_ref() {
        return Some((Exit::Interrupted, Some("nothing was committed after the signal; run it again".to_owned())));
    }
    if let Some(error) = cause.downcast_ref::<LockError>() {
        return Some(match error {
            LockError::Held { .. } => (Exit::Locked, Some("wait until it is done, or stop it".to_owned())),
            LockError::Io { .. } => (Exit::Failed, Some("`dualsync init` creates the state folders".to_owned())),
        });
    }
    if let Some(error) = cause.downcast_ref::<PointError>() {
        return Some(judge_point(error));
    }
    if let Some(NoCopy(_)) = cause.downcast_ref() {
        return Some((Exit::Damaged, Some("`dualsync list` shows the state of both copies".to_owned())));
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        return Some(judge_config(error));
    }
    if cause.is::<StateError>() {
        return Some((
            Exit::Failed,
            Some("`state` in the configuration must be a folder this user may write".to_owned()),
        ));
    }
    cause.downcast_ref::<WriterError>().map(judge_writer)
}

fn judge_config(error: &ConfigError) -> (Exit, Option<String>) {
    let hint = match error {
        ConfigError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "`dualsync init` writes a commented configuration; --config names another file"
        }
        ConfigError::Unreadable { .. } => "run it as a user who may read the configuration",
        ConfigError::Wrong(_) => "mend the line; nothing was touched",
        ConfigError::Policy(_) => {
            "two targets in two different EU member states, from two provider accounts, over TLS; nothing was touched"
        }
    };
    (Exit::Usage, Some(hint.to_owned()))
}

fn judge_point(error: &PointError) -> (Exit, Option<String>) {
    match error {
        PointError::Malformed { .. } => {
            (Exit::Usage, Some("write SOURCE@TIME like web@20261120T020000Z, or SOURCE@latest".to_owned()))
        }
        PointError::Unknown { .. } => {
            (Exit::Failed, Some("`dualsync list` shows the points that are there".to_owned()))
        }
        PointError::Ambiguous { .. } => (Exit::Usage, Some("type more of it".to_owned())),
    }
}

/// The exit of a writer that failed.
pub fn judge_writer(error: &WriterError) -> (Exit, Option<String>) {
    match error {
        WriterError::Failed { failure, .. } => {
            let hint = failure.hint.clone().or_else(|| default_hint(&failure.code));
            (Exit::from_code(failure.exit_code), hint)
        }
        WriterError::Missing(_) => (Exit::Failed, Some("install both programs beside dualsync".to_owned())),
        WriterError::Hung { .. } | WriterError::TooSlow { .. } => (
            Exit::Failed,
            Some("its log is in the folder logs of `state`; the limits are in the configuration".to_owned()),
        ),
        WriterError::Start { .. }
        | WriterError::Pipe { .. }
        | WriterError::Garbage { .. }
        | WriterError::Died { .. } => (Exit::Failed, Some("its log is in the folder logs of `state`".to_owned())),
    }
}

/// What helps where the writer had no hint of its own.
fn default_hint(code: &str) -> Option<String> {
    let hint = match code {
        "repository_missing" => "`dualsync init` creates it",
        "wrong_key" => "compare the key file with the recovery sheet",
        "store" => "`dualsync check` tries both stores",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// One line with all causes.
fn sentence(error: &anyhow::Error) -> String {
    chain(error.chain())
}

/// The causes of an error behind each other, without what a cause repeats of the sentence before it.
pub fn chain<'a>(causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    let mut text = String::new();
    for cause in causes.map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// An error with its causes on one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    chain(std::iter::successors(Some(error), |error| error.source()))
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("done"))
    }
}

/// What clap has to say: help and version end well, everything else is wrong usage.
pub fn usage(error: &clap::Error) -> Ending {
    if !error.use_stderr() {
        return Ending::done();
    }
    let rendered = error.render().to_string();
    let message = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Ending::with(vec![Exit::Usage], message, "try `dualsync --help`")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dualsync_model::event::Failure;

    use super::*;

    fn end(error: impl Into<anyhow::Error>) -> Ending {
        Ending::from(error.into())
    }

    fn failure(exit_code: u8, code: &str) -> WriterError {
        let failure = Failure { exit_code, code: code.into(), message: "no".into(), hint: None };
        WriterError::Failed { program: "dualsync-block", failure }
    }

    #[test]
    fn every_known_error_has_its_code_and_a_hint() {
        let check = |ending: Ending, code: u8| {
            assert_eq!(ending.code(), code, "{ending}");
            assert!(ending.hint.is_some(), "{ending}");
        };
        check(end(UsageError::new("wrong", "right")), 2);
        check(end(Interrupted("SIGTERM")), 130);
        check(end(LockError::Held { source_name: "web".parse().unwrap(), holder: None }), 11);
        check(end(PointError::Malformed { text: String::new() }), 2);
        check(end(PointError::Ambiguous { text: "w".into(), candidates: vec![] }), 2);
        check(end(PointError::Unknown { text: "w".into() }), 1);
        check(end(failure(10, "repository_missing")), 10);
        check(end(failure(12, "wrong_key")), 12);
        check(end(failure(1, "store")), 1);
        check(end(NoCopy("the block copy is missing".into())), 21);
        check(end(WriterError::Hung { program: "dualsync-block", limit: Duration::from_secs(1), tail: vec![] }), 1);
        let unreadable = std::io::Error::from(std::io::ErrorKind::NotFound);
        check(end(ConfigError::Unreadable { path: "x.toml".into(), source: unreadable }), 2);
        check(end(ConfigError::Wrong(vec![])), 2);
        check(end(ConfigError::Policy(vec![])), 2);
    }

    #[test]
    fn a_writer_that_ends_with_an_unknown_code_has_failed() {
        assert_eq!(end(failure(99, "surprise")).code(), 1);
        assert_eq!(end(anyhow::anyhow!("boom")).code(), 1);
    }

    #[test]
    fn the_cause_decides_however_deep_it_lies() {
        use anyhow::Context;

        let error = Err::<(), _>(failure(12, "wrong_key")).context("the block copy was not made").unwrap_err();
        let ending = Ending::from(error);
        assert_eq!(ending.code(), 12);
        assert_eq!(ending.to_string(), "the block copy was not made: dualsync-block: no");
    }

    #[test]
    fn the_worst_exit_wins_and_all_are_listed() {
        let ending = Ending::with(vec![Exit::Degraded, Exit::Damaged, Exit::Degraded, Exit::Incomplete], "x", "y");
        assert_eq!(ending.code(), 21);
        assert_eq!(ending.codes(), [21, 4, 3]);
        assert_eq!(Ending::done().code(), 0);
    }

    #[test]
    fn last_words_of_a_program_are_kept() {
        let died = WriterError::Died { program: "dualsync-block", how: "exit code 1".into(), tail: vec!["why".into()] };
        assert_eq!(end(died).details, ["why"]);
    }
}
