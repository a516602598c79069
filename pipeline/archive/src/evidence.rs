//! `evidence`: keeps the reports of `verify`, and proves those that are kept.
//!
//! A report is a folder `evidence/<number>-<time>-<random>/`: `report.json`, its renderings for people, a stock
//! minisign signature of `report.json` that an auditor checks without dualsync, and last `proof.json`, a signed
//! record that names every file by digest. A folder without a proof is a put that was cut off, and no report.
//! Nothing is overwritten: of two puts of one number, the second finds the first, and is refused unless it is
//! the same report.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::event::{Event, Evidence, Summary};
use dualsync_model::job::{EvidenceTask, ReportId};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::events::Events;
use crate::failure::Fault;
use crate::format::{EVIDENCE, FORMAT, MANIFEST_BYTES_MAX, REPORT_BYTES_MAX, VERSION, parse_report_key, report_key};
use crate::manifest::Stored;
use crate::minisign::SecretKey;
use crate::objects::ObjectError;
use crate::points::with_causes;
use crate::program::summary;
use crate::record;
use crate::repo::Repository;

/// The report itself.
const REPORT: &str = "report.json";
/// Its signature.
const SIGNATURE: &str = "report.json.minisig";
/// Renderings, which may be absent.
const RENDERINGS: [&str; 2] = ["report.txt", "report.html"];
/// What names all others; put last.
const PROOF: &str = "proof.json";

/// `proof.json` of version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// Number, time, digest of `report.json`, and that of the one before.
    #[serde(flatten)]
    pub report: ReportId,
    /// Every other file of the folder.
    pub files: Vec<ReportFile>,
}

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFile {
    /// Its name in the folder.
    pub name: String,
    /// Length and digest.
    #[serde(flatten)]
    pub stored: Stored,
}

/// Why a report is not kept, or not given.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A local file.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More than a reader takes.
    #[error("{} has more than {REPORT_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not the report of the job.
    #[error("{} has the SHA-256 {found}, and the job tells {told}", path.display())]
    OtherReport {
        /// The file.
        path: PathBuf,
        /// What its bytes give.
        found: Digest,
        /// What the job says.
        told: String,
    },
    /// The number is taken.
    #[error("report {number} is kept already with the SHA-256 {found}: a report is never replaced")]
    Taken {
        /// The number.
        number: u64,
        /// Digest of the kept one.
        found: String,
    },
    /// The store.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// No random bytes.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
}

impl From<EvidenceError> for Fault {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Object(error) => error.into(),
            EvidenceError::Taken { .. } => Self::new(Exit::Failed, "refused", &error),
            EvidenceError::OtherReport { .. } | EvidenceError::TooLong { .. } => {
                Self::new(Exit::Usage, "usage", &error)
            }
            EvidenceError::File { .. } | EvidenceError::Random(_) => Self::new(Exit::Failed, "internal", &error),
        }
    }
}

/// Keeps the report in `folder`.
pub async fn put(
    repository: &Repository,
    secret: &SecretKey,
    report: &ReportId,
    folder: &Path,
    events: &Events,
) -> Result<Summary, Fault> {
    let objects = put_files(repository, secret, report, folder, events).await?;
    Ok(Summary { items: 1, objects, ..summary(&repository.objects) })
}

async fn put_files(
    repository: &Repository,
    secret: &SecretKey,
    report: &ReportId,
    folder: &Path,
    events: &Events,
) -> Result<u64, EvidenceError> {
    let json = read_file(&folder.join(REPORT))?
        .ok_or_else(|| EvidenceError::File { path: folder.join(REPORT), source: io::ErrorKind::NotFound.into() })?;
    let found = Digest::of(&json);
    if found.hex() != report.sha256 {
        return Err(EvidenceError::OtherReport { path: folder.join(REPORT), found, told: report.sha256.clone() });
    }
    if let Some(kept) = kept(repository, report.number, events).await? {
        // The answer to an earlier put may have been lost.
        return if kept == *report {
            Ok(0)
        } else {
            Err(EvidenceError::Taken { number: report.number, found: kept.sha256 })
        };
    }
    let signature = secret.sign(&json, &comment(repository, report));
    let mut files = vec![(REPORT, json), (SIGNATURE, signature.into_bytes())];
    for name in RENDERINGS {
        if let Some(bytes) = read_file(&folder.join(name))? {
            files.push((name, bytes));
        }
    }
    let random = getrandom::u64().map_err(EvidenceError::Random)?;
    let key = |name: &str| report_key(report.number, report.at, random, name);
    let mut listed = Vec::new();
    for (name, bytes) in files {
        let stored = repository.objects.put(&key(name), Bytes::from(bytes)).await?;
        listed.push(ReportFile { name: name.to_owned(), stored });
    }
    let objects = listed.len() as u64 + 1;
    let (format, repository_id) = (FORMAT.to_owned(), repository.id().to_owned());
    let proof = Proof { format, version: VERSION, repository: repository_id, report: report.clone(), files: listed };
    let bytes = record::write(&key(PROOF), &proof, secret);
    repository.objects.put(&key(PROOF), Bytes::from(bytes)).await?;
    Ok(objects)
}

/// The trusted comment of the signature: what an auditor reads after `minisign -V`.
fn comment(repository: &Repository, report: &ReportId) -> String {
    format!("repository={} report={} at={}", repository.id(), report.number, report.at)
}

/// A file of at most [`REPORT_BYTES_MAX`]; `None` where there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, EvidenceError> {
    let failed = |source| EvidenceError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(REPORT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(EvidenceError::TooLong { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// The report that is kept under this number, as a signed proof tells.
async fn kept(repository: &Repository, number: u64, events: &Events) -> Result<Option<ReportId>, ObjectError> {
    let listing = repository.objects.list(&format!("{EVIDENCE}{number:08}-")).await?;
    for info in listing.iter().filter(|info| info.key.as_str().ends_with(PROOF)) {
        match read_proof(repository, info).await? {
            Ok(proof) if proof.report.number == number => return Ok(Some(proof.report)),
            Ok(_) => {}
            Err(problem) => events.warn("forged", problem, None),
        }
    }
    Ok(None)
}

async fn read_proof(repository: &Repository, info: &ObjectInfo) -> Result<Result<Proof, String>, ObjectError> {
    let key = info.key.as_str();
    if info.size > MANIFEST_BYTES_MAX {
        return Ok(Err(format!("{key} is too long for a proof")));
    }
    let bytes = match repository.objects.get(key, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.finding().is_some() => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    Ok(repository.record(key, &bytes).map_err(|error| with_causes(&error)))
}

/// Prints a line for each report, and with `folder` writes the files of the good ones.
pub async fn list(repository: &Repository, folder: Option<&Path>, events: &Events) -> Result<Summary, Fault> {
    let reports = list_reports(repository, folder, events).await?;
    Ok(Summary { items: reports, ..summary(&repository.objects) })
}

async fn list_reports(repository: &Repository, folder: Option<&Path>, events: &Events) -> Result<u64, EvidenceError> {
    let listing = repository.objects.list(EVIDENCE).await?;
    let sizes: BTreeMap<&str, u64> = listing.iter().map(|info| (info.key.as_str(), info.size)).collect();
    let mut reports = 0;
    for info in listing.iter().filter(|info| info.key.as_str().ends_with(PROOF)) {
        let Some((number, at)) = parse_report_key(info.key.as_str()) else { continue };
        reports += 1;
        let object = info.key.to_string();
        let (report, problem) = match read_proof(repository, info).await? {
            Ok(proof) => {
                let files = prove(repository, &object, (number, at), &proof, &sizes).await?;
                if let (Ok(files), Some(folder)) = (&files, folder) {
                    write_files(&folder.join(number.to_string()), files)?;
                }
                (proof.report, files.err())
            }
            // Nothing but the name tells which one it should be.
            Err(problem) => (ReportId { number, at, sha256: String::new(), previous: None }, Some(problem)),
        };
        events.emit(&Event::Evidence(Evidence { report, object, problem }));
    }
    Ok(reports)
}

type Files = Vec<(String, Bytes)>;

/// All files of a report whose proof is signed, or what is wrong with one of them.
async fn prove(
    repository: &Repository,
    key: &str,
    (number, at): (u64, Timestamp),
    proof: &Proof,
    sizes: &BTreeMap<&str, u64>,
) -> Result<Result<Files, String>, ObjectError> {
    if (proof.report.number, proof.report.at.whole_second()) != (number, at) {
        return Ok(Err(format!("{key} says that it is report {} of {}", proof.report.number, proof.report.at)));
    }
    let mut files = Files::new();
    for file in &proof.files {
        // These names become names of local files: no others are taken.
        if ![REPORT, SIGNATURE].iter().chain(&RENDERINGS).any(|known| *known == file.name) {
            return Ok(Err(format!("{key} names a file '{}' that no report has", file.name)));
        }
        let beside = key.replace(PROOF, &file.name);
        let listed = sizes.get(beside.as_str()).copied();
        if let Some(found) = listed.filter(|found| *found != file.stored.bytes || *found > REPORT_BYTES_MAX) {
            return Ok(Err(ObjectError::Length { key: beside, found, wanted: file.stored.bytes }.to_string()));
        }
        match repository.objects.get_exact(&beside, file.stored).await {
            Ok(bytes) => files.push((file.name.clone(), bytes)),
            Err(error) if error.finding().is_some() => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(check_signature(repository, proof, &files).map(|()| files))
}

fn check_signature(repository: &Repository, proof: &Proof, files: &Files) -> Result<(), String> {
    let file = |name: &str| files.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes);
    let (Some(report), Some(signature)) = (file(REPORT), file(SIGNATURE)) else {
        return Err(format!("report {} has no {REPORT} with a signature", proof.report.number));
    };
    if Digest::of(report).hex() != proof.report.sha256 {
        return Err(format!("{REPORT} of report {} is not the one of its proof", proof.report.number));
    }
    match repository.public.verify(report, &String::from_utf8_lossy(signature)) {
        Ok(said) if said == comment(repository, &proof.report) => Ok(()),
        Ok(said) => Err(format!("{SIGNATURE} is made for '{said}'")),
        Err(error) => Err(with_causes(&error)),
    }
}

fn write_files(folder: &Path, files: &Files) -> Result<(), EvidenceError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EvidenceError::File { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(failed(&path))?;
    }
    Ok(())
}

/// Runs the task.
pub async fn evidence(
    repository: &Repository,
    secret: Option<&SecretKey>,
    task: &EvidenceTask,
    events: &Events,
) -> Result<Summary, Fault> {
    match (task, secret) {
        (EvidenceTask::List { folder }, _) => list(repository, folder.as_deref(), events).await,
        (EvidenceTask::Put { report, folder }, Some(secret)) => put(repository, secret, report, folder, events).await,
        (EvidenceTask::Put { .. }, None) => Err(crate::failure::internal("a report is kept with the signing key only")),
    }
}
