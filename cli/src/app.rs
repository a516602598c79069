//! What every command that works with the targets holds: settings, state, the two programs, how to speak.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dualsync_config::Settings;
use dualsync_config::source::SourceSettings;
use dualsync_config::target::TargetSettings;
use dualsync_model::id::SourceName;
use dualsync_model::job::{ListTask, Task};
use dualsync_model::time::Timestamp;
use futures::future::join_all;

use crate::args::Global;
use crate::exit::UsageError;
use crate::history::History;
use crate::human;
use crate::job;
use crate::listen::{Heard, listen, words};
use crate::listing::{self, Answer, Row};
use crate::lock::RunLock;
use crate::mechanism::{Mechanism, Pair};
use crate::output::Output;
use crate::state::State;
use crate::writer::programs::{self, MissingProgram};
use crate::writer::{Limits, Writer, WriterError};
use crate::{anchors, clock, retention};

/// See the file's header.
#[derive(Debug)]
pub struct App<'a> {
    /// How to speak.
    pub output: &'a Output,
    /// The configuration file.
    pub config: PathBuf,
    /// What it means.
    pub settings: Settings,
    /// The folders under `state`.
    pub state: State,
    /// When the command began.
    pub now: Timestamp,
    /// Whether every question is answered with yes.
    pub yes: bool,
    programs: Pair<Result<PathBuf, MissingProgram>>,
}

/// The environment as text. A value that is none is handed on as far as it can be read, so that the
/// configuration names it when it is one of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl<'a> App<'a> {
    /// Reads the configuration; touches nothing else.
    pub fn open(global: &Global, output: &'a Output) -> anyhow::Result<Self> {
        let settings = Settings::load(&global.config, variables())?;
        Ok(Self {
            output,
            config: global.config.clone(),
            state: State::new(&settings.state),
            settings,
            now: clock::now(),
            yes: global.yes,
            programs: programs::find(),
        })
    }

    /// Creates the state folders that are missing.
    pub fn create_state(&self) -> anyhow::Result<()> {
        Ok(self.state.create(self.settings.targets.keys().map(String::as_str))?)
    }

    /// Where the program of a mechanism is.
    pub fn program(&self, mechanism: Mechanism) -> Result<&Path, WriterError> {
        self.programs.get(mechanism).as_deref().map_err(|missing| missing.clone().into())
    }

    /// How long a writer may take.
    pub fn limits(&self) -> Limits {
        Limits { silence: self.settings.limits.writer_silence, total: self.settings.limits.run_total }
    }

    /// Starts the program of `target` with a task.
    pub async fn start(
        &self,
        target: &TargetSettings,
        bandwidth: Option<u64>,
        task: Task,
    ) -> Result<Writer, WriterError> {
        let mechanism = target.mechanism;
        let log = self.state.log(self.now, &target.target.name, job::verb(&task));
        let job = job::job(target, &self.state, clock::now(), bandwidth, task);
        Writer::start(mechanism, self.program(mechanism)?, &job, self.limits(), &log, self.output.echo()).await
    }

    /// Starts and hears a task to its end.
    pub async fn ask(&self, target: &TargetSettings, task: Task) -> Heard {
        let heard = listen(self.start(target, None, task).await, |_| {}).await;
        for warning in &heard.warnings {
            self.output.warn(&format!("{}: {}", target.target.name, words(warning)));
        }
        heard
    }

    /// The source of that name.
    pub fn source(&self, name: &str) -> Result<&SourceSettings, UsageError> {
        self.settings.source(name).ok_or_else(|| {
            let known: Vec<_> = self.settings.sources.iter().map(|source| source.name.as_str()).collect();
            UsageError::new(
                format!("there is no source '{name}' in {}", self.config.display()),
                format!("the configuration has: {}", known.join(", ")),
            )
        })
    }

    /// What is remembered.
    pub fn history(&self) -> anyhow::Result<History> {
        let history = History::read(&self.state.history())?;
        if history.strange_lines > 0 {
            self.output.detail(&format!("{} lines of the history could not be understood", history.strange_lines));
        }
        Ok(history)
    }

    /// Asks every target that may hold copies of `source` (of all sources) what it has.
    pub async fn list(&self, source: Option<&SourceName>) -> Vec<Answer> {
        let asked = self.settings.targets.values().filter(|target| self.serves(target, source));
        let answers = asked.map(async |target| {
            let heard = self.ask(target, Task::List(ListTask { source: source.cloned() })).await;
            self.take_answer(target, heard)
        });
        join_all(answers).await
    }

    fn serves(&self, target: &TargetSettings, source: Option<&SourceName>) -> bool {
        let uses = |source: &SourceSettings| source.block == target.target.name || source.archive == target.target.name;
        let asked = source.and_then(|name| self.settings.source(name.as_str()));
        // A source that left the configuration may have points anywhere.
        asked.is_none_or(uses)
    }

    fn take_answer(&self, target: &TargetSettings, heard: Heard) -> Answer {
        for finding in &heard.findings {
            let words = human::about(&finding.object, &finding.problem);
            self.output.warn(&format!("{}: {words}", target.target.name));
        }
        if let Some(newest) = heard.points.iter().map(|point| &point.anchor).max_by_key(|anchor| anchor.sequence) {
            // It is learned again from the next listing when it cannot be written now.
            let _ = anchors::advance(&self.state.anchors(), &target.target.name, newest);
        }
        Answer {
            target: target.target.name.clone(),
            mechanism: target.mechanism,
            points: heard.points,
            error: heard.error,
        }
    }

    /// The target where the copies of a source belong; `None` for a source that is not configured.
    fn home(&self, source: &SourceName, mechanism: Mechanism) -> Option<String> {
        let source = self.settings.source(source.as_str())?;
        Some(self.settings.target(source, mechanism).target.name.clone())
    }

    /// Both sides merged, oldest first.
    pub fn rows(&self, answers: &[Answer]) -> anyhow::Result<Vec<Row>> {
        let locks = self.state.locks();
        let history = self.history()?;
        let mut rows = listing::merge(
            answers,
            &history,
            |source, mechanism| self.home(source, mechanism),
            |source| RunLock::is_held(&locks, source),
        );
        retention::explain(&mut rows, &self.settings, &history, self.now);
        Ok(rows)
    }
}
