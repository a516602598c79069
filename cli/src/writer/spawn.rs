//! Starts a writer so that it cannot outlive its parent.
//!
//! The child is a process group of its own (a signal for it reaches its helpers too, and Ctrl-C in the
//! terminal does not reach it: `dualsync` decides when it stops), and the kernel kills it when the
//! thread that started it ends (`PR_SET_PDEATHSIG`). That thread must be the main one: callers run
//! on a current-thread runtime, never on a pool whose threads come and go.
#![expect(
    unsafe_code,
    reason = "pre_exec(2) has no safe form; the closure makes two system calls and allocates nothing"
)]

use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};

/// Starts `program verb` with three pipes.
pub fn spawn(program: &Path, verb: &str) -> io::Result<Child> {
    let parent = getpid();
    let mut command = Command::new(program);
    command
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl and getppid are
    // plain system calls, and `io::Error::from(Errno)` and `from_raw_os_error` do not allocate.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above: then no signal will ever come.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc_esrch())) }
        });
    }
    command.spawn()
}

/// `ESRCH`: no such process.
fn libc_esrch() -> i32 {
    rustix::io::Errno::SRCH.raw_os_error()
}
