//! The watchdog's own side: freeze, wait, thaw.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::syncfs;
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::time::{ClockId, clock_gettime};

use super::{Answer, Order, Step};
use crate::ioctl;

/// Signals that end a service, a session or a terminal; none of them may end the watchdog.
const IGNORED: [i32; 7] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2];

/// How often a thaw that fails is tried again, once a second.
const THAW_TRIES: u32 = 30;

/// The whole watchdog process; `args` are what [`crate::Reexec`] did not say itself: tree and limit.
///
/// Not for people: it speaks lines on standard input and output. The exit code is 0 when
/// nothing is frozen any more because of it.
pub fn watchdog_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(tree), Some(limit), None) = (args.next(), args.next().and_then(milliseconds), args.next()) else {
        return ExitCode::from(2);
    };
    let last = match watch(Path::new(&tree), limit) {
        Ok(answer) => answer,
        Err((step, errno)) => Answer::Failed(step, errno.raw_os_error()),
    };
    say(last);
    if matches!(last, Answer::Failed(Step::Thaw, _)) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn milliseconds(text: OsString) -> Option<Duration> {
    text.into_string().ok()?.parse().ok().map(Duration::from_millis)
}

/// From the first look at the tree to the thaw; the answer that is said last.
fn watch(tree: &Path, limit: Duration) -> Result<Answer, (Step, Errno)> {
    let folder = File::open(tree).map_err(|error| (Step::Open, errno(&error)))?;
    prepare().map_err(|errno| (Step::Prepare, errno))?;
    syncfs(&folder).map_err(|errno| (Step::Flush, errno))?;
    let deadline = boot_time() + limit;
    let mut frozen = Frozen::freeze(folder).map_err(|errno| (Step::Freeze, errno))?;
    let ending = if say(Answer::Frozen) { obey(&frozen, deadline) } else { Answer::Thawed };
    frozen.thaw().map_err(|errno| (Step::Thaw, errno))?;
    Ok(ending)
}

/// Cuts every tie through which another process, or a page not in memory, could hold this one up.
fn prepare() -> rustix::io::Result<()> {
    for signal in IGNORED {
        ioctl::ignore_signal(signal)?;
    }
    // The only refusal is of a process that leads its group already, which then is not in the caller's.
    let _ = rustix::process::setsid();
    env::set_current_dir("/").map_err(|error| errno(&error))?;
    // Best effort: without it a machine short of memory could pick this process first.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
}

/// Answers orders until one says thaw, the other side is gone, or the deadline is over.
fn obey(frozen: &Frozen, deadline: Duration) -> Answer {
    let stdin = io::stdin();
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_sub(boot_time());
        if left.is_zero() {
            return Answer::Expired;
        }
        if !readable(&stdin, left) {
            continue;
        }
        let mut byte = [0_u8];
        match rustix::io::read(stdin.as_fd(), &mut byte) {
            Ok(1) if byte[0] != b'\n' => line.push(byte[0]),
            Ok(1) => {
                line.push(b'\n');
                match Order::ALL.into_iter().find(|order| order.line().as_bytes() == line) {
                    Some(Order::Check) => match frozen.check() {
                        Ok(()) if say(Answer::Valid) => line.clear(),
                        Ok(()) => return Answer::Thawed,
                        Err(answer) => return answer,
                    },
                    // Nonsense on the pipe means that nobody is in control any more: thaw.
                    Some(Order::Thaw) | None => return Answer::Thawed,
                }
            }
            Err(Errno::INTR) => {}
            // End of input: the other side is gone.
            _ => return Answer::Thawed,
        }
    }
}

/// Whether there is something to read within `limit`; an interrupted or refused wait says no.
fn readable(source: impl AsFd, limit: Duration) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)];
    matches!(poll(&mut asked, Timespec::try_from(limit).ok().as_ref()), Ok(1))
}

/// Says one line; false when nobody listens.
fn say(answer: Answer) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer.line().as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Time since boot, sleep included: a laptop that was closed has used up its limit.
fn boot_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or(Duration::MAX)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A file system that this process froze; dropped (a panic), it is thawed.
struct Frozen {
    folder: File,
    thawed: bool,
}

impl Frozen {
    fn freeze(folder: File) -> rustix::io::Result<Self> {
        loop {
            match ioctl::freeze(&folder) {
                Err(Errno::INTR) => {}
                result => return result.map(|()| Self { folder, thawed: false }),
            }
        }
    }

    /// Freezing what is frozen fails with `EBUSY`; if it does not, somebody thawed meanwhile.
    fn check(&self) -> Result<(), Answer> {
        match ioctl::freeze(&self.folder) {
            Err(Errno::BUSY) => Ok(()),
            // It is frozen by us once more; `watch` thaws it next.
            Ok(()) => Err(Answer::Lost),
            Err(errno) => Err(Answer::Failed(Step::Check, errno.raw_os_error())),
        }
    }

    /// Not frozen any more after `Ok`, by whomever; tries again for half a minute before it gives up.
    fn thaw(&mut self) -> rustix::io::Result<()> {
        let mut tries = 0;
        loop {
            match ioctl::thaw(&self.folder) {
                // EINVAL: it is not frozen.
                Ok(()) | Err(Errno::INVAL) => break,
                Err(errno) if tries == THAW_TRIES => return Err(errno),
                Err(_) => {
                    tries += 1;
                    // No descriptor: a wait of a second, which no signal of ours can lengthen.
                    let _ = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
                }
            }
        }
        self.thawed = true;
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.thawed {
            let _ = self.thaw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_wrong_usage_and_freeze_nothing() {
        for args in [&[] as &[&str], &["/"], &["/", "x"], &["/", "-1"], &["/", "1", "2"]] {
            let code = watchdog_main(args.iter().map(OsString::from));
            assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)), "{args:?}");
        }
    }

    #[test]
    fn the_boot_clock_goes_on() {
        let before = boot_time();
        assert!(before > Duration::ZERO && boot_time() >= before);
    }
}
