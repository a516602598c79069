//! Driver `command`: the user's own two commands make and remove a snapshot (and a third one may
//! check it).
//!
//! That the printed device and tree show one frozen moment is the user's word. What can be
//! checked is checked: they exist, are of the right kind, and are still the same after the last
//! read. A printed block device that is not the source itself and that nothing has mounted
//! read-write is set read-only until the release. What stands is noted on disk before it is made, so that
//! a later process can release what this one, killed, left behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Invalid, ReleaseError, SnapshotError};
use crate::footing::{Ground, Host};
use crate::ioctl;
use crate::journal::{Journal, Standing};
use crate::process::{RunError, run};
use crate::spec::{CommandSpec, Spec};
use crate::words::{self, WordsError};

/// One of the user's commands did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It is no command line.
    #[error("the {command} command is not a command line: {line}")]
    Words {
        /// `take`, `check` or `release`.
        command: &'static str,
        /// What was typed.
        line: String,
        /// What is wrong with it.
        source: WordsError,
    },
    /// It ran badly.
    #[error("the {command} command")]
    Run {
        /// `take`, `check` or `release`.
        command: &'static str,
        /// How.
        source: RunError,
    },
    /// `take` did not say what it made.
    #[error("the take command printed no line '{missing}=PATH' with an absolute path")]
    NotPrinted {
        /// `device` or `tree`.
        missing: &'static str,
    },
}

/// What `take` printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Printed {
    device: Option<PathBuf>,
    tree: Option<PathBuf>,
    id: Option<OsString>,
}

impl Printed {
    /// The last line of each name counts; only absolute paths do.
    fn parse(stdout: &[u8]) -> Self {
        let mut printed = Self::default();
        for line in stdout.split(|byte| *byte == b'\n') {
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let value = OsString::from_vec(line[equals + 1..].to_vec());
            let path = Some(PathBuf::from(&value)).filter(|path| path.is_absolute());
            match &line[..equals] {
                b"device" => printed.device = path,
                b"tree" => printed.tree = path,
                b"id" => printed.id = Some(value),
                _ => {}
            }
        }
        printed
    }
}

/// The user's commands, ready to run.
struct Commands {
    check: Option<Vec<String>>,
    release: Vec<String>,
    /// What they are told, as the journal has it.
    standing: Standing,
}

impl Commands {
    fn run(&self, command: &'static str, words: &[String]) -> Result<(), CommandError> {
        run(words, &self.standing.env, self.standing.limit).1.map_err(|source| CommandError::Run { command, source })
    }
}

/// A snapshot that the user's commands made; dropped, it is released.
pub(crate) struct Commanded {
    commands: Commands,
    journal: Journal,
    device: PathBuf,
    tree: PathBuf,
    ground: Option<Ground>,
    /// The device whose read-only flag this run set.
    made_read_only: Option<File>,
    released: bool,
}

/// What the commands are told before `take` has printed anything.
fn standing(spec: &Spec, commands: &CommandSpec, snapshot_id: &str) -> Standing {
    let told: [(&str, OsString); 4] = [
        ("DUALSYNC_SOURCE", spec.source.as_str().into()),
        ("DUALSYNC_SOURCE_DEVICE", spec.device.clone().into()),
        ("DUALSYNC_SOURCE_TREE", spec.tree.clone().into()),
        ("DUALSYNC_SNAPSHOT", snapshot_id.into()),
    ];
    Standing {
        release: commands.release.clone(),
        limit: commands.limit,
        read_only: None,
        env: told.into_iter().map(|(name, value)| (name.into(), value)).collect(),
    }
}

/// Runs `take`; on any error after its start `release` has been run too.
pub(crate) fn take(spec: &Spec, commands: &CommandSpec, snapshot_id: &str) -> Result<Commanded, SnapshotError> {
    let parse = |command, line: &str| {
        words::split(line).map_err(|source| CommandError::Words { command, line: line.to_owned(), source })
    };
    let take = parse("take", &commands.take)?;
    let check = commands.check.as_deref().map(|line| parse("check", line)).transpose()?;
    let release = parse("release", &commands.release)?;
    let standing = standing(spec, commands, snapshot_id);
    let journal = Journal::create(&commands.journal, &spec.source, snapshot_id, &standing).map_err(|source| {
        SnapshotError::Io { operation: "note a snapshot in", path: commands.journal.clone(), source }
    })?;
    let mut taken = Commanded {
        commands: Commands { check, release, standing },
        journal,
        device: PathBuf::new(),
        tree: PathBuf::new(),
        ground: None,
        made_read_only: None,
        released: false,
    };
    let (stdout, result) = run(&take, &taken.commands.standing.env, commands.limit);
    // From here on an early return drops `taken`, which runs `release`.
    let printed = Printed::parse(&stdout);
    taken.tell(&printed);
    taken.note()?;
    result.map_err(|source| CommandError::Run { command: "take", source })?;
    taken.device = printed.device.ok_or(CommandError::NotPrinted { missing: "device" })?;
    taken.tree = printed.tree.ok_or(CommandError::NotPrinted { missing: "tree" })?;
    taken.ground = Some(crate::taken::look_at(&taken.device, &taken.tree)?);
    taken.set_read_only(&spec.device)?;
    Ok(taken)
}

impl Commanded {
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Hands what `take` printed to the later commands, a failed one's too.
    fn tell(&mut self, printed: &Printed) {
        let told = [
            ("DUALSYNC_DEVICE", printed.device.clone().map(OsString::from)),
            ("DUALSYNC_TREE", printed.tree.clone().map(OsString::from)),
            ("DUALSYNC_ID", printed.id.clone()),
        ];
        let told = told.into_iter().filter_map(|(name, value)| Some((name.into(), value?)));
        self.commands.standing.env.extend(told);
    }

    /// Brings the journal up to date.
    fn note(&self) -> Result<(), SnapshotError> {
        self.journal.replace(&self.commands.standing).map_err(|source| SnapshotError::Io {
            operation: "note a snapshot in",
            path: self.journal.path().to_owned(),
            source,
        })
    }

    fn set_read_only(&mut self, source_device: &Path) -> Result<(), SnapshotError> {
        let Some(ground @ Ground::Device(_)) = self.ground else { return Ok(()) };
        let own = fs::metadata(source_device).ok().as_ref().and_then(Ground::of) != Some(ground);
        let failed = |source: io::Error| SnapshotError::Io {
            operation: "set read-only the snapshot device",
            path: self.device.clone(),
            source,
        };
        if !own || Host::look().map_err(failed)?.writable_mount_on(ground).is_some() {
            return Ok(());
        }
        let device = File::open(&self.device).map_err(failed)?;
        if !ioctl::is_read_only(&device).map_err(|errno| failed(errno.into()))? {
            self.commands.standing.read_only = Some(self.device.clone());
            self.note()?;
            ioctl::set_read_only(&device, true).map_err(|errno| failed(errno.into()))?;
            self.made_read_only = Some(device);
        }
        Ok(())
    }

    pub(crate) fn still_valid(&self) -> Result<(), Invalid> {
        if let Some(check) = &self.commands.check {
            self.commands.run("check", check)?;
        }
        let path = || self.device.clone();
        let now = fs::metadata(&self.device).map_err(|source| Invalid::Unknown { path: path(), source })?;
        if Ground::of(&now) == self.ground { Ok(()) } else { Err(Invalid::Changed { path: path() }) }
    }

    /// Runs `release`, once.
    pub(crate) fn release(mut self) -> Result<(), ReleaseError> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), ReleaseError> {
        self.released = true;
        // As it was found, since the flag of a loop device outlives its detach; and closed, since a
        // device that is held open cannot be removed.
        if let Some(device) = self.made_read_only.take() {
            let _ = ioctl::set_read_only(&device, false);
        }
        self.commands.run("release", &self.commands.release)?;
        let path = self.journal.path().to_owned();
        self.journal.remove().map_err(|source| ReleaseError::Journal { path, source })
    }
}

impl Drop for Commanded {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.let_go()
        {
            tracing::error!(error = &error as &dyn std::error::Error, "a snapshot may be left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lines_are_found_among_others() {
        let printed = Printed::parse(b"  Logical volume created\ndevice=/dev/vg/a b\ntree=/mnt/\xff\nid=x=y\ndevice\n");
        assert_eq!(printed.device.as_deref(), Some(Path::new("/dev/vg/a b")));
        assert_eq!(printed.tree.map(|tree| tree.into_os_string().into_vec()), Some(b"/mnt/\xff".to_vec()));
        assert_eq!(printed.id, Some("x=y".into()));
    }

    #[test]
    fn relative_paths_and_indented_names_do_not_count() {
        assert_eq!(Printed::parse(b"device=sda\n tree=/mnt\ntree=\n"), Printed::default());
    }
}
