//! One source: what is read, how it is held still, when, and what is kept of it.

use std::path::PathBuf;
use std::time::Duration;

use dualsync_model::id::SourceName;
use dualsync_model::job::Resend;
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::retention::rule::{Rule, RuleParts};
use globset::Glob;

use crate::compression;
use crate::error::{Mistake, nearest};
use crate::file::{CompressionEntry, ResendEntry, RetentionEntry, SourceEntry};
use crate::manual::{self, ManualLimits};
use crate::schedule::Schedule;
use crate::target::{Fields, absolute};
use crate::units;

/// A source that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    /// Its name in points.
    pub name: SourceName,
    /// Block device or image file.
    pub device: PathBuf,
    /// Where its file system is mounted.
    pub tree: PathBuf,
    /// How it is held still.
    pub snapshot: SnapshotDriver,
    /// Globs relative to `tree` that the archive path leaves out.
    pub exclude: Vec<String>,
    /// Name of its block target.
    pub block: String,
    /// Name of its archive target.
    pub archive: String,
    /// When it runs by itself; `None` for runs by hand only.
    pub schedule: Option<Schedule>,
    /// What is kept.
    pub retention: Rule,
    /// Bytes a second, for each path by itself.
    pub bandwidth: Option<u64>,
    /// The word for the block writer.
    pub compression_block: String,
    /// The word for the archive writer.
    pub compression_archive: String,
    /// Ages of the newest good copy from which it is late; `None` for a source that is run by hand and says none.
    pub status: Option<Thresholds>,
    /// When a run leaves old objects behind.
    pub resend: Resend,
    /// Limits of points on demand.
    pub manual: ManualLimits,
}

/// Ages from which a newest good copy is late, and too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A warning.
    pub warn: Duration,
    /// Critical.
    pub critical: Duration,
}

impl Default for Thresholds {
    /// Those of a nightly run: four and eight hours late.
    fn default() -> Self {
        Self { warn: Duration::from_hours(28), critical: Duration::from_hours(32) }
    }
}

/// How a source is held still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotDriver {
    /// Flushed, then read as it is.
    None {
        /// The user's word that nothing writes, which allows a device that is mounted read-write.
        idle: bool,
    },
    /// The mounted file system is frozen while it is read.
    Freeze,
    /// Commands of the user's, words split at white space as the snapshot crate says.
    Command {
        /// Makes the snapshot, prints `device=PATH` and `tree=PATH`.
        take: String,
        /// Removes it.
        release: String,
        /// Ends with 0 while it is good.
        check: Option<String>,
    },
}

const DRIVERS: [&str; 3] = ["none", "freeze", "command"];
const DRIVERS_LATER: [&str; 4] = ["lvm", "reflink", "btrfs", "zfs"];

/// What entry number `index` means.
pub(crate) fn read(index: usize, entry: &SourceEntry) -> Result<SourceSettings, Mistake> {
    let fields = Fields { key: format!("source[{index}]") };
    let name = fields.required("name", entry.name.as_ref(), "a name like \"web\"")?;
    let path = |key: &str, value: Option<&String>, expected: &str| {
        let text = fields.required(key, value, expected)?;
        absolute(text).map_err(|message| fields.wrong(key, message))
    };
    let compression = entry.compression.as_ref();
    Ok(SourceSettings {
        name: name.parse().map_err(|error| fields.wrong("name", format!("expected a name: {error}")))?,
        device: path("device", entry.device.as_ref(), "a block device or an image file like \"/dev/vg0/data\"")?,
        tree: path("tree", entry.tree.as_ref(), "the folder where its file system is mounted, like \"/data\"")?,
        snapshot: snapshot(&fields, entry)?,
        exclude: exclude(&fields, entry.exclude.as_deref().unwrap_or_default())?,
        block: fields.required("block", entry.block.as_ref(), "the name of a block target")?.to_owned(),
        archive: fields.required("archive", entry.archive.as_ref(), "the name of an archive target")?.to_owned(),
        schedule: optional(&fields, "schedule", entry.schedule.as_ref(), str::parse)?,
        retention: retention(&fields, entry.retention.as_ref())?,
        bandwidth: optional(&fields, "bandwidth", entry.bandwidth.as_ref(), units::rate)?,
        compression_block: compression_of(&fields, Mechanism::Block, compression)?,
        compression_archive: compression_of(&fields, Mechanism::Archive, compression)?,
        status: thresholds(&fields, entry)?,
        resend: resend(&fields, entry.resend.as_ref())?,
        manual: manual::read(&fields, entry.manual.as_ref())?,
    })
}

pub(crate) fn optional<T, E: std::fmt::Display>(
    fields: &Fields,
    key: &str,
    value: Option<&String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Mistake> {
    value.map(|text| parse(text).map_err(|error| fields.wrong(key, error))).transpose()
}

fn snapshot(fields: &Fields, entry: &SourceEntry) -> Result<SnapshotDriver, Mistake> {
    let word = fields.required("snapshot", entry.snapshot.as_ref(), "\"none\", \"freeze\" or \"command\"")?;
    if word != "none" {
        fields.foreign("snapshot = \"none\"", &[("idle", entry.idle.is_some())])?;
    }
    if word != "command" {
        fields.foreign("snapshot = \"command\"", &[("snapshot_command", entry.snapshot_command.is_some())])?;
    }
    match word {
        "none" => Ok(SnapshotDriver::None { idle: entry.idle.unwrap_or(false) }),
        "freeze" => Ok(SnapshotDriver::Freeze),
        "command" => snapshot_command(fields, entry),
        later if DRIVERS_LATER.contains(&later) => {
            Err(fields
                .wrong("snapshot", format!("not built yet: \"{later}\"; this release has none, freeze and command")))
        }
        other => {
            let all: Vec<_> = DRIVERS.into_iter().chain(DRIVERS_LATER).collect();
            let hint = nearest(other, &all).map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default();
            Err(fields
                .wrong("snapshot", format!("expected \"none\", \"freeze\" or \"command\", found \"{other}\"{hint}")))
        }
    }
}

fn snapshot_command(fields: &Fields, entry: &SourceEntry) -> Result<SnapshotDriver, Mistake> {
    let Some(typed) = &entry.snapshot_command else {
        let expected = "missing, expected { take = \"/PROGRAM ARGUMENTS\", release = \"/PROGRAM ARGUMENTS\" }";
        return Err(fields.wrong("snapshot_command", expected));
    };
    let fields = Fields { key: format!("{}.snapshot_command", fields.key) };
    let command = |key: &str, value: Option<&String>| {
        let text = fields.required(key, value, "a program with its absolute path, and its arguments")?;
        if text.starts_with('/') {
            Ok(text.to_owned())
        } else {
            Err(fields.wrong(key, format!("expected a program with its absolute path, found \"{text}\"")))
        }
    };
    Ok(SnapshotDriver::Command {
        take: command("take", typed.take.as_ref())?,
        release: command("release", typed.release.as_ref())?,
        check: typed.check.as_ref().map(|_| command("check", typed.check.as_ref())).transpose()?,
    })
}

fn exclude(fields: &Fields, globs: &[String]) -> Result<Vec<String>, Mistake> {
    for (at, glob) in globs.iter().enumerate() {
        let key = format!("exclude[{at}]");
        if glob.is_empty() || glob.starts_with('/') {
            return Err(
                fields.wrong(&key, format!("expected a glob relative to tree like \"cache/**\", found \"{glob}\""))
            );
        }
        Glob::new(glob).map_err(|error| fields.wrong(&key, format!("expected a glob: {error}")))?;
    }
    Ok(globs.to_vec())
}

fn retention(fields: &Fields, entry: Option<&RetentionEntry>) -> Result<Rule, Mistake> {
    let Some(typed) = entry else { return Ok(Rule::CONTRACT) };
    let inner = Fields { key: format!("{}.retention", fields.key) };
    let parts = RuleParts {
        daily: typed.daily.unwrap_or_default(),
        month_ends: typed.month_ends.unwrap_or_default(),
        year_ends: typed.year_ends.unwrap_or_default(),
        every_6h: typed.every_6h.unwrap_or_default(),
        weekly: typed.weekly.unwrap_or_default(),
        monthly: typed.monthly.unwrap_or_default(),
        yearly: typed.yearly.unwrap_or_default(),
        keep_last: typed.keep_last.unwrap_or_default(),
        keep_within: optional(&inner, "keep_within", typed.keep_within.as_ref(), units::duration)?,
        max_points: typed.max_points,
        max_age: optional(&inner, "max_age", typed.max_age.as_ref(), units::duration)?,
    };
    Rule::new(parts).map_err(|error| fields.wrong("retention", error))
}

fn thresholds(fields: &Fields, entry: &SourceEntry) -> Result<Option<Thresholds>, Mistake> {
    let usual = Thresholds::default();
    let Some(typed) = &entry.status else { return Ok(entry.schedule.is_some().then_some(usual)) };
    let inner = Fields { key: format!("{}.status", fields.key) };
    let read = |key: &str, value: Option<&String>, usual: Duration| {
        optional(&inner, key, value, units::duration).map(|found| found.unwrap_or(usual))
    };
    let warn = read("warn", typed.warn.as_ref(), usual.warn)?;
    let critical = read("critical", typed.critical.as_ref(), usual.critical)?;
    if warn > critical {
        return Err(fields.wrong("status", "expected warn not above critical (28h and 32h when not said)"));
    }
    Ok(Some(Thresholds { warn, critical }))
}

fn resend(fields: &Fields, entry: Option<&ResendEntry>) -> Result<Resend, Mistake> {
    let usual = Resend::default();
    let Some(typed) = entry else { return Ok(usual) };
    let inner = Fields { key: format!("{}.resend", fields.key) };
    Ok(Resend {
        sparse_percent: optional(&inner, "sparse", typed.sparse.as_ref(), units::sparse_percent)?
            .unwrap_or(usual.sparse_percent),
        bytes_max: optional(&inner, "max", typed.max.as_ref(), units::bytes)?.unwrap_or(usual.bytes_max),
    })
}

fn compression_of(fields: &Fields, mechanism: Mechanism, entry: Option<&CompressionEntry>) -> Result<String, Mistake> {
    let typed = entry.and_then(|entry| match mechanism {
        Mechanism::Block => entry.block.as_deref(),
        Mechanism::Archive => entry.archive.as_deref(),
    });
    let text = typed.unwrap_or(compression::default_of(mechanism));
    compression::parse(mechanism, text).map_err(|error| fields.wrong(&format!("compression.{mechanism}"), error))
}
