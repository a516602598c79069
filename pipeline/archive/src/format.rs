//! Every constant of archive format 1, and the names of all objects; `docs/format-archive.md` is the master.
//!
//! Promises that a key is built and recognised in one place. Holds no logic beyond names: what
//! stands in the objects is said by the files named after them. A change here is a change of the
//! format; `xtask` compares a digest of this file with the document.

use dualsync_model::id::SourceName;
use dualsync_model::time::Timestamp;

/// Version of every object; a reader refuses any other with a sentence of its own.
pub const VERSION: u32 = 1;
/// Magic of `repo.json`, manifests and run records: their field `format`.
pub const FORMAT: &str = "dualsync-archive";

/// The repository's own description, a signed record; what makes a repository exist, put last by `init`.
pub const REPO_KEY: &str = "repo.json";
/// For whoever finds the bucket.
pub const README_KEY: &str = "README.txt";
/// Restores without dualsync.
pub const RECOVER_KEY: &str = "recover.py";

/// Folder of volumes.
pub const VOLUMES: &str = "volumes/";
/// Folder of catalog segments and indexes.
pub const CATALOGS: &str = "catalogs/";
/// Folder of points.
pub const POINTS: &str = "points/";
/// Folder of run records.
pub const RUNS: &str = "runs/";
/// Folder of marks.
pub const MARKS: &str = "marks/";
/// Folder of reports.
pub const EVIDENCE: &str = "evidence/";

/// The object that makes a copy exist; put last.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Its signature; put right before it.
pub const SIGNATURE_NAME: &str = "manifest.json.minisig";
/// Every object the point needs.
pub const REFS_NAME: &str = "refs.jsonl";
/// Every object the point added, for `sha256sum -c`.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// Folder inside volumes for parts of big files: `.dualsync/parts/<aa>/<sha256>`.
pub const PARTS_FOLDER: &str = ".dualsync/parts/";

/// Files with more data than this are cut into parts.
pub const WHOLE_FILE_BYTES_MAX: u64 = 16 << 20;
/// FastCDC v2020, normalisation level 1: no part is smaller, but the last of a file.
pub const PART_BYTES_MIN: usize = 512 << 10;
/// What parts are on average.
pub const PART_BYTES_AVERAGE: usize = 2 << 20;
/// No part is bigger.
pub const PART_BYTES_MAX: usize = 8 << 20;
/// Parts in one line of the catalog.
pub const PARTS_PER_LINE_MAX: usize = 128;

/// A frame is closed once it holds this much tar.
pub const FRAME_BYTES_TARGET: usize = 2 << 20;
/// A member of at least this much tar has a frame of its own.
pub const FRAME_BYTES_ALONE: usize = 1 << 20;
/// No frame is longer, unpacked: the biggest whole file and its headers, with room to spare.
pub const FRAME_BYTES_MAX: usize = 40 << 20;
/// Pax records and map of one member together; what would be longer stands in the catalog alone.
pub const MEMBER_HEADER_BYTES_MAX: usize = 4 << 20;

/// The smallest size a volume aims at, chosen on slow lines.
pub const VOLUME_BYTES_MIN: usize = 16 << 20;
/// The size a volume aims at on fast lines; the format allows 64 MiB.
pub const VOLUME_BYTES_TARGET: usize = 32 << 20;
/// No sealed volume is longer; readers refuse more.
pub const VOLUME_BYTES_MAX: u64 = 96 << 20;

/// A segment of the catalog ends after an entry whose path digest is divisible by this.
pub const SEGMENT_BORDER: u64 = 16_000;
/// A segment has no border before this many entries.
pub const SEGMENT_ENTRIES_MIN: u32 = 2_000;
/// A segment ends here without a border.
pub const SEGMENT_ENTRIES_MAX: u32 = 64_000;
/// A segment ends once it holds this much plain text.
pub const SEGMENT_BYTES_TARGET: usize = 12 << 20;
/// No segment is longer, unpacked: the target and one line.
pub const SEGMENT_BYTES_MAX: u64 = 32 << 20;
/// No sealed segment or index is longer.
pub const SEGMENT_STORED_BYTES_MAX: u64 = 40 << 20;
/// No line of a catalog is longer.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// No file has more extents; a walk joins neighbours beyond this.
pub const EXTENTS_MAX: usize = 16_384;

/// An index of the catalog that is not longer as it is stored stands in the manifest, too.
pub const INDEX_INSIDE_BYTES_MAX: u64 = 32 << 10;
/// No manifest, repo.json, run record or signature is longer.
pub const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// No file of a report is longer.
pub const REPORT_BYTES_MAX: u64 = 16 << 20;
/// No mark is longer.
pub const MARK_BYTES_MAX: u64 = 64 << 10;
/// No `refs.jsonl` is longer: about 600,000 objects, and as long as a store client lets an object be.
pub const REFS_BYTES_MAX: u64 = 128 << 20;

/// Plain bytes of an age chunk.
pub const AGE_CHUNK_BYTES: u64 = 64 << 10;
/// Tag of an age chunk.
pub const AGE_TAG_BYTES: u64 = 16;
/// The header of a sealed object, recipients and all, ends before this.
pub const AGE_HEADER_BYTES_MAX: u64 = 8 << 10;
/// So many recipients fit such a header.
pub const RECIPIENTS_MAX: usize = 32;

/// A run record says the run is alive this often.
pub const HEARTBEAT_S: u64 = 3_600;
/// A mark stays this long after its deletion; no run lasts longer.
pub const TOMBSTONE_S: i64 = 30 * 86_400;
/// A checkpoint is of use this long; well below [`TOMBSTONE_S`], so that marks tell what became of its volumes.
pub const CHECKPOINT_AGE_S: i64 = 7 * 86_400;
/// A checkpoint follows this many volumes.
pub const CHECKPOINT_VOLUMES: u64 = 64;
/// An entry whose mtime or ctime is this close to the snapshot is read again the next night.
pub const RACY_S: i64 = 3;
/// Every night one of so many slices of the unchanged files is read again.
pub const REREAD_SLICES: u32 = 30;

/// Name of the folder of a point, `<time>-<random>`; no two runs draw the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Folder(String);

impl Folder {
    /// The folder of a point of `time`, with eight random bytes.
    pub fn new(time: Timestamp, random: [u8; 8]) -> Self {
        Self(format!("{}-{:016x}", time.compact(), u64::from_be_bytes(random)))
    }

    /// Reads a folder's name; `None` for what [`Folder::new`] does not write.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, random) = text.split_once('-')?;
        Timestamp::from_compact(time).ok()?;
        (random.len() == 16 && is_hex(random)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time in the name.
    pub fn time(&self) -> Timestamp {
        self.0
            .split_once('-')
            .and_then(|(time, _)| Timestamp::from_compact(time).ok())
            .expect("a folder is only built around a time")
    }
}

/// Key of an object in the folder of a point.
pub fn point_key(source: &SourceName, folder: &Folder, name: &str) -> String {
    format!("{POINTS}{source}/{}/{name}", folder.as_str())
}

/// Source, folder and name of an object under `points/`; `None` for what does not belong there.
pub fn parse_point_key(key: &str) -> Option<(SourceName, Folder, &str)> {
    let mut parts = key.strip_prefix(POINTS)?.split('/');
    let (source, folder, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((source.parse().ok()?, Folder::parse(folder)?, name))
}

/// Key of volume `number` of a point; `suffix` says how it is compressed, `.zst` or nothing.
pub fn volume_key(source: &SourceName, folder: &Folder, number: u32, suffix: &str) -> String {
    format!("{VOLUMES}{source}/{}/{number:05}.tar{suffix}.age", folder.as_str())
}

/// Source and folder in the key of a volume; `None` for what [`volume_key`] does not write.
pub fn parse_volume_key(key: &str) -> Option<(SourceName, Folder)> {
    let mut parts = key.strip_prefix(VOLUMES)?.split('/');
    let (source, folder, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (number, rest) = name.split_once('.')?;
    let is_number = number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit());
    let is_volume =
        is_number && rest.starts_with("tar") && rest.strip_suffix(".age").is_some() && parts.next().is_none();
    is_volume.then_some((source.parse().ok()?, Folder::parse(folder)?))
}

/// The compression suffix of a volume's key (`.zst`, empty for none); `None` for what is no volume.
pub fn volume_suffix(key: &str) -> Option<&str> {
    let name = key.strip_prefix(VOLUMES)?.rsplit('/').next()?;
    let rest = name.strip_suffix(".age")?;
    let at = rest.find(".tar")?;
    rest.get(at + 4..)
}

/// Key of a catalog segment or index by the SHA-256 of its stored bytes, in hex.
pub fn catalog_key(sha256: &str) -> String {
    format!("{CATALOGS}{}/{sha256}.jsonl.zst.age", sha256.get(..2).unwrap_or_default())
}

/// The digest in such a key; `None` for what is no catalog key.
pub fn catalog_digest(key: &str) -> Option<&str> {
    let name = key.strip_prefix(CATALOGS)?.strip_suffix(".jsonl.zst.age")?;
    let (_, digest) = name.split_once('/')?;
    (is_digest(digest) && catalog_key(digest) == key).then_some(digest)
}

/// Key of a file of report `number`, with eight random bytes that make each put its own.
pub fn report_key(number: u64, at: Timestamp, random: u64, name: &str) -> String {
    format!("{EVIDENCE}{number:08}-{}-{random:016x}/{name}", at.compact())
}

/// Number and time in such a key, to the second; `None` for what [`report_key`] does not write.
pub fn parse_report_key(key: &str) -> Option<(u64, Timestamp)> {
    let (folder, name) = key.strip_prefix(EVIDENCE)?.split_once('/')?;
    let mut parts = folder.split('-');
    let (number, time, random) = (parts.next()?, parts.next()?, parts.next()?);
    let (number, at) = (number.parse().ok()?, Timestamp::from_compact(time).ok()?);
    let random = u64::from_str_radix(random, 16).ok()?;
    (report_key(number, at, random, name) == key && !name.contains('/')).then_some((number, at))
}

/// Path of a part inside its volume.
pub fn part_path(sha256: &str) -> String {
    format!("{PARTS_FOLDER}{}/{sha256}", sha256.get(..2).unwrap_or_default())
}

/// Whether `text` is lower-case hex.
pub fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `text` is a SHA-256 in lower-case hex.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

const _: () = {
    assert!(PART_BYTES_MIN < PART_BYTES_AVERAGE && PART_BYTES_AVERAGE < PART_BYTES_MAX);
    assert!(WHOLE_FILE_BYTES_MAX + ((MEMBER_HEADER_BYTES_MAX + FRAME_BYTES_TARGET) as u64) < FRAME_BYTES_MAX as u64);
    assert!(((SEGMENT_BYTES_TARGET + LINE_BYTES_MAX) as u64) < SEGMENT_BYTES_MAX);
    assert!(((VOLUME_BYTES_TARGET + FRAME_BYTES_MAX) as u64) < VOLUME_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> SourceName {
        "web".parse().unwrap()
    }

    #[test]
    fn keys_are_what_the_document_shows() {
        let folder = Folder::new(Timestamp::from_compact("20261120T020000Z").unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            point_key(&source(), &folder, MANIFEST_NAME),
            "points/web/20261120T020000Z-0001020304050607/manifest.json"
        );
        let volume = volume_key(&source(), &folder, 12, ".zst");
        assert_eq!(volume, "volumes/web/20261120T020000Z-0001020304050607/00012.tar.zst.age");
        assert_eq!(volume_suffix(&volume), Some(".zst"));
        assert_eq!(parse_volume_key(&volume), Some((source(), folder.clone())));
        assert_eq!(volume_suffix(&volume_key(&source(), &folder, 1, "")), Some(""));
        let digest = "ab".repeat(32);
        assert_eq!(catalog_key(&digest), format!("catalogs/ab/{digest}.jsonl.zst.age"));
        assert_eq!(catalog_digest(&catalog_key(&digest)), Some(digest.as_str()));
    }

    #[test]
    fn strangers_are_not_taken_for_ours() {
        for key in [
            "points/web/20261120T020000Z-0001020304050607",
            "points/web/20261120T020000Z-0001020304050607/a/b",
            "points/WEB/20261120T020000Z-0001020304050607/manifest.json",
            "points/web/20261120T020000Z-00010203/manifest.json",
            "points/web/yesterday-0001020304050607/manifest.json",
        ] {
            assert!(parse_point_key(key).is_none(), "{key}");
        }
        for key in ["catalogs/ab/cd.jsonl.zst.age", "catalogs/xx", "volumes/web/x"] {
            assert!(catalog_digest(key).is_none() && volume_suffix(key).is_none(), "{key}");
            assert!(parse_volume_key(key).is_none(), "{key}");
        }
    }

    #[test]
    fn a_report_gives_its_number_back() {
        let at = Timestamp::from_compact("20261120T020000Z").unwrap();
        let key = report_key(7, at, 0xfeed, "proof.json");
        assert_eq!(key, "evidence/00000007-20261120T020000Z-000000000000feed/proof.json");
        assert_eq!(parse_report_key(&key), Some((7, at)));
        for key in ["evidence/7-20261120T020000Z-000000000000feed/x", "evidence/x", &format!("{key}/x")] {
            assert_eq!(parse_report_key(key), None, "{key}");
        }
    }

    #[test]
    fn a_folder_gives_its_time_back() {
        let time = Timestamp::from_compact("20261120T020000Z").unwrap();
        let folder = Folder::new(time, [9; 8]);
        assert_eq!(Folder::parse(folder.as_str()).unwrap().time(), time);
    }
}
