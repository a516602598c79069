//! One wall clock for servers and programs: a file that libfaketime reads each time somebody asks for the time.
//!
//! The clock stands still at the time in the file. Timers and time-outs go by the monotonic clock, which is not faked.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dualsync_model::time::Timestamp;

/// The clock.
#[derive(Clone)]
pub struct ClockFile {
    path: PathBuf,
    library: OsString,
}

impl ClockFile {
    /// A clock in the file `path`.
    ///
    /// # Panics
    /// When `faketime` is not there or the file cannot be written.
    pub fn new(path: &Path, at: Timestamp) -> Self {
        clear_after_the_dead();
        // Only the wrapper knows where Debian keeps the library for this machine.
        let asked =
            Command::new("faketime").args(["-m", "-f", "2020-01-01 00:00:00", "printenv", "LD_PRELOAD"]).output();
        let mut library = asked.expect("cannot start faketime").stdout;
        library.retain(|byte| *byte != b'\n');
        assert!(!library.is_empty(), "faketime does not say where its library is");
        let clock = Self { path: path.to_owned(), library: OsString::from_vec(library) };
        clock.set(at);
        clock
    }

    /// Sets it. The file is replaced at once: a reader never sees half of a time.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set(&self, at: Timestamp) {
        let text = at.whole_second().to_string().replace('T', " ").replace('Z', "");
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &self.path).unwrap();
    }

    /// Lets `command`, and what it starts, go by this clock.
    pub fn hold(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.path)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("TZ", "UTC");
    }

    /// Clears away what the library leaves of a process that was killed: another process by the same number could not start.
    pub fn clear_after(process: u32) {
        for name in [format!("sem.faketime_sem_{process}"), format!("faketime_shm_{process}")] {
            // Where it is not there, nothing was left.
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    /// `command` at that time.
    pub fn at(&self, command: &Command, at: Timestamp) -> Command {
        self.set(at);
        let mut held = Command::new(command.get_program());
        held.args(command.get_args());
        for (name, value) in command.get_envs() {
            held.env(name, value.unwrap_or_default());
        }
        self.hold(&mut held);
        held
    }
}

/// The same for every process that is gone: whoever was killed with its test could not clear up.
fn clear_after_the_dead() {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.rsplit_once("_sem_").or_else(|| name.rsplit_once("_shm_")));
        let Some((_, Ok(process))) = process.map(|(before, number)| (before, number.parse::<u32>())) else { continue };
        if !Path::new("/proc").join(process.to_string()).exists() {
            ClockFile::clear_after(process);
        }
    }
}
