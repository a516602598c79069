//! The reports of `verify` as this host keeps them: `state/reports/NUMBER/`, written once each.
//!
//! A folder has `report.json`, `report.txt`, `report.html` and `kept.json`, which says what the report is in the chain
//! and which targets confirmed that they keep it. Losing all of it costs the memory of what should be in the stores,
//! never a report that is there.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dualsync_model::job::ReportId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long one verify waits for another to number its report.
const WAIT: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A report on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Its place in the chain.
    pub report: ReportId,
    /// The targets that confirmed that they keep it.
    #[serde(default)]
    pub kept: Vec<String>,
}

/// The three forms of a report, as bytes.
#[derive(Debug)]
pub struct Forms {
    /// `report.json`.
    pub json: Vec<u8>,
    /// `report.txt`.
    pub text: Vec<u8>,
    /// `report.html`.
    pub html: Vec<u8>,
    /// `details.json`, with the names of files that differ or are hit; it never leaves this host.
    pub details: Option<Vec<u8>>,
}

/// A report could not be kept or read here.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be {what}", path.display())]
pub struct ReportsError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// Another verify holds the chain for too long.
#[derive(Debug, thiserror::Error)]
#[error("another verify keeps its report for more than {} minutes", WAIT.as_secs() / 60)]
pub struct ChainLocked;

/// SHA-256, lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The folder of reports.
#[derive(Debug)]
pub struct Reports {
    root: PathBuf,
}

impl Reports {
    /// Names the folder; touches nothing.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Takes the chain for this process: two verifies at once must not take one number. Waits for the other.
    pub async fn lock(&self) -> anyhow::Result<File> {
        let path = self.root.join(".lock");
        let failed = |source| ReportsError { path: path.clone(), what: "locked", source };
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let mut waited = Duration::ZERO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if waited < WAIT => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    waited += LOOK_EVERY;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(ChainLocked.into()),
                Err(errno) => return Err(failed(errno.into()).into()),
            }
        }
    }

    /// The folder of one report.
    pub fn folder(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    /// What is here, oldest first. A report whose files are not what they were is passed over.
    pub fn own(&self) -> Vec<Own> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let mut own: Vec<_> = numbers.filter_map(|number| self.read(number)).collect();
        own.sort_by_key(|own| own.report.number);
        own
    }

    fn read(&self, number: u64) -> Option<Own> {
        let folder = self.folder(number);
        let own: Own = serde_json::from_slice(&fs::read(folder.join("kept.json")).ok()?).ok()?;
        let whole = own.report.number == number && is_report(&folder, &own.report);
        whole.then_some(own)
    }

    /// Keeps a new report: all of its files or, after a crash, none.
    pub fn keep(&self, report: &ReportId, forms: &Forms) -> Result<PathBuf, ReportsError> {
        let folder = self.folder(report.number);
        let failed = |source| ReportsError { path: folder.clone(), what: "written", source };
        let beside = self.scratch("new").map_err(failed)?;
        for (name, bytes) in [("report.json", &forms.json), ("report.txt", &forms.text), ("report.html", &forms.html)] {
            write(&beside.join(name), bytes).map_err(failed)?;
        }
        if let Some(details) = &forms.details {
            write(&beside.join("details.json"), details).map_err(failed)?;
        }
        let own = Own { report: report.clone(), kept: Vec::new() };
        let line = serde_json::to_vec(&own).map_err(|error| failed(error.into()))?;
        write(&beside.join("kept.json"), &line).map_err(failed)?;
        fs::rename(&beside, &folder).and_then(|()| sync(&self.root)).map_err(failed)?;
        Ok(folder)
    }

    /// Remembers that `target` confirmed a report; nothing when the report is not here.
    pub fn confirm(&self, number: u64, target: &str) -> Result<(), ReportsError> {
        let Some(mut own) = self.read(number) else { return Ok(()) };
        if own.kept.iter().any(|kept| kept == target) {
            return Ok(());
        }
        own.kept.push(target.to_owned());
        let path = self.folder(number).join("kept.json");
        let failed = |source| ReportsError { path: path.clone(), what: "written", source };
        let beside = path.with_extension("new");
        let line = serde_json::to_vec(&own).map_err(|error| failed(error.into()))?;
        write(&beside, &line).and_then(|()| fs::rename(&beside, &path)).map_err(failed)
    }

    /// An empty folder of this process under the reports' own.
    pub fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(format!(".{name}-{}", std::process::id()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }
}

/// Whether `folder` has the `report.json` that `report` names.
pub fn is_report(folder: &Path, report: &ReportId) -> bool {
    fs::read(folder.join("report.json")).is_ok_and(|bytes| digest(&bytes) == report.sha256)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dualsync_model::time::Timestamp;

    fn forms(json: &str) -> Forms {
        Forms { json: json.into(), text: b"text".to_vec(), html: b"html".to_vec(), details: None }
    }

    fn id(number: u64, json: &str) -> ReportId {
        ReportId { number, at: Timestamp::from_seconds(0), sha256: digest(json.as_bytes()), previous: None }
    }

    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_report_is_kept_once_and_remembers_who_confirmed_it() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::new(folder.path().to_owned());
        assert_eq!(reports.own(), []);
        for number in [10, 9] {
            reports.keep(&id(number, "a"), &forms("a")).unwrap();
        }
        assert!(reports.keep(&id(9, "b"), &forms("b")).is_err(), "what is there is not written over");
        for target in ["paris", "paris", "frankfurt"] {
            reports.confirm(9, target).unwrap();
        }
        reports.confirm(77, "paris").unwrap();
        let own = reports.own();
        assert_eq!(own.iter().map(|own| own.report.number).collect::<Vec<_>>(), [9, 10]);
        assert_eq!((own[0].kept.clone(), own[1].kept.len()), (vec!["paris".into(), "frankfurt".into()], 0));
    }

    #[test]
    fn a_report_that_is_not_what_it_was_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::new(folder.path().to_owned());
        reports.keep(&id(1, "a"), &forms("a")).unwrap();
        fs::write(reports.folder(1).join("report.json"), "b").unwrap();
        assert_eq!(reports.own(), []);
    }

    #[tokio::test]
    async fn one_process_at_a_time_has_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::new(folder.path().to_owned());
        let held = reports.lock().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(300), reports.lock()).await;
        assert!(waiting.is_err(), "it waits");
        drop(held);
        reports.lock().await.unwrap();
    }
}
