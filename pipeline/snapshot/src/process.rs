//! Runs one of the user's commands to its end or to its limit, with what it printed.
//!
//! The command is its own process group; at the limit the whole group gets SIGTERM and, five
//! seconds later, SIGKILL. A helper that a successful command leaves running in the background
//! is left alone, even when it holds the pipes open.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Most that a command may print on standard output.
const STDOUT_BYTES_MAX: usize = 64 * 1024;
/// How much of the end of its standard error is kept for the message.
const STDERR_BYTES_KEPT: usize = 4 * 1024;
/// From SIGTERM to SIGKILL.
const TERMINATE_GRACE: Duration = Duration::from_secs(5);

/// A command that did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The first word.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its pipes or its end could not be read.
    #[error("lost track of {program}")]
    Lost {
        /// The first word.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ran past its limit and was killed with its process group.
    #[error("{program} did not end within {} s and was killed{}", limit.as_secs_f32(), said(stderr))]
    TimedOut {
        /// The first word.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of its standard error.
        stderr: String,
    },
    /// It ended with another status than 0.
    #[error("{program} failed ({status}){}", said(stderr))]
    Failed {
        /// The first word.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// It printed more than [`STDOUT_BYTES_MAX`].
    #[error("{program} printed more than {STDOUT_BYTES_MAX} bytes")]
    TooMuch {
        /// The first word.
        program: String,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Runs `words` with `env` added to the environment and gives back its standard output.
///
/// The output comes along with an error too: a command that printed and then failed has told
/// what it made.
pub(crate) fn run(words: &[String], env: &[(OsString, OsString)], limit: Duration) -> (Vec<u8>, Result<(), RunError>) {
    let Some((program, arguments)) = words.split_first() else {
        let source = io::ErrorKind::InvalidInput.into();
        return (Vec::new(), Err(RunError::Start { program: String::new(), source }));
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(env.iter().map(|(name, value)| (name, value))).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(source) => return (Vec::new(), Err(RunError::Start { program: program.clone(), source })),
    };
    let mut output = Output::default();
    let end = Running { child }.finish(&mut output, limit);
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let program = program.clone();
    let result = match end {
        Err(source) => Err(RunError::Lost { program, source }),
        Ok(None) => Err(RunError::TimedOut { program, limit, stderr }),
        Ok(Some(status)) if !status.success() => Err(RunError::Failed { program, status, stderr }),
        Ok(Some(_)) if output.stdout.len() > STDOUT_BYTES_MAX => Err(RunError::TooMuch { program }),
        Ok(Some(_)) => Ok(()),
    };
    (output.stdout, result)
}

/// What the command printed, bounded.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn add_stdout(&mut self, bytes: &[u8]) {
        let room = (STDOUT_BYTES_MAX + 1).saturating_sub(self.stdout.len());
        self.stdout.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn add_stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        let surplus = self.stderr.len().saturating_sub(STDERR_BYTES_KEPT);
        self.stderr.drain(..surplus);
    }
}

/// A started command; dropped, it is killed with its group and reaped.
struct Running {
    child: Child,
}

impl Running {
    /// Reads until the command ends; `None` when the limit came first and the group was killed.
    fn finish(mut self, output: &mut Output, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let end = pidfd_open(self.pid(), PidfdFlags::empty())?;
        if self.watch(&end, output, limit)? {
            return self.child.wait().map(Some);
        }
        self.signal(Signal::TERM);
        self.watch(&end, output, TERMINATE_GRACE)?;
        Ok(None)
    }

    /// True when the command ended within `limit`; what it printed until then is in `output`.
    fn watch(&mut self, end: &OwnedFd, output: &mut Output, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = wait_for(
                [
                    self.child.stdout.as_ref().map(AsFd::as_fd),
                    self.child.stderr.as_ref().map(AsFd::as_fd),
                    Some(end.as_fd()),
                ],
                left,
            )?;
            // Pipes first: what was printed before the end is read before the end is believed.
            if ready[0] && !read_some(self.child.stdout.as_mut(), |bytes| output.add_stdout(bytes))? {
                self.child.stdout = None;
            }
            if ready[1] && !read_some(self.child.stderr.as_mut(), |bytes| output.add_stderr(bytes))? {
                self.child.stderr = None;
            }
            if !ready[0] && !ready[1] {
                if ready[2] {
                    return Ok(true);
                }
                if left.is_zero() {
                    return Ok(false);
                }
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Errors are passed over: a group that is gone needs no signal.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Until it is waited for, a dead leader still holds its number, so the group is the right one.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Waits until one of `sources` can be read or is closed; which ones, none of them at the time-out.
fn wait_for<const N: usize>(
    sources: [Option<std::os::fd::BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut asked: Vec<_> =
        sources.iter().flatten().map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)).collect();
    match poll(&mut asked, Timespec::try_from(limit).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut answers = asked.iter().map(|source| !source.revents().is_empty());
    Ok(sources.map(|source| source.is_some() && answers.next().unwrap_or(false)))
}

/// One read of a pipe that is ready; false at its end.
fn read_some(pipe: Option<&mut impl Read>, mut keep: impl FnMut(&[u8])) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut buffer = [0; 8192];
    let length = pipe.read(&mut buffer)?;
    keep(&buffer[..length]);
    Ok(length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (String, Result<(), RunError>) {
        let words = ["sh", "-c", script].map(str::to_owned);
        let (stdout, result) = run(&words, &[("GREETING".into(), "hello".into())], limit);
        (String::from_utf8(stdout).unwrap(), result)
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn output_comes_back_and_the_environment_arrives() {
        let (stdout, result) = shell("echo $GREETING; echo noise >&2", LONG);
        assert_eq!(stdout, "hello\n");
        result.unwrap();
    }

    #[test]
    fn a_failure_tells_status_and_last_words_and_keeps_the_output() {
        let (stdout, result) = shell("echo made; echo no space >&2; exit 7", LONG);
        assert_eq!(stdout, "made\n");
        let text = result.unwrap_err().to_string();
        assert!(text.contains("exit status: 7") && text.ends_with(": no space"), "{text}");
    }

    #[test]
    fn a_command_past_its_limit_is_killed_with_its_group() {
        let started = Instant::now();
        // The inner shell would hold the pipe open for an hour if only the leader were killed.
        let (_, result) = shell("sh -c 'sleep 3600' & echo $!; wait", Duration::from_millis(200));
        assert!(matches!(result, Err(RunError::TimedOut { .. })), "{result:?}");
        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_helper_left_in_the_background_does_not_hold_the_command_back() {
        let started = Instant::now();
        let (stdout, result) = shell("sleep 300 & echo $!", LONG);
        result.unwrap();
        assert!(started.elapsed() < LONG);
        let helper = Pid::from_raw(stdout.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(helper, Signal::KILL).expect("it still runs");
    }

    #[test]
    fn endless_output_is_refused_and_does_not_grow() {
        let (stdout, result) = shell("head -c 1000000 /dev/zero", LONG);
        assert!(matches!(result, Err(RunError::TooMuch { .. })));
        assert_eq!(stdout.len(), STDOUT_BYTES_MAX + 1);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let (_, result) = run(&["/nonexistent/lvcreate".to_owned()], &[], LONG);
        assert_eq!(result.unwrap_err().to_string(), "cannot start /nonexistent/lvcreate");
        assert!(matches!(run(&[], &[], LONG).1, Err(RunError::Start { .. })));
    }
}
