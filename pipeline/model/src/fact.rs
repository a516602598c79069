//! What one side can witness about one entry of a point, read from what is stored.

use serde::{Deserialize, Serialize};

use crate::path::{PathError, PathField, RawPath};
use crate::time::Timestamp;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file, sparse or not.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket: listed, never stored.
    Socket,
}

/// Facts of one entry. A field that a side cannot witness is absent, and verify says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FactLine", into = "FactLine")]
pub struct Fact {
    /// Where, relative to the tree; the root itself is the empty path.
    pub path: RawPath,
    /// What.
    pub kind: EntryKind,
    /// Bytes of a file, length of a link target, 0 for all else.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// True where this side knows whole seconds only (`fuse2fs`).
    pub mtime_whole_seconds: bool,
    /// Permission bits, set-uid, set-gid and sticky bit among them (`st_mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of a symbolic link.
    pub link_target: Option<RawPath>,
    /// Major and minor number of a device node.
    pub device: Option<(u32, u32)>,
    /// SHA-256 over the extended attributes (ACLs and capabilities are among them), see
    /// `docs/worker-protocol.md`; absent when this side cannot read them.
    pub xattrs: Option<String>,
    /// Opaque number of the inode, present when it has more than one link: entries with the same
    /// number in one stream are one file.
    pub hard_link: Option<u64>,
    /// SHA-256 of a file's content, lower-case hex, computed from the stored bytes; absent for
    /// other kinds, outside the slice, and where the content could not be read.
    pub sha256: Option<String>,
    /// What this side knows against its own copy.
    pub state: FactState,
}

/// What a side says about its own stored entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FactState {
    /// Read back and equal to what the writer noted when it read the source.
    #[default]
    Good,
    /// Not read this time: outside the slice.
    Skipped,
    /// The source changed, shrank or vanished while it was read, and the writer said so then.
    Changed {
        /// What was seen.
        problem: String,
    },
    /// The source could not be read, and the writer said so then.
    Unreadable {
        /// What was seen.
        problem: String,
    },
    /// Another file system was mounted on this directory: its own facts may be those of the mounted
    /// root, and what lies below it is not in this copy.
    MountPoint,
    /// The stored copy contradicts the writer's own note, or cannot be read: this side is wrong.
    Damaged {
        /// The stored object that is missing or wrong.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The JSON form: the path pair flattened, absent fields left out.
#[derive(Serialize, Deserialize)]
struct FactLine {
    #[serde(flatten)]
    path: PathField,
    kind: EntryKind,
    size: u64,
    mtime: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mtime_whole_seconds: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link_target: Option<RawPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xattrs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hard_link: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(flatten)]
    state: FactState,
}

impl From<Fact> for FactLine {
    fn from(fact: Fact) -> Self {
        Self {
            path: PathField::from(&fact.path),
            kind: fact.kind,
            size: fact.size,
            mtime: fact.mtime,
            mtime_whole_seconds: fact.mtime_whole_seconds,
            mode: fact.mode,
            uid: fact.uid,
            gid: fact.gid,
            link_target: fact.link_target,
            device: fact.device,
            xattrs: fact.xattrs,
            hard_link: fact.hard_link,
            sha256: fact.sha256,
            state: fact.state,
        }
    }
}

impl TryFrom<FactLine> for Fact {
    type Error = PathError;

    fn try_from(line: FactLine) -> Result<Self, PathError> {
        Ok(Self {
            path: line.path.try_into()?,
            kind: line.kind,
            size: line.size,
            mtime: line.mtime,
            mtime_whole_seconds: line.mtime_whole_seconds,
            mode: line.mode,
            uid: line.uid,
            gid: line.gid,
            link_target: line.link_target,
            device: line.device,
            xattrs: line.xattrs,
            hard_link: line.hard_link,
            sha256: line.sha256,
            state: line.state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact() -> Fact {
        Fact {
            path: RawPath::new(b"caf\xe9".to_vec()),
            kind: EntryKind::Symlink,
            size: 3,
            mtime: Timestamp::new(-1, 5).unwrap(),
            mtime_whole_seconds: false,
            mode: 0o777,
            uid: 0,
            gid: 65534,
            link_target: Some(RawPath::new("../x")),
            device: None,
            xattrs: Some("00".into()),
            hard_link: Some(12),
            sha256: None,
            state: FactState::Damaged { object: "packs/aa/bb".into(), problem: "missing".into() },
        }
    }

    #[test]
    fn a_fact_survives_its_line() {
        let json = serde_json::to_string(&fact()).unwrap();
        assert!(json.contains(r#""path_b64":"Y2Fm6Q==""#) && json.contains(r#""state":"damaged""#), "{json}");
        assert_eq!(serde_json::from_str::<Fact>(&json).unwrap(), fact());
    }

    #[test]
    fn a_mount_point_is_one_word() {
        let json = serde_json::to_string(&Fact { state: FactState::MountPoint, ..fact() }).unwrap();
        assert!(json.contains(r#""state":"mount_point""#), "{json}");
    }

    #[test]
    fn a_fact_without_a_path_is_refused() {
        let json = serde_json::to_string(&fact()).unwrap().replace("path_b64", "p");
        assert!(serde_json::from_str::<Fact>(&json).is_err());
    }
}
