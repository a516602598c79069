//! The manifest: the object that makes a copy exist, written last.
//!
//! ```text
//! header ‖ clear section ‖ record 0: description (JSON) ‖ records 1..: page references
//! ```
//!
//! The clear section names every pack and map object the point needs, old ones too, with size and
//! live bytes, so that anybody who holds the bucket and no key can prove the set complete. Its
//! digest and the manifest's own key are associated data of every record: neither can be changed
//! or moved by somebody without the repository key. Lists are bounded before memory is taken.

use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{Anchor, Class};
use dualsync_model::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};

use crate::codec::{Compression, Compressor};
use crate::cursor::Cursor;
use crate::digest::Sha256;
use crate::format::{ObjectKind, header, manifest, page};
use crate::keys::KeyTree;
use crate::pagetable::{PageTable, TableReader};
use crate::seal::{NoRandomness, ObjectOpener, ObjectSealer, OpenError, Scratch, check_clear_header};

/// An object that a point needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub sha256: Sha256,
    /// Its stored bytes.
    pub size: u32,
    /// How many of them this point uses.
    pub live: u32,
}

/// What anybody may read of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clear {
    /// Place in the chain of the repository, from 1.
    pub sequence: u64,
    /// Digest of the newest manifest when this one was made.
    pub predecessor: Option<Sha256>,
    /// Map objects, in order of their names.
    pub maps: Vec<Reference>,
    /// Packs, in order of their names.
    pub packs: Vec<Reference>,
}

/// The frozen moment, as the job described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNote {
    /// Names the moment.
    pub id: String,
    /// How it was taken.
    pub method: String,
    /// Whether the source stood still.
    pub frozen: bool,
    /// When it was taken.
    pub taken_at: Timestamp,
}

/// A point that was alive when a manifest was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The point.
    pub point: PointId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Digest of its manifest.
    pub sha256: Sha256,
    /// Key of its manifest, so that a lost one can be named.
    pub manifest: String,
}

/// A point that was dropped since the predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The point.
    pub point: PointId,
    /// Digest of its manifest.
    pub sha256: Sha256,
    /// Why.
    pub reason: String,
}

/// The sealed description of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The point.
    pub point: PointId,
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
    /// The frozen moment.
    pub snapshot: SnapshotNote,
    /// Bytes of the device or image.
    pub source_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// What file system the source begins with, where it was recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<String>,
    /// Globs that the other path left out; for whoever compares.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The other target's newest manifest, as the host knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Anchor>,
    /// Every point alive, this one not among them. A point that vanished without a recorded drop
    /// stays in it, so that the loss stays visible.
    pub ledger: Vec<LedgerLine>,
    /// Points that left since the predecessor.
    #[serde(default)]
    pub drops: Vec<Drop>,
    /// Digest of `repo.json`.
    pub repo_sha256: Sha256,
    /// Digest of `README.txt`.
    pub readme_sha256: Sha256,
    /// Digest of `recover.py`.
    pub recover_sha256: Sha256,
    /// When the manifest was made.
    pub made_at: Timestamp,
    /// What making it took.
    pub stats: Stats,
}

/// What making a point took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Seconds from start to manifest.
    pub duration_s: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Blocks that are stored, old and new.
    pub stored_blocks: u64,
    /// Blocks that were sent.
    pub sent_blocks: u64,
    /// Blocks that were sent again because their pack had become sparse or marked.
    pub resent_blocks: u64,
    /// Blocks not read because they were certainly free.
    pub free_blocks: u64,
    /// Stored bytes added, this manifest not counted.
    pub added_bytes: u64,
}

/// A whole manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What anybody may read.
    pub clear: Clear,
    /// What it says.
    pub description: Description,
    /// Where its pages are.
    pub pages: PageTable,
}

impl Manifest {
    /// Stored bytes of every object the point needs, the manifest not counted.
    pub fn stored_bytes(&self) -> u64 {
        self.clear.maps.iter().chain(&self.clear.packs).map(|reference| u64::from(reference.size)).sum()
    }

    /// How many bytes of them it uses.
    pub fn live_bytes(&self) -> u64 {
        self.clear.maps.iter().chain(&self.clear.packs).map(|reference| u64::from(reference.live)).sum()
    }

    /// The stored bytes for the key that begins with `stem`, and their digest.
    ///
    /// # Panics
    /// When lists are longer than the format's limits, which the writer keeps.
    pub fn seal(&self, keys: &KeyTree, stem: &str) -> Result<(Vec<u8>, Sha256), NoRandomness> {
        let description = serde_json::to_vec(&self.description).expect("a description is plain text and numbers");
        seal_parts(keys, ObjectKind::Manifest, stem, &self.clear, description, &self.pages)
    }

    /// Opens the stored bytes of the manifest whose key begins with `stem`.
    pub fn open(keys: &KeyTree, stem: &str, bytes: &[u8]) -> Result<Self, OpenError> {
        let Parts { clear, text, pages } = open_parts(keys, ObjectKind::Manifest, stem, bytes)?;
        let description: Description = serde_json::from_slice(&text)
            .map_err(|_| OpenError::Malformed("a manifest whose description cannot be read"))?;
        check_geometry(&description, &pages)?;
        Ok(Self { clear, description, pages })
    }
}

/// What manifests and checkpoints are made of.
pub(crate) struct Parts {
    /// The clear section.
    pub clear: Clear,
    /// Record 0.
    pub text: Vec<u8>,
    /// The other records.
    pub pages: PageTable,
}

/// Seals an object with a clear section, a text and pages; `name` is bound to it.
pub(crate) fn seal_parts(
    keys: &KeyTree,
    kind: ObjectKind,
    name: &str,
    clear: &Clear,
    text: Vec<u8>,
    pages: &PageTable,
) -> Result<(Vec<u8>, Sha256), NoRandomness> {
    let clear = clear.encode();
    let mut sealer = ObjectSealer::create(keys, kind, binding(&clear, name))?;
    let mut out = Vec::with_capacity(header::BYTES + clear.len() + (64 << 10));
    out.extend_from_slice(sealer.header());
    out.extend_from_slice(&clear);
    let mut compressor = Compressor::new(Compression::Better);
    let mut bodies = vec![text];
    bodies.extend(pages.encode_records());
    let last = bodies.pop().expect("there is at least the text");
    for body in bodies {
        seal_record(&mut sealer, &body, &mut compressor, &mut out);
    }
    let (codec, body) = compressor.compress(&last);
    sealer.last(codec, length(&last), body, &mut out);
    let sha256 = Sha256::of(&out);
    Ok((out, sha256))
}

/// Opens what [`seal_parts`] sealed.
pub(crate) fn open_parts(keys: &KeyTree, kind: ObjectKind, name: &str, bytes: &[u8]) -> Result<Parts, OpenError> {
    let (clear, clear_bytes) = Clear::read_kind(kind, bytes)?;
    let opener = ObjectOpener::new(keys, kind, bytes, binding(clear_bytes, name))?;
    let rest = &bytes[header::BYTES + clear_bytes.len()..];
    let mut records = Records { opener, rest, next: 0, done: false, scratch: Scratch::default() };
    let text = records.next(manifest::BODY_BYTES_MAX)?.ok_or(OpenError::Truncated)?;
    let names = clear.maps.iter().map(|reference| reference.sha256).collect();
    let mut reader = TableReader::new(names);
    while let Some(body) = records.next(manifest::PAGE_REFS_PER_RECORD * manifest::PAGE_REF_BYTES)? {
        reader.record(&body)?;
    }
    Ok(Parts { clear, text, pages: reader.finish()? })
}

fn seal_record(sealer: &mut ObjectSealer, body: &[u8], compressor: &mut Compressor, out: &mut Vec<u8>) {
    let (codec, packed) = compressor.compress(body);
    sealer.record(codec, length(body), packed, out);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("records of a manifest are bounded by 4 MiB")
}

/// Associated data of a manifest: the digest of its clear section and its key without the digest.
fn binding(clear: &[u8], stem: &str) -> Vec<u8> {
    [&Sha256::of(clear).0[..], stem.as_bytes()].concat()
}

fn check_geometry(description: &Description, pages: &PageTable) -> Result<(), OpenError> {
    let block_bytes = description.block_bytes;
    let known = block_bytes.is_power_of_two()
        && (crate::format::BLOCK_BYTES_MIN..=crate::format::BLOCK_BYTES_MAX).contains(&block_bytes);
    let expected = description.source_bytes.div_ceil(u64::from(block_bytes).max(1)).div_ceil(page::BLOCKS as u64);
    if known && pages.len() as u64 == expected {
        Ok(())
    } else {
        Err(OpenError::Malformed("a manifest whose pages do not fit its source"))
    }
}

struct Records<'a> {
    opener: ObjectOpener,
    rest: &'a [u8],
    next: u32,
    done: bool,
    scratch: Scratch,
}

impl Records<'_> {
    /// The next record's plain bytes; `None` behind the last one, which must end the object.
    fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, OpenError> {
        if self.done {
            return Ok(None);
        }
        let mut plain = Vec::new();
        let head = self.opener.open(self.rest, bytes_max, &mut self.scratch, &mut plain)?;
        if head.number != self.next {
            return Err(OpenError::Malformed("a manifest whose records are not in order"));
        }
        self.rest = &self.rest[head.record_bytes()..];
        self.next += 1;
        self.done = head.last;
        if head.last && !self.rest.is_empty() {
            return Err(OpenError::Malformed("a manifest with bytes behind its end"));
        }
        Ok(Some(plain))
    }
}

impl Clear {
    fn encode(&self) -> Vec<u8> {
        let count = |list: &[Reference]| u32::try_from(list.len()).expect("far fewer objects than 2^32");
        let mut out = Vec::new();
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.predecessor.map_or([0; 32], |sha256| sha256.0));
        out.extend_from_slice(&count(&self.maps).to_le_bytes());
        out.extend_from_slice(&count(&self.packs).to_le_bytes());
        for reference in self.maps.iter().chain(&self.packs) {
            out.extend_from_slice(&reference.sha256.0);
            out.extend_from_slice(&reference.size.to_le_bytes());
            out.extend_from_slice(&reference.live.to_le_bytes());
        }
        out
    }

    /// Reads the clear section of a manifest without any key, and the bytes it takes.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), OpenError> {
        Self::read_kind(ObjectKind::Manifest, bytes)
    }

    fn read_kind(kind: ObjectKind, bytes: &[u8]) -> Result<(Self, &[u8]), OpenError> {
        check_clear_header(bytes)?;
        let section = bytes.get(header::BYTES..).ok_or(OpenError::Truncated)?;
        if bytes[header::KIND_AT] != kind as u8 {
            return Err(OpenError::OtherKind { expected: kind as u8, found: bytes[header::KIND_AT] });
        }
        let mut cursor = Cursor::new(section);
        let sequence = cursor.u64()?;
        let predecessor: [u8; 32] = cursor.array()?;
        let (maps, packs) = (cursor.u32()?, cursor.u32()?);
        if maps > manifest::REFERENCES_MAX || packs > manifest::REFERENCES_MAX {
            return Err(OpenError::Malformed("a manifest that names more objects than it may"));
        }
        let maps = read_references(maps, &mut cursor)?;
        let packs = read_references(packs, &mut cursor)?;
        let taken = section.len() - cursor.rest().len();
        let predecessor = (predecessor != [0; 32]).then_some(Sha256(predecessor));
        Ok((Self { sequence, predecessor, maps, packs }, &section[..taken]))
    }
}

fn read_references(count: u32, cursor: &mut Cursor<'_>) -> Result<Vec<Reference>, OpenError> {
    let count = count as usize;
    // Taken before memory is: a claimed count must be backed by bytes that are there.
    let mut list = Cursor::new(cursor.bytes(count * manifest::REFERENCE_BYTES)?);
    let mut references = Vec::with_capacity(count);
    for _ in 0..count {
        references.push(Reference { sha256: Sha256(list.array()?), size: list.u32()?, live: list.u32()? });
    }
    if references.is_sorted_by(|a: &Reference, b| a.sha256 < b.sha256) {
        Ok(references)
    } else {
        Err(OpenError::Malformed("a manifest whose references are not in order"))
    }
}
