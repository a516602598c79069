//! The lines of a catalog: one [`Entry`] for each entry of the point, and the parts of big files.
//!
//! An entry is complete by itself: names, metadata and digests come from here and from nowhere
//! else; a member of a volume counts only as bytes that must have the digest noted here.

use serde::{Deserialize, Serialize};

use dualsync_model::path::{PathError, PathField, RawPath};

use crate::digest::Digest;
use crate::format::{EXTENTS_MAX, FRAME_BYTES_MAX, PARTS_PER_LINE_MAX, VOLUMES};
use crate::tree::meta::Meta;

/// One line of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An entry.
    Entry(Box<Entry>),
    /// The next parts of the entry above.
    Parts(Vec<Part>),
}

/// One entry of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EntryLine", into = "EntryLine")]
pub struct Entry {
    /// Where, relative to the tree; the root is the empty path.
    pub path: RawPath,
    /// Everything captured about it.
    pub meta: Meta,
    /// SHA-256 of a file's content as the writer read it, holes as zeros; absent for other kinds
    /// and where the content could not be read.
    pub sha256: Option<Digest>,
    /// The member that holds the content, or stands for an entry without content. Absent for
    /// sockets, for files in parts, and where nothing could be read.
    pub at: Option<At>,
    /// How many parts the content is cut into; they follow in [`Line::Parts`] lines. The data of the
    /// file is the parts one after the other, laid over `meta.extents`.
    pub parts: u64,
    /// What the writer saw go wrong.
    pub state: State,
    /// A directory that another file system is mounted on: its own entries are not in the point.
    pub mount_point: bool,
}

/// How well an entry could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    #[default]
    Good,
    /// It changed, shrank or vanished while it was read; what is stored is what was read.
    Changed {
        /// What was seen.
        problem: String,
    },
    /// It could not be read; no content is stored.
    Unreadable {
        /// What was seen.
        problem: String,
    },
}

/// Where the member of an entry or part lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct At {
    /// Key of the volume.
    pub volume: String,
    /// Number of the member in its volume, from 0.
    pub member: u32,
    /// First byte of its frame in what age unpacks from the volume.
    pub frame: u64,
    /// Bytes of the frame there.
    pub frame_bytes: u64,
    /// First byte of the member, its pax header included, in what the frame unpacks to.
    pub offset: u64,
    /// Bytes of the member, headers and padding included.
    pub bytes: u64,
}

/// One part of a big file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many they are.
    pub bytes: u64,
    /// The member that holds them.
    pub at: At,
}

/// A line that no writer of this format makes.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not the JSON of a line.
    #[error("a catalog line is not readable")]
    Json(#[source] serde_json::Error),
    /// A value outside its bounds.
    #[error("a catalog line has {0}")]
    Bounds(&'static str),
}

impl Line {
    /// Reads one line, without its end.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        if line.starts_with(br#"{"parts":["#) {
            let PartsLine { parts } = serde_json::from_slice(line).map_err(LineError::Json)?;
            let sound = (1..=PARTS_PER_LINE_MAX).contains(&parts.len()) && parts.iter().all(|part| part.at.is_sound());
            return if sound { Ok(Self::Parts(parts)) } else { Err(LineError::Bounds("parts out of bounds")) };
        }
        let entry: Entry = serde_json::from_slice(line).map_err(LineError::Json)?;
        entry.check()?;
        Ok(Self::Entry(Box::new(entry)))
    }

    /// Writes the line, with its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Entry(entry) => serde_json::to_writer(&mut *out, entry.as_ref()),
            Self::Parts(parts) => serde_json::to_writer(&mut *out, &PartsLineRef { parts }),
        };
        written.expect("plain data into memory cannot fail");
        out.push(b'\n');
    }
}

impl Entry {
    fn check(&self) -> Result<(), LineError> {
        let path = self.path.as_bytes();
        let plain = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        if !path.is_empty() && !path.split(|b| *b == b'/').all(plain) {
            return Err(LineError::Bounds("a path that leads out of the tree"));
        }
        if self.meta.extents.as_ref().is_some_and(|extents| extents.len() > EXTENTS_MAX)
            || !self.meta.extents_are_sound()
        {
            return Err(LineError::Bounds("extents out of bounds"));
        }
        if self.at.as_ref().is_some_and(|at| !at.is_sound()) || (self.at.is_some() && self.parts > 0) {
            return Err(LineError::Bounds("a place out of bounds"));
        }
        Ok(())
    }
}

impl At {
    fn is_sound(&self) -> bool {
        let frame_bytes_max = FRAME_BYTES_MAX as u64;
        self.volume.starts_with(VOLUMES)
            && self.frame.checked_add(self.frame_bytes).is_some()
            && self.frame_bytes <= 2 * frame_bytes_max
            && self.offset.checked_add(self.bytes).is_some_and(|end| end <= frame_bytes_max)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartsLine {
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct PartsLineRef<'a> {
    parts: &'a [Part],
}

/// The JSON form: path and metadata flattened, absent fields left out.
#[derive(Serialize, Deserialize)]
struct EntryLine {
    #[serde(flatten)]
    path: PathField,
    #[serde(flatten)]
    meta: Meta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(default, rename = "parts_count", skip_serializing_if = "is_zero")]
    parts: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mount_point: bool,
    #[serde(flatten)]
    state: State,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(parts: &u64) -> bool {
    *parts == 0
}

impl From<Entry> for EntryLine {
    fn from(entry: Entry) -> Self {
        Self {
            path: PathField::from(&entry.path),
            meta: entry.meta,
            sha256: entry.sha256,
            at: entry.at,
            parts: entry.parts,
            mount_point: entry.mount_point,
            state: entry.state,
        }
    }
}

impl TryFrom<EntryLine> for Entry {
    type Error = PathError;

    fn try_from(line: EntryLine) -> Result<Self, PathError> {
        Ok(Self {
            path: line.path.try_into()?,
            meta: line.meta,
            sha256: line.sha256,
            at: line.at,
            parts: line.parts,
            mount_point: line.mount_point,
            state: line.state,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use dualsync_model::fact::EntryKind;
    use dualsync_model::time::Timestamp;

    use super::*;
    use crate::tree::meta::Extent;

    pub(crate) fn entry(path: &str) -> Entry {
        Entry {
            path: RawPath::new(path),
            meta: Meta {
                kind: EntryKind::File,
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: 3,
                mtime: Timestamp::from_seconds(1),
                ctime: Timestamp::from_seconds(2),
                inode: 12,
                links: 1,
                file_system: 9,
                device: None,
                link_target: None,
                xattrs: Some(Vec::new()),
                extents: None,
            },
            sha256: Some(Digest::of(b"abc")),
            at: Some(at()),
            parts: 0,
            state: State::Good,
            mount_point: false,
        }
    }

    fn at() -> At {
        let volume = "volumes/web/20261120T020000Z-0001020304050607/00000.tar.zst.age".into();
        At { volume, member: 3, frame: 0, frame_bytes: 900, offset: 1536, bytes: 1024 }
    }

    fn parse(line: &Line) -> Result<Line, LineError> {
        let mut text = Vec::new();
        line.write(&mut text);
        assert_eq!(text.pop(), Some(b'\n'));
        Line::parse(&text)
    }

    #[test]
    fn lines_read_back() {
        let mut strange = entry("a/b");
        strange.path = RawPath::new(b"caf\xe9".to_vec());
        strange.state = State::Changed { problem: "shrank".into() };
        strange.at = None;
        strange.parts = 2;
        strange.mount_point = true;
        let part = Part { sha256: Digest::of(b"p"), bytes: 1, at: at() };
        for line in [Line::Entry(Box::new(entry(""))), Line::Entry(Box::new(strange)), Line::Parts(vec![part])] {
            assert_eq!(parse(&line).unwrap(), line);
        }
    }

    #[test]
    fn entries_that_could_do_harm_are_refused() {
        let check = |change: fn(&mut Entry)| {
            let mut entry = entry("a/b");
            change(&mut entry);
            assert!(parse(&Line::Entry(Box::new(entry.clone()))).is_err(), "{entry:?}");
        };
        check(|entry| entry.path = RawPath::new("../etc/passwd"));
        check(|entry| entry.path = RawPath::new("/etc/passwd"));
        check(|entry| entry.path = RawPath::new("a//b"));
        check(|entry| entry.path = RawPath::new("a/./b"));
        check(|entry| entry.path = RawPath::new("a\0b"));
        check(|entry| entry.parts = 1);
        check(|entry| entry.at.as_mut().unwrap().bytes = u64::MAX);
        check(|entry| entry.at.as_mut().unwrap().offset = FRAME_BYTES_MAX as u64);
        check(|entry| entry.at.as_mut().unwrap().frame = u64::MAX);
        check(|entry| entry.at.as_mut().unwrap().volume = "points/x".into());
        check(|entry| entry.meta.extents = Some(vec![Extent { offset: 0, length: 4 }]));
    }

    #[test]
    fn a_line_of_parts_is_never_empty_and_never_too_long() {
        let part = Part { sha256: Digest::of(b"p"), bytes: 1, at: at() };
        assert!(parse(&Line::Parts(Vec::new())).is_err());
        assert!(parse(&Line::Parts(vec![part; PARTS_PER_LINE_MAX + 1])).is_err());
        assert!(Line::parse(b"{}").is_err() && Line::parse(b"").is_err());
    }
}
