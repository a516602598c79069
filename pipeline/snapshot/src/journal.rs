//! What stands and has to be released, on disk: written before `take` runs, removed after `release` did.
//!
//! A process that is killed with SIGKILL releases nothing. The next run of the source finds the file and
//! runs `release` with the words and the environment of that `take`. The order is what makes it
//! safe: a file without a snapshot costs one `release` that finds nothing to do, a snapshot without a
//! file would stand until somebody notices. So the file is durable before the first command starts, each later
//! version replaces it whole, and it goes only when `release` said that all is gone.
//!
//! Format: entries `NAME=VALUE` that end in NUL, as in `/proc/PID/environ`. `RELEASE` is the command line,
//! `LIMIT_MS` its limit, `READ_ONLY` the device whose read-only flag was set; all others are the environment.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dualsync_model::id::SourceName;

use crate::command::CommandError;
use crate::error::ReleaseError;
use crate::ioctl;
use crate::process::run;
use crate::words;

/// Ends the name of a version that is being written.
const NEW: &str = "new";

/// The file of one snapshot.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

/// What a later process needs to release a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) release: String,
    pub(crate) limit: Duration,
    pub(crate) read_only: Option<PathBuf>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Journal {
    /// The file of snapshot `id` of `source`, durable with `standing` when this returns.
    pub(crate) fn create(folder: &Path, source: &SourceName, id: &str, standing: &Standing) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let journal = Self { path: folder.join(format!("{source}.{id}")) };
        journal.replace(standing)?;
        Ok(journal)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a newer version in the place of the old one; a crash leaves one of the two.
    pub(crate) fn replace(&self, standing: &Standing) -> io::Result<()> {
        let new = self.path.with_added_extension(NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&standing.to_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.sync_folder()
    }

    /// Nothing stands any more.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // A crash in the middle of a replacement left it.
        let _ = fs::remove_file(self.path.with_added_extension(NEW));
        fs::remove_file(&self.path)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Standing {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut entry = |name: &OsStr, value: &OsStr| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        };
        entry("RELEASE".as_ref(), self.release.as_ref());
        entry("LIMIT_MS".as_ref(), self.limit.as_millis().to_string().as_ref());
        if let Some(device) = &self.read_only {
            entry("READ_ONLY".as_ref(), device.as_ref());
        }
        for (name, value) in &self.env {
            entry(name, value);
        }
        bytes
    }

    /// `None` for what [`Standing::to_bytes`] never wrote.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut standing = Self::default();
        for entry in bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0) {
            let equals = entry.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&entry[..equals], &entry[equals + 1..]);
            let text = || String::from_utf8(value.to_vec()).ok();
            let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            match name {
                b"RELEASE" => standing.release = text()?,
                b"LIMIT_MS" => standing.limit = Duration::from_millis(text()?.parse().ok()?),
                b"READ_ONLY" => standing.read_only = Some(os(value).into()),
                _ => standing.env.push((os(name), os(value))),
            }
        }
        (!standing.release.is_empty()).then_some(standing)
    }
}

/// A snapshot that a process which is gone has left standing.
#[derive(Debug)]
pub struct Leftover {
    journal: Journal,
}

/// The snapshots of `source` in the journal `folder`.
///
/// To be asked while no run of the source goes on: a running one has its file here too.
pub fn leftovers(folder: &Path, source: &SourceName) -> io::Result<Vec<Leftover>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.file_name().to_str().and_then(|name| name.rsplit_once('.')) {
            // A version that was never finished: the one before it says what stands.
            Some((_, NEW)) => {}
            Some((name, _)) if name == source.as_str() => {
                found.push(Leftover { journal: Journal { path: entry.path() } });
            }
            _ => {}
        }
    }
    found.sort_by(|one, other| one.journal.path.cmp(&other.journal.path));
    Ok(found)
}

impl Leftover {
    /// The file that a person removes who has released the snapshot by hand.
    pub fn path(&self) -> &Path {
        self.journal.path()
    }

    /// Runs the `release` that belongs to it. After an error the file stays, and the next run tries again.
    pub fn release(self) -> Result<(), ReleaseError> {
        let lost = |source| ReleaseError::Journal { path: self.path().to_owned(), source };
        let bytes = fs::read(self.path()).map_err(lost)?;
        let standing = Standing::parse(&bytes).ok_or_else(|| lost(io::ErrorKind::InvalidData.into()))?;
        let line = standing.release.as_str();
        let words = words::split(line).map_err(|source| CommandError::Words {
            command: "release",
            line: line.to_owned(),
            source,
        })?;
        if let Some(device) = standing.read_only.as_deref().and_then(|device| File::open(device).ok()) {
            // As in a release in time: the flag of a loop device outlives its detach.
            let _ = ioctl::set_read_only(&device, false);
        }
        run(&words, &standing.env, standing.limit)
            .1
            .map_err(|source| CommandError::Run { command: "release", source })?;
        self.journal.remove().map_err(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            release: "sh -c 'a=b; exit'".to_owned(),
            limit: Duration::from_millis(1500),
            read_only: Some("/dev/vg/x=y".into()),
            env: vec![
                ("DUALSYNC_TREE".into(), OsString::from_vec(b"/mnt/\xff\nx".to_vec())),
                ("EMPTY".into(), "".into()),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_whatever_bytes_it_has() {
        assert_eq!(Standing::parse(&standing().to_bytes()), Some(standing()));
        let bare = Standing { read_only: None, env: Vec::new(), ..standing() };
        assert_eq!(Standing::parse(&bare.to_bytes()), Some(bare));
    }

    #[test]
    fn strange_bytes_are_no_snapshot() {
        for bytes in [
            &b""[..],
            b"\0",
            b"RELEASE=true",
            b"RELEASE\0",
            b"RELEASE=\xff\0",
            b"LIMIT_MS=5\0",
            b"RELEASE=x\0LIMIT_MS=-1\0",
        ] {
            assert_eq!(Standing::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn only_files_of_the_source_are_its_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("snapshots");
        let web: SourceName = "web".parse().unwrap();
        assert!(leftovers(&at, &web).unwrap().is_empty(), "no folder is no snapshot");
        let journal = Journal::create(&at, &web, "0a", &standing()).unwrap();
        Journal::create(&at, &"web2".parse().unwrap(), "0a", &standing()).unwrap();
        fs::write(at.join("web.0b.new"), "torn").unwrap();
        let paths = || leftovers(&at, &web).unwrap().iter().map(|left| left.path().to_owned()).collect::<Vec<_>>();
        assert_eq!(paths(), [journal.path()]);
        journal.remove().unwrap();
        assert!(paths().is_empty());
    }
}
