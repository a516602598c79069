//! One writer at work: started, told its job, listened to, and stopped when it does not behave.
//!
//! Promises that whatever the program does (dies, hangs, prints garbage or without end) comes back as
//! a [`WriterError`] within the limits, with the last words it said, and that nothing of its process
//! group runs on after [`Writer`] is gone. It knows lines, not what they mean for a copy.

pub mod lines;

pub mod programs;

mod spawn;

mod stderr;

#[cfg(test)]
mod faults;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use dualsync_model::PROTOCOL;
use dualsync_model::event::{Event, Failure};
use dualsync_model::job::{Command, Job};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use self::lines::{Line, Lines};
use self::stderr::Tail;
use crate::job;
use crate::mechanism::Mechanism;
use crate::output::Echo;

/// After its last line, or after SIGTERM, a program has this long to go.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long a writer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without a line.
    pub silence: Duration,
    /// In all.
    pub total: Duration,
}

/// How a writer failed. Each names the program; those that can, its last words.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// It is not installed.
    #[error(transparent)]
    Missing(#[from] programs::MissingProgram),
    /// The kernel would not start it.
    #[error("{} could not be started", program.display())]
    Start {
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its pipe broke in our hands.
    #[error("the pipe from {program} could not be read")]
    Pipe {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It printed something that is not the protocol, and was killed.
    #[error("{program} printed {problem} and was killed{}", quoted(excerpt))]
    Garbage {
        /// Which.
        program: &'static str,
        /// What is wrong with it.
        problem: String,
        /// The beginning of it.
        excerpt: String,
    },
    /// It printed nothing for too long, and was killed.
    #[error("{program} printed nothing for {} s and was killed", limit.as_secs_f64())]
    Hung {
        /// Which.
        program: &'static str,
        /// The limit.
        limit: Duration,
        /// Its last words.
        tail: Vec<String>,
    },
    /// It worked for too long, and was killed.
    #[error("{program} was not done after {} s and was killed", limit.as_secs_f64())]
    TooSlow {
        /// Which.
        program: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// It ended without its last line, or not as that line said.
    #[error("{program} ended without saying how it went: {how}")]
    Died {
        /// Which.
        program: &'static str,
        /// Exit code or signal.
        how: String,
        /// Its last words.
        tail: Vec<String>,
    },
    /// It said itself what went wrong.
    #[error("{program}: {}", failure.message)]
    Failed {
        /// Which.
        program: &'static str,
        /// Its words.
        failure: Failure,
    },
}

impl WriterError {
    /// A program that ended well and left out what it was asked for.
    pub fn silent(mechanism: Mechanism, left_out: &str) -> Self {
        let how = format!("it left out {left_out}");
        Self::Died { program: programs::name(mechanism), how, tail: Vec::new() }
    }

    /// The last lines of its standard error, where they may explain.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Hung { tail, .. } | Self::Died { tail, .. } => tail,
            _ => &[],
        }
    }
}

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    program: &'static str,
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    lines: Lines<ChildStdout>,
    tail: Tail,
    log: JoinHandle<()>,
    limits: Limits,
    deadline: Instant,
}

impl Writer {
    /// Starts `program`, hands it `job` and hears its `hello`. Its standard error goes to `log`, and to `echo`.
    pub async fn start(
        mechanism: Mechanism,
        program: &Path,
        job: &Job,
        limits: Limits,
        log: &Path,
        echo: Option<Echo>,
    ) -> Result<Self, WriterError> {
        let failed = |source| WriterError::Start { program: program.to_owned(), source };
        let mut child = spawn::spawn(program, job::verb(&job.task)).map_err(failed)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(io::Error::other("a pipe is not there")));
        };
        let name = programs::name(mechanism);
        let (tail, log) = stderr::capture(stderr, log, move |line| {
            if let Some(echo) = &echo {
                echo.line(name, line);
            }
        });
        let mut writer = Self {
            program: name,
            group: child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw),
            child,
            stdin: Some(stdin),
            lines: Lines::new(stdout),
            tail,
            log,
            limits,
            deadline: Instant::now() + limits.total,
        };
        let line = serde_json::to_string(job).map_err(|error| failed(error.into()))?;
        writer.say(&line).await;
        writer.hear_hello().await?;
        Ok(writer)
    }

    /// The next event but `hello`. The last is `summary`, after which nothing may be asked; `error`
    /// comes back as [`WriterError::Failed`].
    pub async fn next(&mut self) -> Result<Event, WriterError> {
        match self.read().await? {
            Some(Event::Hello(_)) => Err(self.garbage("a second hello", b"")),
            Some(Event::Error(failure)) => {
                self.end(failure.exit_code).await?;
                Err(WriterError::Failed { program: self.program, failure })
            }
            Some(Event::Summary(summary)) => {
                self.end(summary.exit_code).await?;
                Ok(Event::Summary(summary))
            }
            Some(event) => Ok(event),
            None => Err(self.died().await),
        }
    }

    /// Answers `prepared`. A program that is gone does not hear it; [`Self::next`] tells.
    pub async fn answer(&mut self, command: Command) {
        let line = match command {
            Command::Commit => r#"{"command":"commit"}"#,
            Command::Abort => r#"{"command":"abort"}"#,
        };
        self.say(line).await;
    }

    /// Takes an event that has no place here for garbage.
    pub fn reject(&mut self, problem: &str) -> WriterError {
        self.garbage(problem, b"")
    }

    async fn hear_hello(&mut self) -> Result<(), WriterError> {
        match self.read().await? {
            Some(Event::Hello(hello)) if hello.protocol == PROTOCOL && hello.program == self.program => Ok(()),
            Some(Event::Hello(hello)) => {
                let problem = format!("the hello of {} with protocol {}", hello.program, hello.protocol);
                Err(self.garbage(&problem, b""))
            }
            Some(_) => Err(self.garbage("something else before its hello", b"")),
            None => Err(self.died().await),
        }
    }

    async fn say(&mut self, line: &str) {
        let Some(stdin) = &mut self.stdin else { return };
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        // A broken pipe or a program that does not read is seen, with its reason, by the next read.
        let said = timeout(self.limits.silence, stdin.write_all(&bytes)).await;
        if !matches!(said, Ok(Ok(()))) {
            self.stdin = None;
        }
    }

    /// One line within both limits; `None` at the end.
    async fn read(&mut self) -> Result<Option<Event>, WriterError> {
        let program = self.program;
        let until = self.deadline.min(Instant::now() + self.limits.silence);
        let problem = match timeout_at(until, self.lines.next()).await {
            Err(_) => return Err(self.late()),
            Ok(Err(source)) => return Err(WriterError::Pipe { program, source }),
            Ok(Ok(Line::End)) => return Ok(None),
            Ok(Ok(Line::Text(line))) => match serde_json::from_slice(line) {
                Ok(event) => return Ok(Some(event)),
                Err(error) => (format!("a line that is not an event ({error})"), excerpt(line)),
            },
            Ok(Ok(Line::TooLong(line))) => {
                (format!("a line longer than {} bytes", lines::LINE_BYTES_MAX), excerpt(line))
            }
            Ok(Ok(Line::Cut(line))) => ("half a line".to_owned(), excerpt(line)),
        };
        self.kill();
        let (problem, excerpt) = problem;
        Err(WriterError::Garbage { program, problem, excerpt })
    }

    /// Its last line is read: nothing more may come, and it must end as it said.
    async fn end(&mut self, code: u8) -> Result<(), WriterError> {
        self.stdin = None;
        match timeout(GOODBYE, self.lines.next()).await {
            Ok(Ok(Line::End)) => {}
            // What it said stands; that it does not go is no reason to lose a copy.
            Err(_) => {
                self.kill();
                return Ok(());
            }
            Ok(Ok(_)) => return Err(self.garbage("something after its last line", b"")),
            Ok(Err(source)) => return Err(WriterError::Pipe { program: self.program, source }),
        }
        match timeout(GOODBYE, self.child.wait()).await {
            Ok(Ok(status)) if status.code() != Some(i32::from(code)) => {
                self.kill();
                Err(WriterError::Died { program: self.program, how: how(status), tail: self.last_words().await })
            }
            _ => {
                self.kill();
                Ok(())
            }
        }
    }

    async fn died(&mut self) -> WriterError {
        self.stdin = None;
        let how = match timeout(GOODBYE, self.child.wait()).await {
            Ok(Ok(status)) => how(status),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output and ran on".to_owned(),
        };
        self.kill();
        WriterError::Died { program: self.program, how, tail: self.last_words().await }
    }

    /// The tail once everything was read: the pipe may hold lines for a moment after the end.
    async fn last_words(&mut self) -> Vec<String> {
        let _ = timeout(GOODBYE, &mut self.log).await;
        self.tail.lines()
    }

    fn late(&mut self) -> WriterError {
        self.kill();
        if Instant::now() >= self.deadline {
            return WriterError::TooSlow { program: self.program, limit: self.limits.total };
        }
        WriterError::Hung { program: self.program, limit: self.limits.silence, tail: self.tail.lines() }
    }

    fn garbage(&mut self, problem: &str, line: &[u8]) -> WriterError {
        self.kill();
        WriterError::Garbage { program: self.program, problem: problem.to_owned(), excerpt: excerpt(line) }
    }

    /// Ends whatever of the group still runs, helpers that outlive the program among them. Done once,
    /// right when the program is seen to be over: later the group's number may belong to others.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Writer {
    /// Stops what still runs: politely, then for good. An interrupted backup leaves no manifest,
    /// since without `commit` there is none.
    fn drop(&mut self) {
        let Some(group) = self.group else { return };
        self.stdin = None;
        let _ = kill_process_group(group, Signal::TERM);
        let patience = std::time::Instant::now() + GOODBYE;
        while std::time::Instant::now() < patience && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// An excerpt behind a colon, where there is one.
fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() { String::new() } else { format!(": {excerpt}") }
}

/// The beginning of foreign bytes, fit for a terminal.
fn excerpt(line: &[u8]) -> String {
    let end = line.len().min(120);
    String::from_utf8_lossy(&line[..end]).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
