//! What a manifest proves of itself, and a sample of one.

use super::*;

pub(crate) fn secret() -> SecretKey {
    SecretKey::from_random(&zeroize::Zeroizing::new([4; 40]))
}

pub(crate) fn manifest() -> Manifest {
    let stored = Stored::of(b"x");
    let point: PointId = "web@20261120T020000Z".parse().unwrap();
    Manifest {
        format: FORMAT.into(),
        version: VERSION,
        repository: "00".repeat(16),
        folder: Folder::new(point.time(), [1; 8]).as_str().into(),
        point,
        sequence: 7,
        previous: Some(Anchor { sequence: 6, sha256: "ab".repeat(32) }),
        ledger: Vec::new(),
        dropped: Vec::new(),
        other: None,
        run: RunId::from_random([2; 8]),
        business_date: "2026-11-20".parse().unwrap(),
        class: Class::Auto,
        note: None,
        expires: None,
        recipients: Vec::new(),
        content: Vec::new(),
        snapshot: SnapshotInfo {
            id: "s".into(),
            method: "none".into(),
            frozen: false,
            taken_at: Timestamp::from_compact("20261120T020000Z").unwrap(),
        },
        exclude: vec!["cache/**".into()],
        objects: Objects {
            catalog: stored,
            refs: stored,
            sums: stored,
            readme: stored.sha256,
            recover: stored.sha256,
            repo: stored.sha256,
        },
        stats: Stats::default(),
        index: None,
    }
}

fn open(key: &str, bytes: &[u8], signature: &str) -> Result<Manifest, ManifestError> {
    Manifest::open(key, bytes, signature, &secret().public(), &"00".repeat(16))
}

#[test]
fn content_names_each_night_that_is_needed_and_who_opens_it() {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let content = |to: &[&str], folders: &[&str]| Content { to: texts(to), folders: texts(folders) };
    let needed = texts(&["a", "b", "own", "unknown"]).into_iter().collect();
    let parent = [content(&["host"], &["a", "gone"]), content(&["safe"], &["b"]), content(&["x"], &["gone too"])];
    let all = Content::of(&needed, "own", &texts(&["safe"]), &parent);
    assert_eq!(all, [content(&["safe"], &["own", "b"]), content(&["host"], &["a"])]);
    assert!(Content::of(&BTreeSet::new(), "own", &texts(&["safe"]), &parent).is_empty());
}

#[test]
fn a_signed_manifest_opens_at_its_place_and_nowhere_else() {
    let manifest = manifest();
    let (key, bytes) = (manifest.key().unwrap(), manifest.to_bytes());
    let signature = secret().sign(&bytes, &manifest.comment());
    assert_eq!(open(&key, &bytes, &signature).unwrap(), manifest);
    let elsewhere = key.replace("web", "shop");
    assert!(matches!(open(&elsewhere, &bytes, &signature), Err(ManifestError::Moved { .. })));
    let other_comment = secret().sign(&bytes, "repository=x");
    assert!(matches!(open(&key, &bytes, &other_comment), Err(ManifestError::Moved { .. })));
    let other_repository = Manifest::open(&key, &bytes, &signature, &secret().public(), "11");
    assert!(matches!(other_repository, Err(ManifestError::Moved { .. })));
}

#[test]
fn a_manifest_that_is_signed_inside_opens_alone_at_its_place_and_nowhere_else() {
    let manifest = manifest();
    let (key, bytes) = (manifest.key().unwrap(), manifest.to_signed(&secret()));
    let own = manifest.repository.as_str();
    let alone = |key: &str, repository: &str| Manifest::open_alone(key, &bytes, &secret().public(), repository);
    assert_eq!(alone(&key, own).unwrap(), manifest);
    assert!(matches!(alone(&key, "11"), Err(ManifestError::Moved { .. })));
    assert!(matches!(alone(&key.replace("web", "shop"), own), Err(ManifestError::Moved { .. })));
    assert_eq!(open(&key, &bytes, &secret().sign(&bytes, &manifest.comment())).unwrap(), manifest);
    // Taken apart, it is no manifest with a signature beside it.
    let bare = manifest.to_bytes();
    let inside: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let (signature, global) = inside["signature"].as_str().unwrap().split_once(' ').unwrap();
    for comment in [manifest.comment().as_str(), "inside the text"] {
        let beside = format!("untrusted comment: \n{signature}\ntrusted comment: {comment}\n{global}\n");
        assert!(open(&key, &bare, &beside).is_err());
    }
}

#[test]
fn an_index_counts_only_when_it_is_the_one_that_is_named() {
    let mut manifest = manifest();
    assert_eq!(manifest.index(), None);
    manifest.index = Some(STANDARD.encode(b"x"));
    assert_eq!(manifest.index(), Some(Bytes::from_static(b"x")));
    manifest.index = Some(STANDARD.encode(b"y"));
    assert_eq!(manifest.index(), None);
}

#[test]
fn a_changed_manifest_is_not_even_parsed() {
    let manifest = manifest();
    let (key, mut bytes) = (manifest.key().unwrap(), manifest.to_bytes());
    let signature = secret().sign(&bytes, &manifest.comment());
    bytes[20] ^= 1;
    assert!(matches!(open(&key, &bytes, &signature), Err(ManifestError::Signature { .. })));
}

#[test]
fn a_version_from_the_future_is_told_from_damage() {
    let mut manifest = manifest();
    manifest.version = 2;
    let bytes = manifest.to_bytes();
    let signature = secret().sign(&bytes, &manifest.comment());
    let error = open(&manifest.key().unwrap(), &bytes, &signature).unwrap_err();
    assert!(matches!(error, ManifestError::Version { version: 2, .. }), "{error}");
    (manifest.version, manifest.format) = (1, "other".into());
    let bytes = manifest.to_bytes();
    let signature = secret().sign(&bytes, &manifest.comment());
    let error = open(&manifest.key().unwrap(), &bytes, &signature).unwrap_err();
    assert!(matches!(&error, ManifestError::Format { found, .. } if found == "other"), "{error}");
}
