//! The other side of the watchdog: starts it, asks it, lets it go.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Answer, Order, Step};
use crate::error::{Invalid, ReleaseError};
use crate::ioctl;
use crate::spec::Reexec;

/// How long an answer may take that needs no disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long flush and freeze may take before the source is given up for tonight.
const FREEZE_LIMIT: Duration = Duration::from_mins(5);
/// How long a thaw may take: the watchdog itself tries for half a minute.
const THAW_LIMIT: Duration = Duration::from_mins(1);
/// Longer than any answer.
const LINE_BYTES_MAX: usize = 64;

/// What came of talking to the watchdog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchdogError {
    /// It could not be started.
    #[error("cannot start the watchdog {}", program.display())]
    Start {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An operation of its own failed.
    #[error("the watchdog's step '{step}' failed")]
    Step {
        /// Which.
        step: Step,
        /// The system's error.
        source: io::Error,
    },
    /// The file system was frozen before: its thaw is in other hands, so it is not ours to use.
    #[error("it is frozen already, by someone else")]
    FrozenAlready,
    /// Its pipe is closed and it said nothing about why.
    #[error("the watchdog ended without a word")]
    Gone,
    /// It said nothing in time.
    #[error("the watchdog did not answer within {} s", limit.as_secs())]
    Silent {
        /// The time it had.
        limit: Duration,
    },
    /// The pipe could not be used.
    #[error("cannot talk to the watchdog")]
    Pipe(#[source] io::Error),
    /// It said something that does not belong here.
    #[error("the watchdog said '{0}'")]
    Nonsense(String),
}

/// A file system frozen by a watchdog that is waiting for orders; dropped, the order is to thaw.
pub(crate) struct Leash {
    tree: PathBuf,
    /// Opened before the freeze, to thaw by ourselves should the watchdog be gone.
    folder: File,
    child: Child,
    /// Whether the watchdog may have frozen and has not said that it thawed.
    frozen: bool,
    /// `None` once let go.
    orders: Option<ChildStdin>,
    answers: ChildStdout,
    line: Vec<u8>,
}

impl Leash {
    /// Starts the watchdog and waits until `tree` is frozen.
    pub(crate) fn freeze(watchdog: &Reexec, tree: &Path, limit: Duration) -> Result<Self, WatchdogError> {
        let started = |source| WatchdogError::Start { program: watchdog.program.clone(), source };
        let folder = File::open(tree).map_err(WatchdogError::Pipe)?;
        let mut command = Command::new(&watchdog.program);
        command.args(&watchdog.args).arg(tree).arg(limit.as_millis().to_string());
        // It outlives everything else and needs nothing of the environment, secrets least of all.
        command.env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(started)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(WatchdogError::Gone);
        };
        let mut leash = Self {
            tree: tree.to_owned(),
            folder,
            child,
            frozen: true,
            orders: Some(orders),
            answers,
            line: Vec::new(),
        };
        match leash.answer(FREEZE_LIMIT + limit)? {
            Answer::Frozen => Ok(leash),
            Answer::Failed(Step::Freeze, errno) if errno == Errno::BUSY.raw_os_error() => {
                Err(WatchdogError::FrozenAlready)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Ok when the file system has stood still without a break until now.
    pub(crate) fn still_valid(&mut self) -> Result<(), Invalid> {
        // A watchdog that has ended cannot be written to, but its last words still can be read.
        let asked = self.order(Order::Check);
        let answer = self.answer(ANSWER_LIMIT);
        let tree = self.tree.clone();
        match answer {
            Ok(Answer::Valid) => Ok(()),
            Ok(Answer::Expired) => Err(Invalid::Expired { tree }),
            Ok(Answer::Lost) => Err(Invalid::Thawed { tree }),
            Ok(other) => Err(Invalid::Watchdog { tree, source: unexpected(other) }),
            Err(source) => Err(Invalid::Watchdog { tree, source: asked.err().unwrap_or(source) }),
        }
    }

    /// Thaws; Ok when the file system is known not to be frozen by us any more.
    pub(crate) fn thaw(mut self) -> Result<(), ReleaseError> {
        self.let_go().map_err(|source| ReleaseError::Thaw { tree: self.tree.clone(), source })
    }

    /// Orders the thaw, waits until it is confirmed, and reaps the watchdog.
    fn let_go(&mut self) -> Result<(), WatchdogError> {
        let _ = self.order(Order::Thaw);
        self.orders = None;
        let deadline = Instant::now() + THAW_LIMIT;
        let mut result = Ok(());
        while self.frozen && result.is_ok() {
            // Answers to earlier questions may still be in the pipe: read until one says thawed.
            result = match self.answer(deadline.saturating_duration_since(Instant::now())) {
                Ok(failed @ Answer::Failed(Step::Thaw, _)) => Err(unexpected(failed)),
                Ok(_) => Ok(()),
                Err(WatchdogError::Gone) => self.thaw_ourselves(),
                Err(error) => Err(error),
            };
        }
        // One that hangs in the kernel would hang us too; it has its order and ends by itself.
        if !matches!(result, Err(WatchdogError::Silent { .. })) {
            let _ = self.child.wait();
        }
        result
    }

    /// For a watchdog that was killed. `EINVAL` is good news: it is not frozen.
    fn thaw_ourselves(&mut self) -> Result<(), WatchdogError> {
        match ioctl::thaw(&self.folder) {
            Ok(()) | Err(Errno::INVAL) => self.frozen = false,
            Err(errno) => return Err(WatchdogError::Step { step: Step::Thaw, source: errno.into() }),
        }
        Ok(())
    }

    fn order(&mut self, order: Order) -> Result<(), WatchdogError> {
        let orders = self.orders.as_mut().ok_or(WatchdogError::Gone)?;
        orders.write_all(order.line().as_bytes()).map_err(WatchdogError::Pipe)
    }

    /// The next line within `limit`.
    fn answer(&mut self, limit: Duration) -> Result<Answer, WatchdogError> {
        let deadline = Instant::now() + limit;
        self.line.clear();
        while self.line.last() != Some(&b'\n') && self.line.len() < LINE_BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut asked = [PollFd::from_borrowed_fd(self.answers.as_fd(), PollFlags::IN)];
            match poll(&mut asked, Timespec::try_from(left).ok().as_ref()) {
                Ok(0) => return Err(WatchdogError::Silent { limit }),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(WatchdogError::Pipe(errno.into())),
            }
            // One byte a read keeps later lines in the pipe, where poll sees them.
            let mut byte = [0];
            match self.answers.read(&mut byte).map_err(WatchdogError::Pipe)? {
                0 => return Err(WatchdogError::Gone),
                _ => self.line.push(byte[0]),
            }
        }
        let text = String::from_utf8_lossy(&self.line);
        let answer = Answer::parse(&text).ok_or_else(|| WatchdogError::Nonsense(text.trim_end().to_owned()))?;
        // Each of these is said after the thaw; from then on a freeze is somebody else's and not ours to end.
        let last = matches!(answer, Answer::Thawed | Answer::Expired | Answer::Lost | Answer::Failed(..));
        if last && !matches!(answer, Answer::Failed(Step::Thaw, _)) {
            self.frozen = false;
        }
        Ok(answer)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if self.orders.is_some() {
            let _ = self.let_go();
        }
    }
}

fn unexpected(answer: Answer) -> WatchdogError {
    match answer {
        Answer::Failed(step, errno) => WatchdogError::Step { step, source: io::Error::from_raw_os_error(errno) },
        other => WatchdogError::Nonsense(other.line().trim_end().to_owned()),
    }
}
