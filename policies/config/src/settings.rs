//! What a configuration means: every default, every check that needs no key, store or clock.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::providers::Providers;
use dualsync_rules::residency::{self, Check, Finding, Policy, Severity};
use dualsync_rules::schedule::{DUE_TOLERANCE_S, Slot};
use jiff::tz::TimeZone;

use crate::error::{ConfigError, Mistake};
use crate::file::{ConfigFile, LimitsEntry};
use crate::layers::{self, Origin};
use crate::providers;
use crate::schedule::BusinessDays;
use crate::source::{self, SourceSettings};
use crate::target::{self, TargetSettings, absolute};
use crate::units;

/// A configuration that was understood. [`Settings::check_policy`] says whether a run may use it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it was read from.
    pub path: PathBuf,
    /// The name of this host.
    pub host: String,
    /// Business dates.
    pub days: BusinessDays,
    /// Folder for caches, locks and history.
    pub state: PathBuf,
    /// What the policy allows beyond its default.
    pub policy: Policy,
    /// How long things may take.
    pub limits: Limits,
    /// The targets by name.
    pub targets: BTreeMap<String, TargetSettings>,
    /// The sources, at least one.
    pub sources: Vec<SourceSettings>,
    /// What is known of providers.
    pub providers: Providers,
    origin: Origin,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A writer without byte or event for this long is killed.
    pub writer_silence: Duration,
    /// A whole run may take this long.
    pub run_total: Duration,
    /// A file system may stand still for this long.
    pub freeze: Duration,
    /// Each command of a `command` snapshot may run for this long.
    pub snapshot_command: Duration,
    /// Between a mark and its deletion.
    pub grace: Duration,
}

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

impl Default for Limits {
    fn default() -> Self {
        Self {
            writer_silence: Duration::from_mins(15),
            // A first upload over a slow line takes days; the silence limit catches what hangs.
            run_total: Duration::from_hours(7 * 24),
            freeze: Duration::from_mins(1),
            snapshot_command: Duration::from_mins(10),
            grace: Duration::from_hours(24),
        }
    }
}

const HOST: &str = "the name of this host, like \"web-01\"";
const TIMEZONE: &str = "UTC";
const DAY_CUTOFF: &str = "12:00";
const STATE: &str = "/var/lib/dualsync";

impl Settings {
    /// Reads the file at `path` and lays the variables of `env` that begin with `DUALSYNC__` over it.
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
        Self::parse(&text, path, env)
    }

    /// As [`Settings::load`], of a text that was read already; `path` is for messages.
    pub fn parse(text: &str, path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (file, origin) = layers::read(text, path, env)?;
        resolve(&file, origin).map_err(|(origin, mistakes)| {
            ConfigError::Wrong(mistakes.into_iter().map(|mistake| origin.locate(mistake)).collect())
        })
    }

    /// The target of a source for one mechanism.
    ///
    /// # Panics
    /// When `source` is not one of [`Settings::sources`].
    pub fn target(&self, source: &SourceSettings, mechanism: Mechanism) -> &TargetSettings {
        let name = match mechanism {
            Mechanism::Block => &source.block,
            Mechanism::Archive => &source.archive,
        };
        self.targets.get(name).expect("a source names targets that exist, or the configuration is refused")
    }

    /// The source with this name.
    pub fn source(&self, name: &str) -> Option<&SourceSettings> {
        self.sources.iter().find(|source| source.name.as_str() == name)
    }

    /// The scheduled runs of a source from `from` to `to`; none without a schedule.
    pub fn slots(&self, source: &SourceSettings, from: Timestamp, to: Timestamp) -> Vec<Slot> {
        source.schedule.as_ref().map(|schedule| self.days.slots(schedule, from, to)).unwrap_or_default()
    }

    /// The business date of a moment.
    pub fn business_date(&self, time: Timestamp) -> Date {
        self.days.date_of(time)
    }

    /// When the business date `date` is over.
    pub fn end_of(&self, date: Date) -> Timestamp {
        self.days.end_of(date)
    }

    /// Everything the policy says about the two targets of a source, the good statements too.
    pub fn policy_findings(&self, source: &SourceSettings) -> Vec<Finding> {
        let claim = |mechanism| &self.target(source, mechanism).claim;
        residency::judge(claim(Mechanism::Block), claim(Mechanism::Archive), &self.providers, self.policy)
    }

    /// Refuses the configuration when the policy forbids the targets of any source.
    ///
    /// Decided from the configuration alone; whatever touches a key or a store asks this first.
    pub fn check_policy(&self) -> Result<(), ConfigError> {
        let findings = self.sources.iter().flat_map(|source| self.policy_findings(source));
        let mut problems = Vec::new();
        for finding in findings.filter(|finding| finding.severity == Severity::Refused) {
            let key = match finding.check {
                Check::Country | Check::Union | Check::Pair => "country",
                Check::Tls => "endpoint",
                Check::Account => "credentials",
            };
            let key = format!("targets.{}.{key}", finding.target);
            let problem = self.origin.locate(Mistake::new(key, finding.message));
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Policy(problems)) }
    }
}

/// All mistakes are collected, one for each section at most: a person mends them in one go.
fn resolve(file: &ConfigFile, origin: Origin) -> Result<Settings, (Origin, Vec<Mistake>)> {
    let mut mistakes = Vec::new();
    let general = General::read(file).map_err(|mistake| mistakes.push(mistake)).ok();
    let limits = limits(&file.limits).map_err(|mistake| mistakes.push(mistake)).ok();
    let mut targets = BTreeMap::new();
    for (name, entry) in &file.targets {
        match target::read(name, entry) {
            Ok(target) => drop(targets.insert(name.clone(), target)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    let mut sources: Vec<SourceSettings> = Vec::new();
    for (index, entry) in file.source.iter().enumerate() {
        match source::read(index, entry).and_then(|source| check_names(index, source, &sources, file, &targets)) {
            Ok(source) => sources.push(source),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if file.source.is_empty() {
        mistakes.push(Mistake::new("source", "missing, expected at least one [[source]]"));
    }
    match (general, limits) {
        (Some(general), Some((limits, tolerance_s))) if mistakes.is_empty() => Ok(Settings {
            path: origin.file.clone(),
            host: general.host,
            days: BusinessDays { zone: general.zone, cutoff_s: general.cutoff_s, tolerance_s },
            state: general.state,
            policy: Policy { allow_eea: file.allow_eea.unwrap_or(false) },
            limits,
            targets,
            sources,
            providers: general.providers,
            origin,
        }),
        _ => Err((origin, mistakes)),
    }
}

/// The keys above the first section.
struct General {
    host: String,
    zone: TimeZone,
    cutoff_s: u32,
    state: PathBuf,
    providers: Providers,
}

impl General {
    fn read(file: &ConfigFile) -> Result<Self, Mistake> {
        if file.immutability.is_some() {
            let message = "belongs to a target: [targets.NAME] immutability = \"governance\" or \"compliance\"";
            return Err(Mistake::new("immutability", message));
        }
        let host = file.host.clone().ok_or_else(|| Mistake::new("host", format!("missing, expected {HOST}")))?;
        if host.is_empty() || host.len() > 253 || host.contains(char::is_control) {
            return Err(Mistake::new("host", format!("expected {HOST}, found {host:?}")));
        }
        let zone = file.timezone.as_deref().unwrap_or(TIMEZONE);
        let expected =
            || Mistake::new("timezone", format!("expected a time zone like \"Europe/Athens\", found \"{zone}\""));
        let cutoff = file.day_cutoff.as_deref().unwrap_or(DAY_CUTOFF);
        Ok(Self {
            host,
            zone: TimeZone::get(zone).map_err(|_| expected())?,
            cutoff_s: units::time_of_day(cutoff).map_err(|error| Mistake::new("day_cutoff", error))?,
            state: absolute(file.state.as_deref().unwrap_or(STATE)).map_err(|error| Mistake::new("state", error))?,
            providers: table(file.providers.as_deref())?,
        })
    }
}

/// The built-in provider table, or the newer one that was named.
fn table(path: Option<&str>) -> Result<Providers, Mistake> {
    let wrong = |message: String| Mistake::new("providers", message);
    let Some(path) = path else {
        return providers::parse(providers::BUILT_IN).map_err(|error| wrong(format!("the built-in table: {error}")));
    };
    let path = absolute(path).map_err(wrong)?;
    let text = fs::read_to_string(&path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    providers::parse(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        wrong(format!("{}: {error}{cause}", path.display()))
    })
}

/// The limits and the tolerance of due dates, seconds.
fn limits(entry: &LimitsEntry) -> Result<(Limits, i64), Mistake> {
    let usual = Limits::default();
    let read = |key: &str, typed: Option<&String>, usual: Duration, least_s: u64, most_s: u64| {
        let key = format!("limits.{key}");
        let Some(text) = typed else { return Ok(usual) };
        let found = units::duration(text).map_err(|error| Mistake::new(key.clone(), error))?;
        if (least_s..=most_s).contains(&found.as_secs()) {
            Ok(found)
        } else {
            Err(Mistake::new(key, format!("expected {least_s} to {most_s} seconds, found \"{text}\"")))
        }
    };
    let writer_silence = read("writer_silence", entry.writer_silence.as_ref(), usual.writer_silence, 1, DAY_S)?;
    // A run longer than the 30 days a tombstone stays must abort, so it may not be allowed here.
    let run_total = read("run_total", entry.run_total.as_ref(), usual.run_total, 60, 29 * DAY_S)?;
    let freeze = read("freeze", entry.freeze.as_ref(), usual.freeze, 1, HOUR_S)?;
    let snapshot_command = read("snapshot_command", entry.snapshot_command.as_ref(), usual.snapshot_command, 1, DAY_S)?;
    // Below two hours a quarter of the grace is too short to list marks and put a manifest.
    let grace = read("grace", entry.grace.as_ref(), usual.grace, 2 * HOUR_S, 30 * DAY_S)?;
    let tolerance_usual = Duration::from_secs(DUE_TOLERANCE_S.unsigned_abs());
    let tolerance = read("due_tolerance", entry.due_tolerance.as_ref(), tolerance_usual, 60, 7 * DAY_S)?;
    let limits = Limits { writer_silence, run_total, freeze, snapshot_command, grace };
    Ok((limits, i64::try_from(tolerance.as_secs()).unwrap_or(DUE_TOLERANCE_S)))
}

/// The names in a source: its own is new, its targets exist and are of the right mechanism.
fn check_names(
    index: usize,
    source: SourceSettings,
    before: &[SourceSettings],
    file: &ConfigFile,
    targets: &BTreeMap<String, TargetSettings>,
) -> Result<SourceSettings, Mistake> {
    let wrong = |key: &str, message: String| Mistake::new(format!("source[{index}].{key}"), message);
    if before.iter().any(|other| other.name == source.name) {
        return Err(wrong("name", format!("expected a name of its own, \"{}\" is there twice", source.name)));
    }
    for (mechanism, name) in [(Mechanism::Block, &source.block), (Mechanism::Archive, &source.archive)] {
        let names: Vec<_> = file.targets.keys().map(String::as_str).collect();
        if !file.targets.contains_key(name) {
            let names = if names.is_empty() { "none is there".to_owned() } else { names.join(", ") };
            let message = format!("expected the name of a target ({names}), found \"{name}\"");
            return Err(wrong(mechanism.as_str(), message));
        }
        if targets.get(name).is_some_and(|target| target.mechanism != mechanism) {
            let message = format!("expected a target with mechanism = \"{mechanism}\", \"{name}\" is the other one");
            return Err(wrong(mechanism.as_str(), message));
        }
    }
    Ok(source)
}
