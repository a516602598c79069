//! The list of everything a point holds: which segments there are, and reading them.
//!
//! A catalog is an *index* object, which names the *segments* in their order, and the segments,
//! which hold the lines. Both are sealed; their names are digests of their stored bytes, and the
//! signed manifest names the index, so a reader that starts there cannot be given a stranger's.

pub mod entry;
pub mod segment;

pub mod stream;

use serde::{Deserialize, Serialize};

use dualsync_model::path::{PathError, PathField, RawPath};

use crate::digest::Digest;
use crate::format::{LINE_BYTES_MAX, SEGMENT_STORED_BYTES_MAX, catalog_key};

/// One line of an index: a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SegmentLine", into = "SegmentLine")]
pub struct SegmentRef {
    /// SHA-256 of its stored bytes, which is its name.
    pub sha256: Digest,
    /// Stored bytes.
    pub bytes: u64,
    /// Entries that begin in it.
    pub entries: u64,
    /// SHA-256 of its lines: tells the next run that a segment has not changed. It stands here,
    /// inside encryption, and nowhere else.
    pub plain_sha256: Digest,
    /// The path of the entry that its first line is, or, where that line holds parts, belongs to.
    pub first: RawPath,
}

impl SegmentRef {
    /// Its key.
    pub fn key(&self) -> String {
        catalog_key(&self.sha256.hex())
    }
}

#[derive(Serialize, Deserialize)]
struct SegmentLine {
    segment: Digest,
    bytes: u64,
    entries: u64,
    plain_sha256: Digest,
    #[serde(flatten)]
    first: PathField,
}

impl From<SegmentRef> for SegmentLine {
    fn from(it: SegmentRef) -> Self {
        Self {
            segment: it.sha256,
            bytes: it.bytes,
            entries: it.entries,
            plain_sha256: it.plain_sha256,
            first: PathField::from(&it.first),
        }
    }
}

impl TryFrom<SegmentLine> for SegmentRef {
    type Error = PathError;

    fn try_from(line: SegmentLine) -> Result<Self, PathError> {
        Ok(Self {
            sha256: line.segment,
            bytes: line.bytes,
            entries: line.entries,
            plain_sha256: line.plain_sha256,
            first: line.first.try_into()?,
        })
    }
}

/// Reads the index out of its lines.
pub fn parse_index(plain: &[u8]) -> Result<Vec<SegmentRef>, IndexError> {
    let mut segments: Vec<SegmentRef> = Vec::new();
    for line in plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line.len() > LINE_BYTES_MAX {
            return Err(IndexError::Bounds("a line that is too long"));
        }
        let segment: SegmentRef = serde_json::from_slice(line).map_err(IndexError::Json)?;
        if segment.bytes > SEGMENT_STORED_BYTES_MAX {
            return Err(IndexError::Bounds("a segment that is too long"));
        }
        if segments.last().is_some_and(|last| last.first > segment.first) {
            return Err(IndexError::Bounds("segments out of order"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Writes an index.
pub fn write_index(segments: &[SegmentRef]) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in segments {
        serde_json::to_writer(&mut out, segment).expect("plain data into memory cannot fail");
        out.push(b'\n');
    }
    out
}

/// An index that no writer of this format makes.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not the JSON of a line.
    #[error("a line of the catalog's index is not readable")]
    Json(#[source] serde_json::Error),
    /// A value outside its bounds.
    #[error("the catalog's index has {0}")]
    Bounds(&'static str),
}
