//! Keys of a block repository: where each kind of object lies, and back from a key to its kind.
//!
//! Names only; nothing here asks a store.

use dualsync_block_store::contract::Key;
use dualsync_model::id::{RunId, SourceName};
use dualsync_model::time::Timestamp;

use crate::digest::{Sha256, to_hex};
use crate::keys::KeyId;

/// The description of the repository.
pub const REPO: &str = "repo.json";
/// What a finder of the bucket should read.
pub const README: &str = "README.txt";
/// Restores without dualsync.
pub const RECOVER: &str = "recover.py";
/// Folder of the manifests.
pub const POINTS: &str = "points/";
/// Folder of the packs.
pub const PACKS: &str = "packs/";
/// Folder of the map objects.
pub const MAPS: &str = "maps/";
/// Folder of heartbeats and checkpoints.
pub const RUNS: &str = "runs/";
/// Folder of the marks of a deleter.
pub const MARKS: &str = "marks/";
/// Folder of the reports of `verify`.
pub const EVIDENCE: &str = "evidence/";
/// Folder of the key slots.
pub const KEYS: &str = "keys/";
/// What the name of a slot's second copy ends in.
pub const COPY_SUFFIX: &str = ".copy.json";

/// A key from parts that are safe by their types.
fn key(text: String) -> Key {
    Key::new(text).expect("names are built from hexadecimal digits, source names and times")
}

/// Key of one of the fixed names above.
pub fn fixed(name: &str) -> Key {
    key(name.to_owned())
}

/// Key of a pack.
pub fn pack(sha256: &Sha256) -> Key {
    let hex = sha256.to_string();
    key(format!("{PACKS}{}/{hex}", &hex[..2]))
}

/// Key of a map object.
pub fn map(sha256: &Sha256) -> Key {
    let hex = sha256.to_string();
    key(format!("{MAPS}{}/{hex}", &hex[..2]))
}

/// Key of a key slot.
pub fn key_slot(id: KeyId) -> Key {
    key(format!("{KEYS}{id}.json"))
}

/// Key of the second copy of a slot that other keys hang on.
pub fn key_slot_copy(id: KeyId) -> Key {
    key(format!("{KEYS}{id}{COPY_SUFFIX}"))
}

/// The id in the name of a slot; `None` for a second copy, and for what is no slot.
pub fn parse_key_slot(key: &str) -> Option<KeyId> {
    KeyId::from_text(key.strip_prefix(KEYS)?.strip_suffix(".json")?)
}

/// Key of a `recover.py` that is newer than the repository.
pub fn recover(sha256: &Sha256) -> Key {
    key(format!("recover-{sha256}.py"))
}

/// The digest of a `recover.py` that is newer than the repository.
pub fn parse_recover(key: &str) -> Option<Sha256> {
    key.strip_prefix("recover-")?.strip_suffix(".py")?.parse().ok()
}

/// Key of a manifest without its digest: what its records are bound to.
pub fn manifest_stem(source: &SourceName, time: Timestamp, random: [u8; 8]) -> String {
    format!("{POINTS}{source}/{}-{}", time.compact(), to_hex(&random))
}

/// Key of a manifest.
pub fn manifest(stem: &str, sha256: &Sha256) -> Key {
    key(format!("{stem}-{sha256}"))
}

/// Folder of the runs of a source.
pub fn runs_of(source: &SourceName) -> String {
    format!("{RUNS}{source}/")
}

/// Key of a heartbeat.
pub fn heartbeat(source: &SourceName, run: &RunId, number: u64) -> Key {
    key(format!("{RUNS}{source}/{run}/{number}"))
}

/// Key of a checkpoint.
pub fn checkpoint(source: &SourceName, run: &RunId, number: u64) -> Key {
    key(format!("{RUNS}{source}/{run}/checkpoint-{number}"))
}

/// Key of a mark on the object of this digest.
pub fn mark(object: &Sha256, random: [u8; 8]) -> Key {
    key(format!("{MARKS}{object}-{}", to_hex(&random)))
}

/// Key of a companion of a mark.
pub fn companion(mark: &Key, companion: Companion) -> Key {
    key(format!("{mark}{}", companion.suffix()))
}

/// What stands beside a mark, under its name and a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Companion {
    /// The deletion has begun.
    Deleting,
    /// The mark was taken back.
    Undone,
}

impl Companion {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Deleting => ".deleting",
            Self::Undone => ".undone",
        }
    }
}

/// What the keys of a report's files begin with, whichever its time.
pub fn evidence_prefix(number: u64) -> String {
    format!("{EVIDENCE}{number:08}-")
}

/// Folder of a report.
pub fn evidence(number: u64, at: Timestamp, random: [u8; 8]) -> String {
    format!("{}{}-{}", evidence_prefix(number), at.compact(), to_hex(&random))
}

/// Key of a file of a report.
pub fn evidence_file(folder: &str, name: &str) -> Key {
    key(format!("{folder}/{name}"))
}

/// Reads the folder of a report: its number and time.
pub fn parse_evidence(folder: &str) -> Option<(u64, Timestamp)> {
    let (number, rest) = folder.strip_prefix(EVIDENCE)?.split_once('-')?;
    let (time, random) = rest.split_once('-')?;
    crate::digest::from_hex::<8>(random)?;
    let is_number = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, Timestamp::from_compact(time).ok()?))
}

/// What a key under [`MARKS`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkName {
    /// Digest of what is marked.
    pub object: Sha256,
    /// Which of the documents about it.
    pub part: MarkPart,
}

/// One of the documents of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkPart {
    /// The mark itself.
    Mark,
    /// A companion of the mark at this key.
    Companion(Key, Companion),
    /// A name that no writer of format 1 gives.
    Strange,
}

/// Reads a key under [`MARKS`]; `None` when it names no object.
pub fn parse_mark(text: &str) -> Option<MarkName> {
    let (digest, rest) = text.strip_prefix(MARKS)?.split_at_checked(64)?;
    let object = digest.parse().ok()?;
    let is_mark = |rest: &str| rest.strip_prefix('-').is_some_and(|hex| crate::digest::from_hex::<8>(hex).is_some());
    let companion = [Companion::Deleting, Companion::Undone]
        .into_iter()
        .find_map(|companion| Some((text.strip_suffix(companion.suffix())?, companion)));
    let part = match companion {
        _ if is_mark(rest) => MarkPart::Mark,
        Some((mark, companion)) if rest.strip_suffix(companion.suffix()).is_some_and(is_mark) => {
            MarkPart::Companion(Key::new(mark).ok()?, companion)
        }
        _ => MarkPart::Strange,
    };
    Some(MarkName { object, part })
}

/// The digest in the key of a manifest, map object or pack; `None` when it is the key of nothing that is marked.
pub fn digest_of(key: &str) -> Option<Sha256> {
    let of_manifest = || parse_manifest(key).map(|name| name.sha256);
    parse_digest(PACKS, key).or_else(|| parse_digest(MAPS, key)).or_else(of_manifest)
}

/// What a manifest's key tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestName {
    /// The source.
    pub source: SourceName,
    /// When the snapshot was taken.
    pub time: Timestamp,
    /// The key without the digest.
    pub stem: String,
    /// Digest of the stored bytes.
    pub sha256: Sha256,
}

/// Reads the key of a manifest; `None` when it is not one.
pub fn parse_manifest(key: &str) -> Option<ManifestName> {
    let (source, name) = key.strip_prefix(POINTS)?.split_once('/')?;
    let (stem, sha256) = key.rsplit_once('-')?;
    let (time, random) = name.split_once('-')?;
    let random = random.split_once('-')?.0;
    crate::digest::from_hex::<8>(random)?;
    Some(ManifestName {
        source: source.parse().ok()?,
        time: Timestamp::from_compact(time).ok()?,
        stem: stem.to_owned(),
        sha256: sha256.parse().ok()?,
    })
}

/// The digest that names a pack or map object below `folder`; `None` when the key is not one.
pub fn parse_digest(folder: &str, key: &str) -> Option<Sha256> {
    let (short, hex) = key.strip_prefix(folder)?.split_once('/')?;
    hex.starts_with(short).then(|| hex.parse().ok()).flatten().filter(|_| short.len() == 2)
}

/// Reads the key of a checkpoint: its run and number.
pub fn parse_checkpoint(key: &str) -> Option<(RunId, u64)> {
    let (_, rest) = key.strip_prefix(RUNS)?.split_once('/')?;
    let (run, number) = rest.split_once("/checkpoint-")?;
    Some((run.parse().ok()?, number.parse().ok()?))
}

/// Reads the key of a heartbeat: its run and number.
pub fn parse_heartbeat(key: &str) -> Option<(RunId, u64)> {
    let (_, rest) = key.strip_prefix(RUNS)?.split_once('/')?;
    let (run, number) = rest.split_once('/')?;
    Some((run.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let source: SourceName = "web-1.eu".parse().unwrap();
        let digest = Sha256::of(b"x");
        let time = Timestamp::from_compact("20261120T020000Z").unwrap();
        let stem = manifest_stem(&source, time, [0xab; 8]);
        let name = parse_manifest(manifest(&stem, &digest).as_str()).unwrap();
        assert_eq!(name, ManifestName { source: source.clone(), time, stem, sha256: digest });
        assert_eq!(parse_digest(PACKS, pack(&digest).as_str()), Some(digest));
        assert_eq!(parse_digest(MAPS, map(&digest).as_str()), Some(digest));
        let run = RunId::from_random([1; 8]);
        assert_eq!(parse_checkpoint(checkpoint(&source, &run, 3).as_str()), Some((run.clone(), 3)));
        assert_eq!(parse_heartbeat(heartbeat(&source, &run, 0).as_str()), Some((run.clone(), 0)));
        assert_eq!(parse_heartbeat(checkpoint(&source, &run, 3).as_str()), None);
        assert_eq!(parse_checkpoint(heartbeat(&source, &run, 3).as_str()), None);
    }

    #[test]
    fn names_of_marks_read_back_and_others_are_strange() {
        let object = Sha256::of(b"x");
        let mark = mark(&object, [0xab; 8]);
        let part = |text: &str| parse_mark(text).map(|name| (name.object == object, name.part));
        assert_eq!(part(mark.as_str()), Some((true, MarkPart::Mark)));
        for which in [Companion::Deleting, Companion::Undone] {
            let beside = companion(&mark, which);
            assert_eq!(part(beside.as_str()), Some((true, MarkPart::Companion(mark.clone(), which))));
        }
        for text in ["", "-", ".undone", "-ab.undone", "-abababababababab.other", "-abababababababab.undone.undone"] {
            assert_eq!(part(&format!("{MARKS}{object}{text}")), Some((true, MarkPart::Strange)), "{text}");
        }
        assert_eq!(parse_mark("marks/x"), None);
        let stem = manifest_stem(&"web".parse().unwrap(), Timestamp::from_seconds(0), [1; 8]);
        for key in [pack(&object), map(&object), manifest(&stem, &object)] {
            assert_eq!(digest_of(key.as_str()), Some(object));
        }
        assert_eq!(digest_of(mark.as_str()), None);
    }

    #[test]
    fn folders_of_reports_read_back() {
        let time = Timestamp::from_compact("20261120T020000Z").unwrap();
        let folder = evidence(7, time, [0xab; 8]);
        assert_eq!(folder, "evidence/00000007-20261120T020000Z-abababababababab");
        assert_eq!(parse_evidence(&folder), Some((7, time)));
        for wrong in
            ["evidence/7-20261120T020000Z-abababababababab", "evidence/00000007-20261120T020000Z", "evidence/x"]
        {
            assert_eq!(parse_evidence(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_of_nothing_of_ours_are_told_apart() {
        let digest = Sha256::of(b"x").to_string();
        for key in ["points/web/x", "points/web", "points/WEB/20261120T020000Z-abababababababab-00", "repo.json"] {
            assert_eq!(parse_manifest(key), None, "{key}");
        }
        for key in [format!("packs/00/{digest}"), format!("packs/{digest}"), format!("maps/{}/{digest}", &digest[..2])]
        {
            assert_eq!(parse_digest(PACKS, &key), None, "{key}");
        }
    }
}
