//! What can be looked at without a store: programs, keys, space, snapshot tools, and what is shared.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use dualsync_config::source::{SnapshotDriver, SourceSettings};
use dualsync_config::target::TargetSettings;
use dualsync_model::job::{Keys, Place};
use dualsync_model::secret::SecretRef;

use super::Row;
use crate::app::App;
use crate::exit::with_causes;
use crate::human;
use crate::lock::RunLock;
use crate::mechanism::Mechanism;
use crate::moment;
use crate::output::Light;

/// Below this a run may fill the disk with its spill files.
const SPACE_BYTES_MIN: u64 = 64 << 20;
/// Below this somebody should look.
const SPACE_BYTES_WANTED: u64 = 1 << 30;

/// The two programs and the state folder.
pub fn host(app: &App<'_>) -> Vec<Row> {
    let mut rows: Vec<_> = Mechanism::BOTH
        .into_iter()
        .map(|mechanism| match app.program(mechanism) {
            Ok(path) => Row::new("host", format!("{mechanism} program"), Light::Ok, path.display().to_string()),
            Err(error) => Row::new("host", format!("{mechanism} program"), Light::Fail, error.to_string()),
        })
        .collect();
    rows.push(match app.create_state() {
        Ok(()) => space(app.state.root()),
        Err(error) => Row::new("host", "state", Light::Fail, with_causes(&*error)),
    });
    rows
}

fn space(folder: &Path) -> Row {
    let row = |light, detail| Row::new("host", "state", light, format!("{}: {detail}", folder.display()));
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let light = match free {
                0..SPACE_BYTES_MIN => Light::Fail,
                SPACE_BYTES_MIN..SPACE_BYTES_WANTED => Light::Warn,
                SPACE_BYTES_WANTED.. => Light::Ok,
            };
            row(light, format!("{} free", human::bytes(free)))
        }
        Err(errno) => row(Light::Fail, errno.to_string()),
    }
}

/// The source and the way it is held still.
pub fn source(app: &App<'_>, source: &SourceSettings) -> Vec<Row> {
    let subject = format!("source {}", source.name);
    let mut rows = vec![
        look(&subject, "device", &source.device),
        look(&subject, "tree", &source.tree),
        snapshot(app, source, &subject),
    ];
    rows.extend(leftovers(app, source, &subject));
    if source.schedule.is_none() {
        rows.push(Row::new(subject, "schedule", Light::Warn, "none: runs by hand only, so no date is ever due"));
    }
    rows
}

fn look(subject: &str, name: &str, path: &Path) -> Row {
    match std::fs::File::open(path) {
        Ok(_) => Row::new(subject, name, Light::Ok, path.display().to_string()),
        Err(error) => Row::new(subject, name, Light::Fail, format!("{}: {error}", path.display())),
    }
}

fn snapshot(app: &App<'_>, source: &SourceSettings, subject: &str) -> Row {
    let row = |light, detail: String| Row::new(subject, "snapshot", light, detail);
    match &source.snapshot {
        SnapshotDriver::None { idle: true } => {
            row(Light::Warn, "none: read as it is, on your word that nothing writes".to_owned())
        }
        SnapshotDriver::None { idle: false } => {
            row(Light::Warn, "none: read as it is; refused while it is mounted read-write".to_owned())
        }
        SnapshotDriver::Freeze => freeze(app, &row),
        SnapshotDriver::Command { take, release, check } => {
            let programs = [Some(take), Some(release), check.as_ref()];
            let missing = programs
                .into_iter()
                .flatten()
                .filter_map(|command| command.split_whitespace().next())
                .find(|program| !is_program(program));
            match missing {
                Some(program) => row(Light::Fail, format!("command: {program} is no program this user may run")),
                None => row(Light::Ok, format!("command: {take}")),
            }
        }
    }
}

/// Releases what a killed run left standing. A run that goes on has its own snapshot, which is none.
fn leftovers(app: &App<'_>, source: &SourceSettings, subject: &str) -> Vec<Row> {
    let Ok(lock) = RunLock::take(&app.state.locks(), &source.name) else { return Vec::new() };
    let row = |light, detail| Row::new(subject, "left over", light, detail);
    let told = |released: Result<String, moment::LeftoverError>| match released {
        Ok(said) => row(Light::Warn, said),
        Err(error) => row(Light::Fail, with_causes(&error)),
    };
    moment::release_leftovers(&app.state, &source.name, &lock).into_iter().map(told).collect()
}

fn freeze(app: &App<'_>, row: &impl Fn(Light, String) -> Row) -> Row {
    if !rustix::process::geteuid().is_root() {
        return row(Light::Fail, "freeze: needs root".to_owned());
    }
    // Without arguments the watchdog ends at once, with the code for wrong usage: it can be started.
    let watchdog = moment::watchdog();
    let started = Command::new(&watchdog.program)
        .args(&watchdog.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match started {
        Ok(status) if status.code() == Some(2) => {
            row(Light::Ok, format!("freeze: for at most {}", human::duration(app.settings.limits.freeze)))
        }
        Ok(status) => row(Light::Fail, format!("freeze: the watchdog ended with {status}")),
        Err(error) => row(Light::Fail, format!("freeze: the watchdog could not be started: {error}")),
    }
}

fn is_program(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Key and credential files: there, and for their owner only.
pub fn keys(name: &str, target: &TargetSettings) -> Vec<Row> {
    let keys = match &target.keys {
        Keys::Block { key } => vec![("key", key)],
        Keys::Archive { identity, signing_key, .. } => vec![("identity", identity), ("signing_key", signing_key)],
    };
    let credentials = target.target.credentials.iter().map(|secret| ("credentials", secret));
    let subject = format!("target {name}");
    keys.into_iter()
        .chain(credentials)
        .filter_map(|(label, secret)| match secret {
            SecretRef::File(path) => Some(secret_file(&subject, label, path)),
            // The programs resolve these themselves, and say so when they cannot.
            SecretRef::Systemd(_) | SecretRef::Env(_) | SecretRef::Command(_) => None,
        })
        .collect()
}

fn secret_file(subject: &str, label: &str, path: &Path) -> Row {
    let row = |light, detail: String| Row::new(subject, label, light, format!("{}: {detail}", path.display()));
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            row(Light::Fail, format!("mode {:04o}, others can read it: chmod 600", metadata.mode() & 0o7777))
        }
        Ok(metadata) => row(Light::Ok, format!("mode {:04o}", metadata.mode() & 0o7777)),
        Err(error) => row(Light::Fail, error.to_string()),
    }
}

/// What both copies of a source still have in common: a fault there can reach both.
pub fn shared(app: &App<'_>) -> Vec<Row> {
    let mut rows = vec![Row::new(
        "shared",
        "host",
        Light::Ok,
        "this host, its kernel, clock and network; the snapshot; the state folder; a few crates (docs/shared-crates.txt)",
    )];
    for source in &app.settings.sources {
        let pair = Mechanism::BOTH.map(|mechanism| &app.settings.target(source, mechanism).target.place);
        if let [Place::Directory { path: block }, Place::Directory { path: archive }] = pair {
            rows.push(directories(source, block, archive));
        }
    }
    rows
}

fn directories(source: &SourceSettings, block: &Path, archive: &Path) -> Row {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    let subject = format!("source {}", source.name);
    match (device(block), device(archive)) {
        (Some(block), Some(archive)) if block == archive => Row::new(
            subject,
            "shared disk",
            Light::Warn,
            "both targets lie on one file system: one disk holds both copies",
        ),
        (Some(_), Some(_)) => {
            Row::new(subject, "shared disk", Light::Ok, "the two targets lie on different file systems")
        }
        _ => Row::new(subject, "shared disk", Light::Warn, "not known while a target's folder is not there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_fails_and_a_private_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |expected| assert_eq!(secret_file("t", "key", &path).state, expected);
        check(Light::Fail);
        std::fs::write(&path, "k").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        check(Light::Fail);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        check(Light::Ok);
    }

    #[test]
    fn a_program_is_a_file_that_may_be_run() {
        assert!(is_program("/bin/sh"));
        assert!(!is_program("/etc") && !is_program("/etc/passwd") && !is_program("/nonexistent"));
    }

    #[test]
    fn what_is_not_there_fails() {
        assert_eq!(look("s", "device", Path::new("/nonexistent")).state, Light::Fail);
        assert_eq!(look("s", "tree", Path::new("/")).state, Light::Ok);
        assert_eq!(space(Path::new("/nonexistent")).state, Light::Fail);
    }
}
