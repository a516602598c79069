//! The three programs in a folder of their own, so that a test may replace one of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder with `dualsync` and its two writers.
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Copies the programs into `directory`.
    ///
    /// # Panics
    /// When `DUALSYNC_BIN_DIR` is not set or a program is missing there.
    pub fn install(directory: &Path) -> Self {
        let built = std::env::var_os("DUALSYNC_BIN_DIR")
            .expect("DUALSYNC_BIN_DIR names the built programs; scripts/test sets it");
        fs::create_dir_all(directory).unwrap();
        for name in ["dualsync", "dualsync-block", "dualsync-archive"] {
            let from = Path::new(&built).join(name);
            // A hard link is enough, and /proc/self/exe of it stays in this folder; across file systems a copy.
            if fs::hard_link(&from, directory.join(name)).is_err() {
                fs::copy(&from, directory.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            }
        }
        Self { directory: directory.to_owned() }
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Puts a shell script in the place of a writer; [`Programs::mend`] takes it back.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn replace(&self, name: &str, script: &str) {
        let path = self.path(name);
        let aside = path.with_extension("real");
        if !aside.exists() {
            fs::rename(&path, &aside).unwrap();
        }
        fs::write(&path, format!("#!/bin/sh\nreal={}\n{script}\n", aside.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts the real program back.
    ///
    /// # Panics
    /// When it was not replaced.
    pub fn mend(&self, name: &str) {
        let path = self.path(name);
        fs::rename(path.with_extension("real"), &path).unwrap();
    }
}

/// What a command left.
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; 128 + the signal's number when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Runs `command` to its end, without standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self::from_output(shown, &output)
    }

    /// Takes what a finished child left.
    pub fn from_output(command: String, output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { command, code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Itself, when the exit code is `code`.
    ///
    /// # Panics
    /// When it is not; the message shows all that was printed.
    #[must_use]
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n--- stdout\n{}\n--- stderr\n{}", self.command, self.stdout, self.stderr);
        self
    }

    /// The whole output as one JSON value.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{}: {error}\n{}", self.command, self.stdout))
    }

    /// Every line as a JSON value.
    ///
    /// # Panics
    /// When one is none.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let line =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}\n{line}", self.command));
        self.stdout.lines().map(line).collect()
    }

    /// The last line, which is the summary of `--json` output.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let last =
            self.json_lines().pop().unwrap_or_else(|| panic!("{} printed nothing\n{}", self.command, self.stderr));
        assert_eq!(last["message_type"], "summary", "{}", self.stdout);
        last
    }
}
