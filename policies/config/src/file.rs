//! The configuration file as it was typed: every key there is, and nothing about what it means.
//!
//! Everything is optional here, so that [`crate::settings`] can say what is missing and what was
//! expected. A key that is not listed is an error.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ConfigFile {
    /// The name of this host in manifests and reports.
    pub host: Option<String>,
    /// The time zone of business dates and schedules.
    pub timezone: Option<String>,
    /// `HH:MM`: a run before it belongs to the day before.
    pub day_cutoff: Option<String>,
    /// Folder for caches, locks and history.
    pub state: Option<String>,
    /// Whether the EEA counts like the EU.
    pub allow_eea: Option<bool>,
    /// A newer provider table than the built-in one.
    pub providers: Option<String>,
    /// At the wrong place: a mistake worth a sentence of its own.
    pub immutability: Option<String>,
    /// How long things may take.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// The targets by name.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetEntry>,
    /// The sources.
    #[serde(default)]
    pub source: Vec<SourceEntry>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { writer_silence = \"15m\" }")]
pub struct LimitsEntry {
    /// A writer without byte or event for this long is killed.
    pub writer_silence: Option<String>,
    /// A whole run may take this long.
    pub run_total: Option<String>,
    /// A file system may stand still for this long.
    pub freeze: Option<String>,
    /// Each command of a `command` snapshot may run for this long.
    pub snapshot_command: Option<String>,
    /// Between a mark and its deletion.
    pub grace: Option<String>,
    /// Between a scheduled run and the moment its date is due.
    pub due_tolerance: Option<String>,
}

/// `[targets.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct TargetEntry {
    /// `block` or `archive`.
    pub mechanism: Option<String>,
    /// `s3` or `directory`.
    pub kind: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    /// An id of the provider table, or free text.
    pub provider: Option<String>,
    /// S3: the address.
    pub endpoint: Option<String>,
    /// S3: the region.
    pub region: Option<String>,
    /// S3: the bucket.
    pub bucket: Option<String>,
    /// Directory: the folder.
    pub path: Option<String>,
    /// Folder inside bucket or directory.
    pub prefix: Option<String>,
    /// Reference to the store's credentials.
    pub credentials: Option<String>,
    /// Block: reference to the repository key.
    pub key: Option<String>,
    /// Archive: reference to the age identity.
    pub identity: Option<String>,
    /// Archive: reference to the minisign secret key.
    pub signing_key: Option<String>,
    /// Archive: the pinned minisign public key.
    pub signing_public: Option<String>,
    /// Archive: further age recipients.
    pub recipients: Option<Vec<String>>,
    /// Archive: whether content is sealed to the further recipients only.
    pub sealed: Option<bool>,
    /// S3: `governance` or `compliance`.
    pub immutability: Option<String>,
}

/// `[[source]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct SourceEntry {
    /// The name in points.
    pub name: Option<String>,
    /// Block device or image file.
    pub device: Option<String>,
    /// Where its file system is mounted.
    pub tree: Option<String>,
    /// The way to hold it still.
    pub snapshot: Option<String>,
    /// The commands of `snapshot = "command"`.
    pub snapshot_command: Option<SnapshotCommandEntry>,
    /// That nothing writes to the device.
    pub idle: Option<bool>,
    /// Globs relative to `tree`.
    pub exclude: Option<Vec<String>>,
    /// The block target's name.
    pub block: Option<String>,
    /// The archive target's name.
    pub archive: Option<String>,
    /// cron or OnCalendar.
    pub schedule: Option<String>,
    /// What is kept.
    pub retention: Option<RetentionEntry>,
    /// A rate like `50MiB/s`.
    pub bandwidth: Option<String>,
    /// For each mechanism.
    pub compression: Option<CompressionEntry>,
    /// Ages from which `status` says that a copy is late.
    pub status: Option<StatusEntry>,
    /// When old objects are left behind.
    pub resend: Option<ResendEntry>,
    /// Limits of points on demand.
    pub manual: Option<ManualEntry>,
}

/// `status = { warn = "28h", critical = "32h" }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { warn = \"28h\", critical = \"32h\" }")]
pub struct StatusEntry {
    /// Late.
    pub warn: Option<String>,
    /// Too late.
    pub critical: Option<String>,
}

/// `resend = { sparse = "50%", max = "16GiB" }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { sparse = \"50%\", max = \"16GiB\" }")]
pub struct ResendEntry {
    /// Stored objects of which a run uses less than this share are left behind.
    pub sparse: Option<String>,
    /// A run sends at most so many bytes again.
    pub max: Option<String>,
}

/// `manual = { max_points = 10, max_age = "30d", expires = "7d" }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { max_points = 10, max_age = \"30d\", expires = \"7d\" }")]
pub struct ManualEntry {
    /// So many at once.
    pub max_points: Option<u32>,
    /// The longest `--expires`.
    pub max_age: Option<String>,
    /// The expiry where none was given.
    pub expires: Option<String>,
}

/// `snapshot_command = { take = "...", release = "..." }`
#[derive(Debug, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table like { take = \"/usr/local/sbin/take\", release = \"/usr/local/sbin/release\" }"
)]
pub struct SnapshotCommandEntry {
    /// Makes the snapshot.
    pub take: Option<String>,
    /// Removes it.
    pub release: Option<String>,
    /// Ends with 0 while it is good.
    pub check: Option<String>,
}

/// `compression = { block = "deflate:1", archive = "zstd:3" }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { block = \"deflate:1\", archive = \"zstd:3\" }")]
pub struct CompressionEntry {
    /// Of the block path.
    pub block: Option<String>,
    /// Of the archive path.
    pub archive: Option<String>,
}

/// `retention = { daily = 12, month_ends = 3, year_ends = 1 }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table like { daily = 12, month_ends = 3, year_ends = 1 }")]
pub struct RetentionEntry {
    /// Dates of the contract.
    pub daily: Option<u32>,
    /// Month ends of the contract.
    pub month_ends: Option<u32>,
    /// Year ends of the contract.
    pub year_ends: Option<u32>,
    /// Quarters of a day.
    pub every_6h: Option<u32>,
    /// Weeks.
    pub weekly: Option<u32>,
    /// Months.
    pub monthly: Option<u32>,
    /// Years.
    pub yearly: Option<u32>,
    /// Points.
    pub keep_last: Option<u32>,
    /// A duration like `3d`.
    pub keep_within: Option<String>,
    /// Cap on the number of points.
    pub max_points: Option<u32>,
    /// Cap on their age.
    pub max_age: Option<String>,
}
