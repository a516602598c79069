//! `evidence`: keeps the reports of `verify` in the store, and tells which ones are kept and whole.
//!
//! `evidence/<number>-<time>-<random>/` holds `report.json` and its renderings, and last `proof.json`, a document
//! with the digest of each file and of the report before it. A folder without a proof is a put that was
//! cut off, and no report. Nothing here is ever deleted. What a report says is not looked at.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dualsync_block_store::contract::{Key, ObjectInfo, StoreError};
use dualsync_model::event::{Event, Evidence};
use dualsync_model::job::ReportId;
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::document::Unproven;
use crate::events::Events;
use crate::fetch::{ObjectError, Problem, sentence};
use crate::format::DOCUMENT_BYTES_MAX;
use crate::format::evidence::FILE_BYTES_MAX;
use crate::names;
use crate::repository::Repository;
use crate::seal::{NoRandomness, random_bytes};
use crate::trouble::Trouble;

/// The files of a report; the first is the report itself.
pub const FILES: [&str; 3] = ["report.json", "report.txt", "report.html"];
/// What proves them, put last.
const PROOF: &str = "proof.json";

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvedFile {
    /// One of [`FILES`].
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
}

/// What `proof.json` says, with a MAC like every document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The report's place in the chain, from 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Digest of the `report.json` before it; absent for number 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha256>,
    /// Digest of its `report.json`.
    pub sha256: Sha256,
    /// Every file of it.
    pub files: Vec<ProvedFile>,
}

/// Why a report was not kept, or could not be told.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file of the report cannot be read.
    #[error("cannot read '{path}'")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is longer than a report may be.
    #[error("'{0}' is longer than 16 MiB")]
    TooLong(PathBuf),
    /// The job names no digest.
    #[error("'{0}' is no SHA-256")]
    NoDigest(String),
    /// The report is not the one that the job tells of.
    #[error("report.json has SHA-256 {found}, the job tells {told}")]
    OtherReport {
        /// What it has.
        found: Sha256,
        /// What the job says.
        told: Sha256,
    },
    /// The number is another report's.
    #[error("number {number} is kept already, with SHA-256 {kept}")]
    Taken {
        /// The number.
        number: u64,
        /// The report that has it.
        kept: Sha256,
    },
    /// A file cannot be written.
    #[error("cannot write to '{path}'")]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error("cannot keep the report")]
    Store(#[from] StoreError),
    /// A stored object could not be read, which proves nothing about it.
    #[error("cannot read a report")]
    Read(#[from] ObjectError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl From<EvidenceError> for Trouble {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::NoDigest(_) | EvidenceError::TooLong(_) | EvidenceError::OtherReport { .. } => {
                Self::new(Exit::Usage, "usage", &error)
            }
            EvidenceError::Source { .. } | EvidenceError::Target { .. } => Self::new(Exit::Failed, "source", &error),
            EvidenceError::Taken { .. } => Self::new(Exit::Failed, "refused", &error)
                .with_hint("another host numbers the same reports: give each its own evidence, or verify on one"),
            EvidenceError::Store(error) => error.into(),
            EvidenceError::Read(error) => error.into(),
            EvidenceError::Random(_) => Self::new(Exit::Failed, "internal", &error),
        }
    }
}

/// Keeps the report in `folder`; told twice, it is kept once.
pub async fn put(
    repository: &Repository,
    report: &ReportId,
    folder: &Path,
    events: &Events,
) -> Result<(), EvidenceError> {
    let digest = |text: &String| text.parse().map_err(|_| EvidenceError::NoDigest(text.clone()));
    let told: Sha256 = digest(&report.sha256)?;
    let previous = report.previous.as_ref().map(digest).transpose()?;
    let files = FILES.iter().map(|name| Ok((*name, read_file(&folder.join(name))?)));
    let files: Vec<(&str, Bytes)> = files.collect::<Result<_, EvidenceError>>()?;
    let found = files.first().map_or_else(|| Sha256::of(b""), |(_, report)| Sha256::of(report));
    if found != told {
        return Err(EvidenceError::OtherReport { found, told });
    }
    if let Some(kept) = find(repository, report.number, told).await? {
        events.say(&Event::Evidence(Evidence { report: report.clone(), object: kept.to_string(), problem: None }));
        return Ok(());
    }
    let stem = names::evidence(report.number, report.at, random_bytes()?);
    let mut proof = Proof { number: report.number, at: report.at, previous, sha256: told, files: Vec::new() };
    for (name, bytes) in files {
        let sha256 = Sha256::of(&bytes);
        proof.files.push(ProvedFile { name: name.to_owned(), bytes: bytes.len() as u64, sha256 });
        repository.put(&names::evidence_file(&stem, name), bytes, sha256).await?;
    }
    // Power cut before this line: files without a proof, which are no report. After it: it is kept.
    let key = names::evidence_file(&stem, PROOF);
    repository.put_document(&key, &proof).await?;
    events.say(&Event::Evidence(Evidence { report: report.clone(), object: key.to_string(), problem: None }));
    Ok(())
}

fn read_file(path: &Path) -> Result<Bytes, EvidenceError> {
    let failed = |source| EvidenceError::Source { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(EvidenceError::TooLong(path.to_owned()));
    }
    Ok(bytes.into())
}

/// The proof of this very report, when it is kept and whole. One that is damaged is put once more.
async fn find(repository: &Repository, number: u64, sha256: Sha256) -> Result<Option<Key>, EvidenceError> {
    let mut kept = None;
    for report in reports(repository, &names::evidence_prefix(number)).await? {
        let Ok(proof) = &report.proof else { continue };
        if proof.number == number && proof.sha256 != sha256 {
            return Err(EvidenceError::Taken { number, kept: proof.sha256 });
        }
        if report.files(repository).await?.is_ok() {
            kept = Some(report.key);
        }
    }
    Ok(kept)
}

/// Tells every report that is kept, each proved; writes the files of the good ones below `folder`. How many, and how many are not good.
pub async fn list(
    repository: &Repository,
    folder: Option<&Path>,
    events: &Events,
) -> Result<(u64, u64), EvidenceError> {
    let (mut kept, mut wrong) = (0, 0);
    for report in reports(repository, names::EVIDENCE).await? {
        let (id, problem) = match (&report.proof, report.files(repository).await?) {
            (Ok(proof), Ok(files)) => {
                if let Some(folder) = folder {
                    write_files(&folder.join(proof.number.to_string()), &files)?;
                }
                (report_id(proof), None)
            }
            (Ok(proof), Err(problem)) => (report_id(proof), Some(problem)),
            (Err(problem), _) => (report.claimed, Some(problem.clone())),
        };
        kept += 1;
        wrong += u64::from(problem.is_some());
        events.say(&Event::Evidence(Evidence { report: id, object: report.key.to_string(), problem }));
    }
    Ok((kept, wrong))
}

/// What is wrong with the kept reports, by the key of the proof.
pub async fn problems(repository: &Repository) -> Result<Vec<(Key, String)>, EvidenceError> {
    let mut problems = Vec::new();
    for report in reports(repository, names::EVIDENCE).await? {
        let problem = match &report.proof {
            Ok(_) => report.files(repository).await?.err(),
            Err(problem) => Some(problem.clone()),
        };
        problems.extend(problem.map(|problem| (report.key, problem)));
    }
    Ok(problems)
}

fn report_id(proof: &Proof) -> ReportId {
    ReportId {
        number: proof.number,
        at: proof.at,
        sha256: proof.sha256.to_string(),
        previous: proof.previous.map(|previous| previous.to_string()),
    }
}

fn write_files(folder: &Path, files: &[(String, Bytes)]) -> Result<(), EvidenceError> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    };
    write().map_err(|source| EvidenceError::Target { path: folder.to_owned(), source })
}

/// What was found, or what is wrong with it in words; an error when the store did not answer.
type Looked<T> = Result<Result<T, String>, EvidenceError>;

/// One folder with a proof.
struct Report {
    /// Key of the proof.
    key: Key,
    /// What the names say, for a proof that says nothing.
    claimed: ReportId,
    /// What the proof says, or what is wrong with it.
    proof: Result<Proof, String>,
    listed: BTreeMap<String, ObjectInfo>,
}

/// The reports whose keys begin with `prefix`, by number and time.
async fn reports(repository: &Repository, prefix: &str) -> Result<Vec<Report>, EvidenceError> {
    let mut folders: BTreeMap<String, BTreeMap<String, ObjectInfo>> = BTreeMap::new();
    for object in repository.store().list(prefix, None).await? {
        if let Some((folder, name)) = object.key.as_str().rsplit_once('/') {
            let (folder, name) = (folder.to_owned(), name.to_owned());
            folders.entry(folder).or_default().insert(name, object);
        }
    }
    let mut reports = Vec::new();
    for (folder, listed) in folders {
        let Some((number, at)) = names::parse_evidence(&folder) else { continue };
        let Some(object) = listed.get(PROOF) else { continue };
        let key = object.key.clone();
        let proof = read_proof(repository, object, (number, at)).await?;
        let claimed = ReportId { number, at, sha256: String::new(), previous: None };
        reports.push(Report { key, claimed, proof, listed });
    }
    Ok(reports)
}

async fn read_proof(repository: &Repository, object: &ObjectInfo, named: (u64, Timestamp)) -> Looked<Proof> {
    if object.size > DOCUMENT_BYTES_MAX {
        return Ok(Err("its proof is longer than a document may be".to_owned()));
    }
    let bytes = match repository.get(&object.key).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_damage() => return Ok(Err(sentence(&error.problem))),
        Err(error) => return Err(error.into()),
    };
    let mac = repository.keys().mac_key();
    let proof = Unproven::parse(&bytes).and_then(|text| text.prove::<Proof>(&mac, object.key.as_str()));
    Ok(match proof {
        Err(error) => Err(format!("its proof {error}")),
        Ok(proof) if (proof.number, proof.at.whole_second()) != named => {
            Err("its proof tells another number or time than its name".to_owned())
        }
        Ok(proof) => Ok(proof),
    })
}

impl Report {
    /// Its files with their bytes, or what is wrong with one of them.
    async fn files(&self, repository: &Repository) -> Looked<Vec<(String, Bytes)>> {
        let proof = match &self.proof {
            Ok(proof) => proof,
            Err(problem) => return Ok(Err(problem.clone())),
        };
        let has_report = proof.files.iter().any(|file| file.name == FILES[0] && file.sha256 == proof.sha256);
        // Names are paths on this host later on: only these three, each once.
        let mut named: Vec<&str> = proof.files.iter().map(|file| file.name.as_str()).collect();
        named.sort_unstable();
        named.dedup();
        let are_known = named.iter().all(|name| FILES.contains(name)) && named.len() == proof.files.len();
        if !has_report || !are_known {
            return Ok(Err("its proof does not name the files of a report".to_owned()));
        }
        let mut files = Vec::new();
        for file in &proof.files {
            match self.file(repository, file).await? {
                Ok(bytes) => files.push((file.name.clone(), bytes)),
                Err(problem) => return Ok(Err(format!("{}: {problem}", file.name))),
            }
        }
        Ok(Ok(files))
    }

    async fn file(&self, repository: &Repository, file: &ProvedFile) -> Looked<Bytes> {
        let Some(listed) = self.listed.get(&file.name) else { return Ok(Err("it is not there".to_owned())) };
        if listed.size != file.bytes || listed.size > FILE_BYTES_MAX {
            return Ok(Err(format!("it has {} bytes and should have {}", listed.size, file.bytes)));
        }
        match repository.get(&listed.key).await {
            Ok(bytes) if Sha256::of(&bytes) == file.sha256 => Ok(Ok(bytes)),
            Ok(_) => Ok(Err(sentence(&Problem::Digest))),
            Err(error) if error.is_damage() => Ok(Err(sentence(&error.problem))),
            Err(error) => Err(error.into()),
        }
    }
}
