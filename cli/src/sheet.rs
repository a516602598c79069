//! The recovery sheet: what a person needs to get the data back without this host and without dualsync.
//!
//! It is the one text of this program that holds secrets. It goes to a terminal or into a new file that
//! only its owner can read, never into a log, JSON, a pipe, or over an older sheet.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::{Keys, Place, Target};
use dualsync_model::path::to_base64;
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::app::App;
use crate::args::SheetArgs;

/// No key file is larger.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// One target on the sheet.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The target.
    pub target: &'a Target,
    /// Its country, as the configuration says.
    pub country: String,
    /// Its keys, as references.
    pub keys: &'a Keys,
    /// What `init` found there.
    pub repository: &'a Repository,
}

/// The sheet could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the recovery sheet {} could not be written", path.display())]
pub struct SheetError {
    path: PathBuf,
    source: io::Error,
}

/// Hands the sheet out to where only a person sees it: a terminal, or a new file.
pub fn hand_out(app: &App<'_>, args: &SheetArgs, made: &[(&TargetSettings, Repository)]) -> Result<(), SheetError> {
    let entries: Vec<_> = made
        .iter()
        .map(|(target, repository)| Entry {
            target: &target.target,
            country: target.claim.country.to_string(),
            keys: &target.keys,
            repository,
        })
        .collect();
    if let Some(path) = &args.sheet {
        save(path, &write(&app.settings.host, app.now, &entries, args.qr))?;
        app.output.note(&format!("the recovery sheet is in {}: move it away from this host", path.display()));
    } else if app.output.is_for_eyes() {
        app.output.say(&write(&app.settings.host, app.now, &entries, args.qr));
    } else {
        app.output.note("the recovery sheet holds secrets and was not written to a pipe: use --sheet FILE");
    }
    Ok(())
}

/// The text of the sheet; with `qr` each secret also as a QR code to be scanned from paper.
pub fn write(host: &str, now: Timestamp, entries: &[Entry<'_>], qr: bool) -> String {
    let mut sheet = format!(
        "DUALSYNC RECOVERY SHEET\n\nHost:     {host}\nWritten:  {}\nVersion:  {}\n\n\
         Whoever holds this sheet and one of the stores can read what the secrets below open: all\n\
         of it, where nothing else is said with the target. Keep it away from this host: printed\n\
         in a safe, or in a password manager. Write a new one after a change\n\
         of keys or targets. How to use it without dualsync: README.txt and recover.py in each\n\
         repository; compare recover.py with the digest below before you run it.\n",
        now.whole_second(),
        env!("CARGO_PKG_VERSION")
    );
    for entry in entries {
        entry.write(&mut sheet, qr);
    }
    sheet
}

/// Creates `path`, readable by its owner only. A file that exists is never replaced.
pub fn save(path: &Path, sheet: &str) -> Result<(), SheetError> {
    let failed = |source| SheetError { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(sheet.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

impl Entry<'_> {
    fn write(&self, sheet: &mut String, qr: bool) {
        let mut line = |label: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(sheet, "{}", format!("  {label:<24} {value}").trim_end());
        };
        line("", "");
        line("TARGET", &self.target.name);
        line("country", &self.country);
        for (label, value) in place(&self.target.place) {
            line(label, &value);
        }
        if !self.target.prefix.is_empty() {
            line("prefix", &self.target.prefix);
        }
        if let Some(credentials) = &self.target.credentials {
            line("credentials", &format!("{credentials} (not printed here)"));
        }
        line("repository", &self.repository.id);
        // What the program tells again of its own accord stands here once.
        let known = [&self.repository.id, &self.repository.recover_sha256];
        for (label, value) in self.repository.facts.iter().filter(|(_, value)| !known.contains(&value)) {
            line(label, value);
        }
        line("recover.py SHA-256", &self.repository.recover_sha256);
        match &self.repository.newest {
            Some(newest) => line("newest manifest", &format!("number {}, SHA-256 {}", newest.sequence, newest.sha256)),
            None => line("newest manifest", "none yet"),
        }
        for (label, secret) in secrets(self.keys) {
            line(label, &secret.to_string());
            let text = reveal(secret);
            for text in text.lines() {
                line("", text);
            }
            if qr {
                for text in qr_lines(label, &text) {
                    line("", &text);
                }
            }
        }
    }
}

/// Where the target is, label and value.
fn place(place: &Place) -> Vec<(&'static str, String)> {
    match place {
        Place::S3 { endpoint, region, bucket } => {
            vec![("endpoint", endpoint.clone()), ("region", region.clone()), ("bucket", bucket.clone())]
        }
        Place::Directory { path } => vec![("directory", path.display().to_string())],
        Place::Service { service, options } => {
            let options = options.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
            vec![("service", service.clone()), ("options", options.join(" "))]
        }
    }
}

fn secrets(keys: &Keys) -> Vec<(&'static str, &SecretRef)> {
    match keys {
        Keys::Block { key } => vec![("SECRET repository key", key)],
        Keys::Archive { identity, signing_key, .. } => {
            vec![("SECRET age identity", identity), ("SECRET signing key", signing_key)]
        }
    }
}

/// The text of a secret; a key that cannot be read says so on the sheet, where a person will see it.
fn reveal(secret: &SecretRef) -> String {
    let bytes = match secret {
        SecretRef::File(path) => read(path),
        SecretRef::Systemd(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(folder) => read(&Path::new(&folder).join(name)),
            None => Err(io::Error::other("$CREDENTIALS_DIRECTORY is not set")),
        },
        SecretRef::Env(name) => std::env::var(name).map(String::into_bytes).map_err(io::Error::other),
        SecretRef::Command(_) => return "(kept where the command finds it, not printed here)".to_owned(),
    };
    match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(binary)) => format!("base64 of the file: {}", to_base64(binary.as_bytes())),
        Err(error) => format!("COULD NOT BE READ: {error}"),
    }
}

/// A secret as a QR code: ink where the code is dark, so that it can be scanned from white paper. It holds the text
/// above it, byte for byte, which is the key file.
fn qr_lines(label: &str, text: &str) -> Vec<String> {
    // A quarter of the code may be stained or folded away.
    let code = match QrCode::with_error_correction_level(text, EcLevel::Q) {
        Ok(code) => code,
        Err(error) => return vec![format!("(no QR code: {error})")],
    };
    let (ink, paper) = (Dense1x2::Dark, Dense1x2::Light);
    let drawn = code.render::<Dense1x2>().dark_color(ink).light_color(paper).build();
    let name = label.trim_start_matches("SECRET ");
    let caption = format!("QR code of the {name}: the lines above, to be scanned into a file");
    std::iter::once(caption).chain(drawn.lines().map(str::to_owned)).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SECRET_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use dualsync_model::job::Anchor;

    use super::*;

    fn repository() -> Repository {
        Repository {
            id: "0011".into(),
            created: true,
            keys_created: vec![],
            facts: vec![("key id".into(), "beef".into())],
            signing_public: None,
            recover_sha256: "abcd".into(),
            newest: Some(Anchor { sequence: 7, sha256: "77".into() }),
        }
    }

    fn target() -> Target {
        Target {
            name: "frankfurt".into(),
            place: Place::S3 { endpoint: "https://s3.example".into(), region: "fsn1".into(), bucket: "acme".into() },
            prefix: "web-01".into(),
            credentials: Some("env:STORE".parse().unwrap()),
            immutability: None,
        }
    }

    fn sheet(key: &SecretRef) -> String {
        let (target, repository, keys) = (target(), repository(), Keys::Block { key: key.clone() });
        let entry = Entry { target: &target, country: "DE".into(), keys: &keys, repository: &repository };
        write("web-01", Timestamp::from_seconds(0), &[entry], false)
    }

    #[test]
    fn everything_that_recovery_needs_is_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("block.key");
        std::fs::write(&key, "line-1\nline-2\n").unwrap();
        let text = sheet(&SecretRef::File(key));
        for needed in [
            "web-01",
            "frankfurt",
            "DE",
            "https://s3.example",
            "acme",
            "0011",
            "beef",
            "abcd",
            "number 7",
            "line-1",
            "line-2",
        ] {
            assert!(text.contains(needed), "{needed} is not in\n{text}");
        }
    }

    #[test]
    fn a_qr_code_is_drawn_with_ink_where_it_is_dark() {
        let lines = qr_lines("SECRET repository key", "line-1\nline-2\n");
        assert!(lines[0].starts_with("QR code of the repository key"), "{}", lines[0]);
        let first = lines[1..].iter().find(|line| !line.trim().is_empty()).expect("a line with ink");
        // The corner pattern: a dark line of seven, below it a dark frame around light.
        let corner = first.trim();
        assert!(corner.starts_with("\u{2588}\u{2580}\u{2580}\u{2580}\u{2580}\u{2580}\u{2588} "), "{corner}");
        assert!(lines[1].trim().is_empty(), "white around it, or a scanner does not see where it begins");
    }

    #[test]
    fn a_binary_key_is_printed_as_base64_and_a_missing_one_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("block.key");
        std::fs::write(&key, [0xff, 0xfe, 0xfd]).unwrap();
        assert!(sheet(&SecretRef::File(key.clone())).contains("base64 of the file: //79"));
        std::fs::remove_file(&key).unwrap();
        assert!(sheet(&SecretRef::File(key)).contains("COULD NOT BE READ"));
    }

    #[test]
    fn a_sheet_is_private_and_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.txt");
        save(&path, "one").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(save(&path, "two").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }
}
