//! Small signed objects: `repo.json`, heartbeats, checkpoints.
//!
//! A record and its signature are one object, so that neither can be there without the other and
//! no request is spent on the second: `{"record":"<JSON text>","minisig":"<text of a .minisig file>"}`.
//! Both fields unpack to files that the stock `minisign -V` accepts.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::format::{FORMAT, VERSION};
use crate::minisign::{MinisignError, PublicKey, SecretKey};

#[derive(Serialize, Deserialize)]
struct Envelope {
    record: String,
    minisig: String,
}

#[derive(Deserialize)]
struct Preface {
    format: String,
    version: u64,
    #[serde(default)]
    repository: Option<String>,
}

/// Why a record is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON of a record.
    #[error("{key} is not readable")]
    Json {
        /// The object.
        key: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Of another format altogether.
    #[error("{key} is of the format '{found}', and not of '{FORMAT}'")]
    Format {
        /// The object.
        key: String,
        /// What it says it is.
        found: String,
    },
    /// A version this program does not know.
    #[error("{key} has version {version}, and this program knows {VERSION}: use a newer dualsync")]
    Version {
        /// The object.
        key: String,
        /// Its version.
        version: u64,
    },
    /// Rightly signed, in another repository of the same key.
    #[error("{key} belongs to another repository")]
    OtherRepository {
        /// The object.
        key: String,
    },
    /// Not made by the pinned key, changed since, or made for another key of the store.
    #[error("the signature of {key} is not accepted")]
    Signature {
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: MinisignError,
    },
}

/// The bytes to store under `key`.
pub fn write<T: Serialize>(key: &str, record: &T, secret: &SecretKey) -> Vec<u8> {
    let record = serde_json::to_string(record).expect("plain data into memory cannot fail");
    let minisig = secret.sign(record.as_bytes(), &comment(key));
    let mut bytes =
        serde_json::to_vec_pretty(&Envelope { record, minisig }).expect("plain data into memory cannot fail");
    bytes.push(b'\n');
    bytes
}

/// Reads the record found under `key` in the repository with this id. One signing key may serve several
/// repositories: what was made for the same place in another one counts for nothing here.
pub fn open_in<T: DeserializeOwned>(
    repository: &str,
    key: &str,
    bytes: &[u8],
    public: &PublicKey,
) -> Result<T, RecordError> {
    open_checked(key, bytes, public, |preface| preface.repository.as_deref() == Some(repository))
}

/// Reads the record found under `key`; its signature is checked before its content is looked at.
pub fn open<T: DeserializeOwned>(key: &str, bytes: &[u8], public: &PublicKey) -> Result<T, RecordError> {
    open_checked(key, bytes, public, |_| true)
}

fn open_checked<T: DeserializeOwned>(
    key: &str,
    bytes: &[u8],
    public: &PublicKey,
    belongs: impl Fn(&Preface) -> bool,
) -> Result<T, RecordError> {
    let json = |source| RecordError::Json { key: key.to_owned(), source };
    let signature = |source| RecordError::Signature { key: key.to_owned(), source };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(json)?;
    let said = public.verify(envelope.record.as_bytes(), &envelope.minisig).map_err(signature)?;
    if said != comment(key) {
        return Err(signature(MinisignError::Forged));
    }
    let preface: Preface = serde_json::from_str(&envelope.record).map_err(json)?;
    if preface.format != FORMAT {
        return Err(RecordError::Format { key: key.to_owned(), found: preface.format });
    }
    if preface.version != u64::from(VERSION) {
        return Err(RecordError::Version { key: key.to_owned(), version: preface.version });
    }
    if !belongs(&preface) {
        return Err(RecordError::OtherRepository { key: key.to_owned() });
    }
    serde_json::from_str(&envelope.record).map_err(json)
}

/// What the record says of itself before anything is checked: only to word a refusal.
pub fn peek<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
    serde_json::from_str(&envelope.record).ok()
}

/// The trusted comment: a record counts only under the key it was made for.
fn comment(key: &str) -> String {
    format!("object={key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::secret;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Note {
        format: String,
        version: u32,
        text: String,
    }

    fn note(version: u32) -> Note {
        Note { format: FORMAT.into(), version, text: "ä".into() }
    }

    #[test]
    fn a_record_opens_under_its_own_key_only() {
        let bytes = write("runs/web/1", &note(1), &secret());
        assert_eq!(open::<Note>("runs/web/1", &bytes, &secret().public()).unwrap(), note(1));
        assert!(matches!(open::<Note>("runs/web/2", &bytes, &secret().public()), Err(RecordError::Signature { .. })));
    }

    #[test]
    fn changed_foreign_and_future_records_are_told_apart() {
        let bytes = write("k", &note(1), &secret());
        let text = String::from_utf8(bytes).unwrap().replace('ä', "ö");
        assert!(matches!(open::<Note>("k", text.as_bytes(), &secret().public()), Err(RecordError::Signature { .. })));
        assert!(matches!(open::<Note>("k", b"{}", &secret().public()), Err(RecordError::Json { .. })));
        let future = write("k", &note(2), &secret());
        assert!(matches!(open::<Note>("k", &future, &secret().public()), Err(RecordError::Version { version: 2, .. })));
        let other = write("k", &Note { format: "other".into(), ..note(1) }, &secret());
        assert!(matches!(open::<Note>("k", &other, &secret().public()), Err(RecordError::Format { .. })));
        assert_eq!(peek::<Note>(&future).unwrap().version, 2);
    }
}
