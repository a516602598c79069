//! One target: where it is, how its copies are sealed, what is claimed about its country.

use std::path::{Path, PathBuf};

use dualsync_model::job::{Keys, LockMode, Place, Target};
use dualsync_model::secret::SecretRef;
use dualsync_rules::country::Country;
use dualsync_rules::endpoint::Endpoint;
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::residency::{Claim, Spot};

use crate::error::{Mistake, nearest};
use crate::file::TargetEntry;

/// A target that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSettings {
    /// Which path writes to it.
    pub mechanism: Mechanism,
    /// For jobs.
    pub target: Target,
    /// For jobs.
    pub keys: Keys,
    /// For the policy.
    pub claim: Claim,
}

/// Kinds that opendal knows and this release was not built with.
const KINDS_LATER: [&str; 8] = ["sftp", "webdav", "b2", "swift", "azblob", "gcs", "ftp", "hdfs"];

const SECRET: &str = "file:/ABSOLUTE/PATH, systemd:NAME, env:NAME or command:PROGRAM ARGUMENTS";

/// What the entry `name` means.
pub(crate) fn read(name: &str, entry: &TargetEntry) -> Result<TargetSettings, Mistake> {
    let fields = Fields { key: format!("targets.{name}") };
    if !is_name(name) {
        return Err(Mistake::new(&fields.key, "expected a name of 1 to 64 of a-z 0-9 _ -"));
    }
    let mechanism = mechanism(&fields, entry)?;
    let country =
        fields.parsed("country", entry.country.as_ref(), "a two-letter country code like \"DE\"", |text| {
            text.parse::<Country>()
        })?;
    let (place, spot) = place(&fields, entry)?;
    let credentials = entry.credentials.as_ref().map(|_| fields.secret("credentials", entry.credentials.as_ref()));
    let target = Target {
        name: name.to_owned(),
        place,
        prefix: prefix(&fields, entry.prefix.as_deref().unwrap_or_default())?,
        credentials: credentials.transpose()?,
        immutability: immutability(&fields, entry)?,
    };
    let claim = Claim {
        target: name.to_owned(),
        country,
        provider: entry.provider.clone(),
        spot,
        credentials: target.credentials.as_ref().map(ToString::to_string),
    };
    Ok(TargetSettings { mechanism, target, keys: keys(&fields, mechanism, entry)?, claim })
}

fn immutability(fields: &Fields, entry: &TargetEntry) -> Result<Option<LockMode>, Mistake> {
    let Some(mode) = entry.immutability.as_deref() else { return Ok(None) };
    if entry.kind.as_deref() != Some("s3") {
        return Err(fields.wrong("immutability", "belongs to kind = \"s3\": only a bucket can lock what it holds"));
    }
    match mode {
        "governance" => Ok(Some(LockMode::Governance)),
        "compliance" => Ok(Some(LockMode::Compliance)),
        other => {
            let expected = format!("expected \"governance\" or \"compliance\", found \"{other}\"");
            Err(fields.wrong("immutability", expected))
        }
    }
}

fn mechanism(fields: &Fields, entry: &TargetEntry) -> Result<Mechanism, Mistake> {
    let text = fields.required("mechanism", entry.mechanism.as_ref(), "\"block\" or \"archive\"")?;
    Mechanism::BOTH
        .into_iter()
        .find(|mechanism| mechanism.as_str() == text)
        .ok_or_else(|| fields.wrong("mechanism", format!("expected \"block\" or \"archive\", found \"{text}\"")))
}

fn place(fields: &Fields, entry: &TargetEntry) -> Result<(Place, Spot), Mistake> {
    const KINDS: &str = "\"s3\" or \"directory\"";
    let s3 = [("endpoint", &entry.endpoint), ("region", &entry.region), ("bucket", &entry.bucket)];
    match fields.required("kind", entry.kind.as_ref(), KINDS)? {
        "s3" => {
            fields.foreign("kind = \"directory\"", &[("path", entry.path.is_some())])?;
            s3_place(fields, entry)
        }
        "directory" => {
            let typed = s3.map(|(key, value)| (key, value.is_some()));
            fields.foreign("kind = \"s3\"", &typed)?;
            fields.foreign("kind = \"s3\"", &[("credentials", entry.credentials.is_some())])?;
            let path = fields.required("path", entry.path.as_ref(), "an absolute path like \"/mnt/nas\"")?;
            let path = absolute(path).map_err(|message| fields.wrong("path", message))?;
            Ok((Place::Directory { path: path.clone() }, Spot::Directory(path)))
        }
        later if KINDS_LATER.contains(&later) => {
            Err(fields.wrong("kind", format!("not built yet: \"{later}\"; this release has {KINDS}")))
        }
        other => {
            let hint = nearest(other, &["s3", "directory"]).map(|name| format!(", did you mean \"{name}\"?"));
            Err(fields.wrong("kind", format!("expected {KINDS}, found \"{other}\"{}", hint.unwrap_or_default())))
        }
    }
}

fn s3_place(fields: &Fields, entry: &TargetEntry) -> Result<(Place, Spot), Mistake> {
    let expected = "a URL like \"https://s3.example.eu\"";
    let endpoint = fields.parsed("endpoint", entry.endpoint.as_ref(), expected, str::parse::<Endpoint>)?;
    let region = fields.required("region", entry.region.as_ref(), "the region that signatures name")?.to_owned();
    let bucket = fields.required("bucket", entry.bucket.as_ref(), "the name of a bucket")?.to_owned();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        return Err(
            fields.wrong("bucket", format!("expected a bucket name of 3 to 63 of a-z 0-9 . -, found \"{bucket}\""))
        );
    }
    if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(fields.wrong("region", format!("expected a region like \"fr-par\", found \"{region}\"")));
    }
    fields.secret("credentials", entry.credentials.as_ref())?;
    let place = Place::S3 { endpoint: endpoint.to_string(), region: region.clone(), bucket };
    Ok((place, Spot::S3 { endpoint, region }))
}

fn keys(fields: &Fields, mechanism: Mechanism, entry: &TargetEntry) -> Result<Keys, Mistake> {
    match mechanism {
        Mechanism::Block => {
            let archive_only = [
                ("identity", entry.identity.is_some()),
                ("signing_key", entry.signing_key.is_some()),
                ("signing_public", entry.signing_public.is_some()),
                ("recipients", entry.recipients.is_some()),
                ("sealed", entry.sealed.is_some()),
            ];
            fields.foreign("mechanism = \"archive\"", &archive_only)?;
            Ok(Keys::Block { key: fields.secret("key", entry.key.as_ref())? })
        }
        Mechanism::Archive => {
            fields.foreign("mechanism = \"block\"", &[("key", entry.key.is_some())])?;
            if entry.signing_public.as_deref().is_some_and(|text| !is_minisign_public(text)) {
                return Err(
                    fields.wrong("signing_public", "expected a minisign public key: RW and 54 letters of base64")
                );
            }
            let recipients = entry.recipients.clone().unwrap_or_default();
            if let Some(at) = recipients.iter().position(|text| !is_age_recipient(text)) {
                let message = "expected an age recipient: age1 and 58 lower-case letters and digits";
                return Err(fields.wrong(&format!("recipients[{at}]"), message));
            }
            let sealed = entry.sealed.unwrap_or(false);
            if sealed && recipients.is_empty() {
                let message = "sealed mode needs recipients: without one, nobody could read what this host stores";
                return Err(fields.wrong("sealed", message));
            }
            Ok(Keys::Archive {
                identity: fields.secret("identity", entry.identity.as_ref())?,
                signing_key: fields.secret("signing_key", entry.signing_key.as_ref())?,
                signing_public: entry.signing_public.clone(),
                recipients,
                sealed,
            })
        }
    }
}

/// A secret key typed here by mistake begins otherwise, and the message does not repeat it.
fn is_minisign_public(text: &str) -> bool {
    text.len() == 56 && text.starts_with("RW") && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
}

fn is_age_recipient(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() == 62 && text.starts_with("age1") && text.bytes().all(plain)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn prefix(fields: &Fields, text: &str) -> Result<String, Mistake> {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
    if text.is_empty() || text.split('/').all(part) {
        Ok(text.to_owned())
    } else {
        Err(fields.wrong(
            "prefix",
            format!("expected a folder like \"web-01\" without . or .. or / at its ends, found \"{text}\""),
        ))
    }
}

/// An absolute path that does not go up.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..") {
        Ok(path.to_path_buf())
    } else {
        Err(format!("expected an absolute path without .., found \"{text}\""))
    }
}

/// The keys of one section.
pub(crate) struct Fields {
    pub(crate) key: String,
}

impl Fields {
    pub(crate) fn wrong(&self, key: &str, message: impl std::fmt::Display) -> Mistake {
        Mistake::new(format!("{}.{key}", self.key), message)
    }

    pub(crate) fn required<'a>(
        &self,
        key: &str,
        value: Option<&'a String>,
        expected: &str,
    ) -> Result<&'a str, Mistake> {
        value.map(String::as_str).ok_or_else(|| self.wrong(key, format!("missing, expected {expected}")))
    }

    fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        value: Option<&String>,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Mistake> {
        parse(self.required(key, value, expected)?).map_err(|error| self.wrong(key, error))
    }

    /// The text is not repeated: it may be the secret itself.
    fn secret(&self, key: &str, value: Option<&String>) -> Result<SecretRef, Mistake> {
        let text = self.required(key, value, SECRET)?;
        text.parse().map_err(|_| self.wrong(key, format!("expected a reference to a secret: {SECRET}")))
    }

    /// Keys that mean nothing here are refused: they were meant to do something.
    pub(crate) fn foreign(&self, belongs: &str, typed: &[(&str, bool)]) -> Result<(), Mistake> {
        match typed.iter().find(|(_, typed)| *typed) {
            Some((key, _)) => Err(self.wrong(key, format!("only allowed with {belongs}"))),
            None => Ok(()),
        }
    }
}
