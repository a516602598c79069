//! What is measured on: bytes that lie on every machine this is built on, and what describes a file.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dualsync_archive::catalog::entry::{At, Entry, State};
use dualsync_archive::digest::Digest;
use dualsync_archive::tree::meta::Meta;
use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;

/// Bytes of a sample: more than a core has cache for.
pub const SAMPLE_BYTES: usize = 8 << 20;
/// No file is more of a sample than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Some bytes and what they are.
pub struct Sample {
    /// What they are.
    pub name: &'static str,
    /// The bytes, [`SAMPLE_BYTES`] of them.
    pub bytes: Vec<u8>,
}

/// Shared libraries, text, noise and zeros, in this order.
pub fn all() -> [Sample; 4] {
    [
        Sample { name: "libraries", bytes: libraries() },
        Sample { name: "text", bytes: text() },
        Sample { name: "noise", bytes: noise() },
        Sample { name: "zeros", bytes: vec![0; SAMPLE_BYTES] },
    ]
}

/// The entry of a small file: the `number`th of a site with a hundred files a folder.
pub fn entry(number: u32) -> Entry {
    Entry {
        path: RawPath::new(format!("srv/www/customer-{:04}/htdocs/assets/image-{:02}.jpg", number / 100, number % 100)),
        meta: Meta {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 33,
            gid: 33,
            size: 4000,
            mtime: Timestamp::new(1_790_000_000 + i64::from(number), 123_456_789).expect("below a second"),
            ctime: Timestamp::new(1_790_000_000 + i64::from(number), 987_654_321).expect("below a second"),
            inode: u64::from(number) + 12,
            links: 1,
            file_system: 0x5eed,
            device: None,
            link_target: None,
            xattrs: Some(Vec::new()),
            extents: None,
        },
        sha256: Some(Digest::of(&number.to_le_bytes())),
        at: Some(At {
            volume: "volumes/web/20261120T020000Z-0001020304050607/00000.tar.zst.age".into(),
            member: number % 500,
            frame: 700_000,
            frame_bytes: 690_123,
            offset: 5120 * u64::from(number % 500),
            bytes: 5120,
        }),
        parts: 0,
        state: State::Good,
        mount_point: false,
    }
}

fn libraries() -> Vec<u8> {
    let folder = PathBuf::from(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let mut files = Vec::new();
    find(&folder, 0, &|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so.")), &mut files);
    fill(&files, "shared libraries", &folder)
}

fn text() -> Vec<u8> {
    let folder = Path::new("/usr/share");
    let is_text = |path: &Path| {
        path.extension()
            .is_some_and(|extension| ["html", "pm", "pod", "txt", "xml"].iter().any(|one| extension == *one))
    };
    let mut files = Vec::new();
    find(folder, 4, &is_text, &mut files);
    fill(&files, "text", folder)
}

/// Bytes that nothing shrinks, the same on every machine: a xorshift generator.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(SAMPLE_BYTES / 8).flatten().collect()
}

/// Regular files, links not followed, in the order of their paths.
fn find(folder: &Path, depth: usize, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) && depth > 0 {
            find(&path, depth - 1, wanted, found);
        } else if kind.is_ok_and(|kind| kind.is_file()) && wanted(&path) {
            found.push(path);
        }
    }
}

fn fill(files: &[PathBuf], what: &str, folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SAMPLE_BYTES);
    for path in files {
        let room = (SAMPLE_BYTES - bytes.len()) as u64;
        if let Ok(file) = File::open(path) {
            // What cannot be read is not part of the sample.
            let _ = file.take(room.min(FILE_BYTES_MAX)).read_to_end(&mut bytes);
        }
    }
    assert!(
        bytes.len() == SAMPLE_BYTES,
        "{} of {SAMPLE_BYTES} bytes of {what} below {}: install more, for instance build-essential",
        bytes.len(),
        folder.display()
    );
    bytes
}
