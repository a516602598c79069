//! What `dualsync` asks of a writer: one JSON line on its standard input.
//!
//! The first line is a [`Job`]; a backup that has printed `prepared` then reads one [`Command`]
//! line more. End of input before `commit` means: no manifest. Secrets travel as references.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{PointId, RunId, SourceName};
use crate::keys::KeysTask;
use crate::secret::SecretRef;
use crate::slice::Slice;
use crate::time::{Date, Timestamp};

/// A whole job. Unknown fields are refused: a misspelt limit must not be a limit that is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The time now. A directory target has no other clock.
    pub now: Timestamp,
    /// Where the copies are.
    pub target: Target,
    /// How they are sealed.
    pub keys: Keys,
    /// A private folder of this mechanism and target: caches and spill files, lost at no risk.
    pub state: PathBuf,
    /// Upload and download limit, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// What to do.
    pub task: Task,
}

/// One target, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name in the configuration, for messages.
    pub name: String,
    /// Its place.
    pub place: Place,
    /// Folder inside the bucket or directory; empty for none. No leading or trailing `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The store's credentials, in the AWS credentials-file format (profile `default`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
    /// Objects are put under a lock of this mode, which the store must be seen to enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<LockMode>,
}

/// The mode of an object lock, as S3 knows them (`x-amz-object-lock-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Who holds a special right (`s3:BypassGovernanceRetention`) may delete all the same; dualsync never asks to.
    Governance,
    /// Nobody may delete before the lock's end, the account's owner included.
    Compliance,
}

/// The place of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// An S3 bucket behind an explicit endpoint.
    S3 {
        /// `https://host`, plain http only to loopback.
        endpoint: String,
        /// The region that signatures name.
        region: String,
        /// The bucket, which exists already.
        bucket: String,
    },
    /// A folder of this host (a NAS mount).
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
    /// Any other service that opendal knows by this name (archive path only).
    Service {
        /// opendal's scheme: `sftp`, `webdav`, `b2`, ...
        service: String,
        /// opendal's options for it, without secrets.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
}

/// The keys of one mechanism, as references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
pub enum Keys {
    /// The block path's repository key.
    Block {
        /// The repository key.
        key: SecretRef,
    },
    /// The archive path's identities.
    Archive {
        /// age identity that opens catalogs and volumes.
        identity: SecretRef,
        /// minisign secret key that signs manifests.
        signing_key: SecretRef,
        /// The pinned minisign public key; absent only for `init`, which prints it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signing_public: Option<String>,
        /// Further age recipients, the recovery key among them.
        #[serde(default)]
        recipients: Vec<String>,
        /// Sealed mode: volumes are sealed to `recipients` only, so that this host writes and cannot read them.
        #[serde(default)]
        sealed: bool,
    },
}

/// The verbs of a writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Creates what is missing of the repository and its keys; changes nothing that exists.
    Init(InitTask),
    /// Prints a `point` line for each manifest.
    List(ListTask),
    /// Makes one copy.
    Backup(Box<BackupTask>),
    /// Prints a `fact` line for each entry of a stored point, read back and hashed anew.
    Facts(FactsTask),
    /// Brings a point back.
    Restore(RestoreTask),
    /// Checks stored objects without a content key.
    Check(CheckTask),
    /// Tries credentials and capabilities with scratch objects.
    Probe(ProbeTask),
    /// Marks copies that may go, takes marks back, deletes what was marked for long enough.
    Prune(PruneTask),
    /// Keeps the reports of `verify`, or tells which ones are kept.
    Evidence(EvidenceTask),
    /// Tells or changes what opens the repository.
    Keys(KeysTask),
}

/// The task of `init`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitTask {
    /// Block size in bytes of a new block repository, a power of two from 64 KiB to 4 MiB; 128 KiB when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// Only tells what is there: creates and mends nothing, and a repository that is missing is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_look: bool,
}

/// The task of `list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListTask {
    /// Only points of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
}

/// Newest manifest of a target: what the other side and the host remember to notice a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The manifest's sequence number, from 1.
    pub sequence: u64,
    /// SHA-256 of the manifest's stored bytes, lower-case hex.
    pub sha256: String,
}

/// Whether a point belongs to the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Made by schedule, judged by the contract.
    Auto,
    /// Made on demand, lives until its expiry.
    Manual,
}

/// The frozen moment both writers read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Names this one moment; two copies are a pair only when it is equal.
    pub id: String,
    /// `none`, `freeze`, `command`, ...
    pub method: String,
    /// False when the source was read while it could change.
    pub frozen: bool,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Block device or image file to read; its last component is a link or a file, never a pattern.
    pub device: PathBuf,
    /// Where its file system can be walked.
    pub tree: PathBuf,
    /// Whether `device` is a real block device (read with `O_DIRECT`) and not an image file.
    pub is_device: bool,
}

/// The task of `backup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupTask {
    /// The point to make.
    pub point: PointId,
    /// This run.
    pub run: RunId,
    /// The date the point counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// A person's words about a manual point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When a manual point may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What to read.
    pub snapshot: Snapshot,
    /// Globs relative to the tree that the archive path leaves out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// `deflate:1` or `off` (block), `zstd:3`, `gzip:6`, `bzip2:6`, `xz:6` or `off` (archive).
    pub compression: String,
    /// Newest manifest of the other target that the host knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Anchor>,
    /// Newest manifest of this target that the host remembers; an older store is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered: Option<Anchor>,
    /// Seconds between a mark and its deletion; a reused object marked for more than half of it is sent again.
    pub grace_s: u64,
    /// When old objects are left behind; the defaults when absent.
    #[serde(default)]
    pub resend: Resend,
    /// Every object this run puts for its point is locked until then; only with [`Target::immutability`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_until: Option<Timestamp>,
}

/// When a run leaves an old pack or volume behind and sends again what it needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// An object of which a run uses less than this share is left behind; 0 (never) to 90 per cent.
    pub sparse_percent: u8,
    /// A run sends at most so many bytes again, those of the emptiest objects first.
    pub bytes_max: u64,
}

impl Default for Resend {
    fn default() -> Self {
        Self { sparse_percent: 50, bytes_max: 16 << 30 }
    }
}

/// The task of `facts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsTask {
    /// The point to read.
    pub point: PointId,
    /// Content is read for the paths of this slice only; every entry is still listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// Whether this host mounts the file system anyway, so that the kernel may mount the stored image.
    #[serde(default)]
    pub kernel_mount: bool,
}

/// The task of `restore`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreTask {
    /// The point to bring back.
    pub point: PointId,
    /// Where to.
    pub to: PathBuf,
    /// What `to` becomes.
    pub shape: Shape,
    /// Globs of the paths to restore; empty for everything. Only with [`Shape::Tree`].
    #[serde(default)]
    pub paths: Vec<String>,
    /// Keep what an interrupted restore left and proved right.
    #[serde(default)]
    pub resume: bool,
    /// Write over what exists.
    #[serde(default)]
    pub overwrite: bool,
    /// Say what would be done and fetch no content.
    #[serde(default)]
    pub dry_run: bool,
    /// As in [`FactsTask::kernel_mount`]; for single files out of a stored image.
    #[serde(default)]
    pub kernel_mount: bool,
}

/// What a restore makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A block device, written in place.
    Device,
    /// A sparse image file.
    Image,
    /// A directory tree.
    Tree,
}

/// The task of `check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckTask {
    /// Only this point's objects; all points when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// How deep.
    pub depth: Depth,
    /// Only the objects of this slice (by key) are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
}

/// How deep `check` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// A listing against the references: names and sizes.
    Presence,
    /// Every stored byte against its digest.
    Objects,
}

/// The task of `probe`: it takes no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTask {}

/// The task of `prune`.
///
/// Nothing is deleted by the job that announces it. A job that sweeps deletes a copy only when the copy is in
/// [`PruneTask::drop`] now *and* was marked at least [`PruneTask::grace_s`] ago; the program itself works out
/// which other objects nobody needs. What is not in `drop` is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneTask {
    /// Copies that may go: each is marked now, unless it is already.
    #[serde(default)]
    pub drop: Vec<Leaving>,
    /// Keys of manifests whose marks are taken back, where that is still possible.
    #[serde(default)]
    pub undo: Vec<String>,
    /// Copies that stay, each with the time until which all its objects have to be locked; only with
    /// [`Target::immutability`]. A lock is made longer, never shorter.
    #[serde(default)]
    pub locks: Vec<Lock>,
    /// Delete what is due, mark objects that nobody needs, clear old marks and run records away.
    #[serde(default)]
    pub sweep: bool,
    /// Seconds between a mark and its deletion.
    pub grace_s: u64,
    /// Newest manifest of this target that the host remembers; an older store is a rollback, and nothing is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered: Option<Anchor>,
    /// Say what would be done; put and delete nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A copy whose objects must not be deletable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Key of its manifest.
    pub manifest: String,
    /// SHA-256 of the manifest's stored bytes, lower-case hex: exactly this one.
    pub sha256: String,
    /// Until when, by the store's clock.
    pub until: Timestamp,
}

/// A copy that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    /// The point.
    pub point: PointId,
    /// Key of its manifest.
    pub manifest: String,
    /// SHA-256 of the manifest's stored bytes, lower-case hex: exactly this one.
    pub sha256: String,
    /// Why, in words.
    pub reason: String,
    /// Whether a person asked for it; else the rule did.
    #[serde(default)]
    pub asked: bool,
}

/// The task of `evidence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum EvidenceTask {
    /// Prints an `evidence` line for each report that is kept here, each proved.
    List {
        /// Also writes the files of each good report into `<folder>/<number>/`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
    },
    /// Keeps one report.
    Put {
        /// Its place in the chain.
        #[serde(flatten)]
        report: ReportId,
        /// A folder with `report.json` and its renderings `report.txt` and `report.html`.
        folder: PathBuf,
    },
}

/// One report of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportId {
    /// Its number, from 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// SHA-256 of its `report.json`, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the `report.json` before it; absent for number 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// What a writer may be told while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// The snapshot is still valid: put the manifest.
    Commit,
    /// It is not: leave no manifest and say so.
    Abort,
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"protocol":1,"now":"2026-11-20T02:00:00Z",
        "target":{"name":"paris","place":{"kind":"directory","path":"/mnt/nas"}},
        "keys":{"mechanism":"block","key":"file:/etc/dualsync/block.key"},
        "state":"/var/lib/dualsync/block","task":{"verb":"list","source":"web"}}"#;

    #[test]
    fn a_job_reads_back() {
        let job: Job = serde_json::from_str(JOB).unwrap();
        assert_eq!(job.task, Task::List(ListTask { source: Some("web".parse().unwrap()) }));
        let again: Job = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
        assert_eq!(again, job);
    }

    #[test]
    fn a_misspelt_field_is_refused_at_every_depth() {
        for (good, bad) in [
            ("\"now\"", "\"know\""),
            ("\"source\"", "\"sorce\""),
            ("\"path\"", "\"pfad\""),
            ("\"key\"", "\"kee\""),
            ("\"list\"", "\"lst\""),
        ] {
            assert!(serde_json::from_str::<Job>(&JOB.replace(good, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_report_to_keep_reads_back() {
        let put = r#"{"verb":"evidence","act":"put","number":2,"at":"2026-11-20T02:00:00Z","sha256":"ab","previous":"cd","folder":"/r"}"#;
        let task: Task = serde_json::from_str(put).unwrap();
        assert_eq!(serde_json::to_string(&task).unwrap(), put);
        assert!(serde_json::from_str::<Task>(&put.replace("\"folder\"", "\"folda\"")).is_err());
    }

    #[test]
    fn commands_are_one_word_lines() {
        assert_eq!(serde_json::to_string(&Command::Commit).unwrap(), r#"{"command":"commit"}"#);
        assert!(serde_json::from_str::<Command>(r#"{"command":"comit"}"#).is_err());
    }
}
