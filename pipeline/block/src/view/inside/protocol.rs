//! What the program asks of its reader, and what the reader says. Both are the same binary, so
//! there are no versions.

use std::path::PathBuf;

use dualsync_model::fact::Fact;
use dualsync_model::path::RawPath;
use dualsync_model::slice::Slice;
use serde::{Deserialize, Serialize};

/// A whole request, the argument of the reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Whether the kernel of this host may mount the image.
    pub kernel_mount: bool,
    /// An empty private folder.
    pub mount_point: PathBuf,
    /// Where spill files may be made.
    pub state: PathBuf,
    /// What to do in the mounted tree.
    pub work: Work,
}

/// What to do in the mounted tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Tell every entry, with the content of what lies in the slice.
    Facts {
        /// Absent: everything.
        slice: Option<Slice>,
    },
    /// Copy entries out of it.
    Extract(Extract),
}

/// What to copy, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extract {
    /// Globs relative to the tree; empty for everything.
    pub paths: Vec<String>,
    /// The folder that is filled.
    pub to: PathBuf,
    /// What exists and looks like what is stored was restored before: it stays, and that is no trouble.
    pub keep: bool,
    /// Write over what exists.
    pub overwrite: bool,
    /// Tell what would be done, and read no content.
    pub dry_run: bool,
}

/// Who mounted the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountedBy {
    /// The kernel, through a loop device.
    Kernel,
    /// `fuse2fs`.
    Fuse2fs,
}

/// One line of the reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The image is mounted.
    Mounted {
        /// `ext4`, `xfs` or `btrfs`.
        file_system: String,
        /// By whom.
        by: MountedBy,
    },
    /// How far it is.
    Progress {
        /// Entries told or restored.
        entries: u64,
        /// Bytes of content read.
        bytes: u64,
        /// Bytes of content there are, once the walk is over.
        total: Option<u64>,
    },
    /// An entry whose bytes could all be read.
    Fact {
        /// It.
        fact: Box<Fact>,
    },
    /// An entry that could not be read, or not wholly.
    Broken {
        /// What is known of it.
        fact: Box<Fact>,
        /// Where in the image the bytes lie that could not be read, when that is known.
        at: Option<u64>,
        /// What the system said.
        problem: String,
    },
    /// An entry that was not restored for a reason at the target.
    NotRestored {
        /// It.
        path: RawPath,
        /// Why.
        problem: String,
    },
    /// The end: everything was told.
    Done {
        /// Entries told or restored.
        entries: u64,
        /// Bytes of content read.
        bytes: u64,
    },
    /// The end: it could not go on.
    Failed {
        /// Why, with causes.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_whatever_the_name() {
        for name in [&b"plain"[..], b"caf\xe9", b"new\nline"] {
            let line = Line::NotRestored { path: RawPath::new(name), problem: "exists".into() };
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
    }
}
