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
/// Folder of the key slots.
pub const KEYS: &str = "keys/";

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
