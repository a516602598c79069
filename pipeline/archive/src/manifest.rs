//! `manifest.json`, the object that makes a copy exist.
//!
//! It names by digest everything else that belongs to the point, and it stands in a chain: its own
//! number, the digest of the manifest before it, the list of all points alive, and what was
//! dropped since. It is in clear, for who prunes or scrubs without a key, so it holds nothing of what is
//! *in* the source but counts; names of files stand in the sealed catalog only. Its signature is
//! an object beside it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use dualsync_model::id::{PointId, RunId, SourceName};
use dualsync_model::job::{Anchor, Class};
use dualsync_model::time::{Date, Timestamp};

use crate::digest::Digest;
use crate::format::{FORMAT, Folder, MANIFEST_NAME, VERSION, point_key};
use crate::inside;
use crate::minisign::{MinisignError, PublicKey, SecretKey};

/// A manifest of version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// The point.
    pub point: PointId,
    /// Its folder under `points/<source>/`.
    pub folder: String,
    /// Its number in the repository, from 1.
    pub sequence: u64,
    /// Digest of the manifest with the number before, of any source; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Anchor>,
    /// Every other point alive when this one was made.
    pub ledger: Vec<LedgerLine>,
    /// Points of the manifest before that are alive no more, and why.
    #[serde(default)]
    pub dropped: Vec<Drop>,
    /// Newest manifest of the other target, as the host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Anchor>,
    /// The run that made it.
    pub run: RunId,
    /// The date it counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// A person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When a manual point may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Who can open *all* that the point needs: recipients of this run, and of every one whose objects it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Who opens the volumes that the point needs, by the nights that made them: each entry needs one identity.
    /// Volumes of before this member was there are in none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<Content>,
    /// The frozen moment.
    pub snapshot: SnapshotInfo,
    /// What the writer was told to leave out.
    pub exclude: Vec<String>,
    /// Where everything is.
    pub objects: Objects,
    /// Counts.
    pub stats: Stats,
    /// The stored bytes of the catalog's index, in base64, where they are few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

/// Nights whose volumes the same identities open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Recipients, each of which opens them.
    pub to: Vec<String>,
    /// Folders of the nights.
    pub folders: Vec<String>,
}

impl Content {
    /// What a point says that needs the volumes of these folders: of its own night sealed to `to`, of older ones
    /// what its parent said.
    pub fn of(folders: &BTreeSet<String>, own: &str, to: &[String], parent: &[Self]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut add = |to: &[String], folders: Vec<String>| match all.iter_mut().find(|content| content.to == to) {
            _ if folders.is_empty() => {}
            Some(content) => content.folders.extend(folders),
            None => all.push(Self { to: to.to_vec(), folders }),
        };
        add(to, folders.iter().filter(|folder| *folder == own).cloned().collect());
        for content in parent {
            let still = content.folders.iter().filter(|folder| *folder != own && folders.contains(*folder));
            add(&content.to, still.cloned().collect());
        }
        all
    }
}

/// A point alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The point.
    pub point: PointId,
    /// Its folder.
    pub folder: String,
    /// The date it counts for.
    pub business_date: Date,
    /// Number and digest of its manifest.
    #[serde(flatten)]
    pub anchor: Anchor,
}

/// A point that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The point, as the ledger had it.
    #[serde(flatten)]
    pub line: LedgerLine,
    /// `marked` when its deletion was announced, `absent` when it was just not there any more.
    pub reason: String,
}

/// What is told of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Names the moment.
    pub id: String,
    /// How it was taken.
    pub method: String,
    /// Whether the source stood still.
    pub frozen: bool,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// Digests of everything that belongs to the point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// The catalog's index, see [`crate::catalog`]; its key follows from the digest.
    pub catalog: Stored,
    /// `refs.jsonl`.
    pub refs: Stored,
    /// `SHA256SUMS`.
    pub sums: Stored,
    /// `README.txt` of the repository.
    pub readme: Digest,
    /// `recover.py` of the repository.
    pub recover: Digest,
    /// `repo.json`.
    pub repo: Digest,
}

/// Size and digest of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Stored bytes.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

impl Stored {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: Digest::of(bytes) }
    }
}

/// Counts of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Entries in the catalog.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of all files, holes and every name of a hard link counted.
    pub size_bytes: u64,
    /// Bytes read from the source this time.
    pub read_bytes: u64,
    /// Stored bytes of all objects the point needs.
    pub stored_bytes: u64,
    /// Of these, the bytes it really uses; absent in manifests of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    /// Stored bytes it added.
    pub added_bytes: u64,
    /// Bytes that were sent again because the volume that held them is mostly dead.
    pub repacked_bytes: u64,
    /// Entries that could not be read, or changed meanwhile.
    pub incomplete_entries: u64,
    /// From the start of the run to this manifest, seconds.
    pub duration_s: u64,
}

/// Why a manifest is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not made by the pinned key, or changed since.
    #[error("the signature of {key} is not accepted")]
    Signature {
        /// The manifest.
        key: String,
        /// Why.
        #[source]
        source: MinisignError,
    },
    /// Rightly signed, but for another place.
    #[error("{key} is a manifest of {found}, put where it does not belong")]
    Moved {
        /// Where it was found.
        key: String,
        /// What it says it is.
        found: String,
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
        /// The manifest.
        key: String,
        /// Its version.
        version: u64,
    },
    /// Not the JSON of a manifest.
    #[error("{key} is not readable")]
    Json {
        /// The manifest.
        key: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// The fields that every version has.
#[derive(Deserialize)]
struct Preface {
    format: String,
    version: u64,
}

impl Manifest {
    /// Reads the manifest found under `key` after its signature was checked against the pinned key,
    /// and only if it says that it belongs there.
    pub fn open(
        key: &str,
        bytes: &[u8],
        signature: &str,
        public: &PublicKey,
        repository: &str,
    ) -> Result<Self, ManifestError> {
        let refused = |source| ManifestError::Signature { key: key.to_owned(), source };
        let comment = public.verify(bytes, signature).map_err(refused)?;
        let manifest = Self::read(key, bytes, repository)?;
        if manifest.comment() == comment { Ok(manifest) } else { Err(manifest.moved(key)) }
    }

    /// The same by the signature that stands in it; manifests of earlier releases have none.
    pub fn open_alone(key: &str, bytes: &[u8], public: &PublicKey, repository: &str) -> Result<Self, ManifestError> {
        let refused = |source| ManifestError::Signature { key: key.to_owned(), source };
        inside::verify(bytes, public).map_err(refused)?;
        Self::read(key, bytes, repository)
    }

    /// What belongs under `key` in this repository, out of bytes that are proved.
    fn read(key: &str, bytes: &[u8], repository: &str) -> Result<Self, ManifestError> {
        let json = |source| ManifestError::Json { key: key.to_owned(), source };
        let preface: Preface = serde_json::from_slice(bytes).map_err(json)?;
        if preface.format != FORMAT {
            return Err(ManifestError::Format { key: key.to_owned(), found: preface.format });
        }
        if preface.version != u64::from(VERSION) {
            return Err(ManifestError::Version { key: key.to_owned(), version: preface.version });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(json)?;
        let belongs = manifest.repository == repository && manifest.key().as_deref() == Some(key);
        if belongs { Ok(manifest) } else { Err(manifest.moved(key)) }
    }

    fn moved(&self, key: &str) -> ManifestError {
        ManifestError::Moved { key: key.to_owned(), found: self.comment() }
    }

    /// The stored bytes of the catalog's index, if they are in here and are those that `objects` names.
    pub fn index(&self) -> Option<Bytes> {
        let bytes = STANDARD.decode(self.index.as_ref()?).ok()?;
        (Stored::of(&bytes) == self.objects.catalog).then(|| bytes.into())
    }

    /// The bytes to store, signed inside.
    pub fn to_signed(&self, secret: &SecretKey) -> Vec<u8> {
        inside::sign(&self.to_bytes(), secret)
    }

    /// The bytes without that.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data into memory cannot fail");
        bytes.push(b'\n');
        bytes
    }

    /// The trusted comment of the signature.
    pub fn comment(&self) -> String {
        format!(
            "repository={} source={} point={} sequence={}",
            self.repository,
            self.source(),
            self.point,
            self.sequence
        )
    }

    /// The source.
    pub fn source(&self) -> &SourceName {
        self.point.source()
    }

    /// Key of this manifest; `None` when its folder is no folder.
    pub fn key(&self) -> Option<String> {
        self.object_key(MANIFEST_NAME)
    }

    /// Key of an object beside this manifest.
    pub fn object_key(&self, name: &str) -> Option<String> {
        let folder = Folder::parse(&self.folder)?;
        (folder.time() == self.point.time()).then(|| point_key(self.source(), &folder, name))
    }
}

#[cfg(test)]
pub(crate) mod tests;
