//! One file, brought back by a machine that has the configuration and the keys and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dualsync_archive::digest::Digest;
use dualsync_archive_store::contract::{Key, Store as _};
use dualsync_model::event::{Event, Requests};
use dualsync_model::job::{CheckTask, Depth, RestoreTask, Shape, Task};
use dualsync_model::outcome::Exit;

use crate::memory::Memory;
use crate::site::{COMMIT, Ended, noise, run_on};

const MIB: u64 = 1 << 20;

/// What one file may cost.
const REQUESTS_MAX: u64 = 6;
const BYTES_MAX: u64 = 4 * MIB;

/// Entries after which a segment of the catalog ends at the first border.
const SEGMENT_ENTRIES: u64 = 2_000;

/// A name in `folder` behind all others, at which a segment ends: borders are chosen by paths.
fn border(folder: &str) -> String {
    let is_border = |path: &String| {
        let digest = Digest::of(path.as_bytes()).0;
        u64::from_le_bytes(*digest.first_chunk().unwrap()) % 16_000 == 0
    };
    (0..1_000_000).map(|number| format!("{folder}/z{number}")).find(is_border).unwrap()
}

/// A night of `small` files in folders that are a segment each, and of 24 files of 1 MiB, `m07/big` the eighth of them.
async fn night(small: u64) -> Memory {
    let mut memory = Memory::new().await;
    for file in 0..small {
        let folder = format!("s{:03}", file / SEGMENT_ENTRIES);
        // Most are empty: what is written to a disk has to be there before it is read.
        let bytes = file.to_le_bytes();
        let content = if file % 100 == 23 { &bytes[..] } else { b"" };
        memory.site.write(&format!("{folder}/a name of some length {file}"), content);
        if file % SEGMENT_ENTRIES == 0 {
            memory.site.write(&border(&folder), b"");
        }
    }
    for file in 0..24 {
        memory.site.write(&format!("m{file:02}/big"), &noise(file, 1 << 20));
    }
    memory.night(memory.store.clone(), COMMIT).await.summary();
    memory
}

fn task(memory: &Memory, to: &Path, path: &str) -> RestoreTask {
    RestoreTask {
        point: memory.site.backup_task().point,
        to: to.to_owned(),
        shape: Shape::Tree,
        paths: vec![path.to_owned()],
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    }
}

/// What a restore of one file cost.
struct Cost {
    ended: Ended,
    requests: Requests,
    to: PathBuf,
}

impl Cost {
    fn found(&self, path: &str) -> Vec<u8> {
        self.ended.summary();
        fs::read(self.to.join(path)).unwrap()
    }

    fn findings(&self) -> Vec<(String, String)> {
        let found = self.ended.events.iter().filter_map(|event| match event {
            Event::Finding(finding) => Some((finding.object.clone(), finding.kind.clone())),
            _ => None,
        });
        found.collect()
    }
}

/// Restores `path` with whatever the state folder holds.
async fn restore(memory: &Memory, path: &str) -> Cost {
    let to = memory.site.path("out");
    if to.exists() {
        fs::remove_dir_all(&to).unwrap();
    }
    let before = memory.store.requests();
    let ended = run_on(&memory.site.job(Task::Restore(task(memory, &to, path))), memory.store.clone(), "").await;
    let after = memory.store.requests();
    let requests = Requests {
        get: after.get - before.get,
        list: after.list - before.list,
        put: after.put - before.put,
        head: after.head - before.head,
        delete: after.delete - before.delete,
    };
    Cost { ended, requests, to }
}

/// The same on a machine that knows nothing.
async fn restore_cold(memory: &Memory, path: &str) -> Cost {
    let state = memory.site.path("state");
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    restore(memory, path).await
}

fn keys(memory: &Memory, begin: &str, end: &str) -> Vec<Key> {
    let is_it = |key: &Key| key.as_str().starts_with(begin) && key.as_str().ends_with(end);
    memory.store.keys().into_iter().filter(is_it).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_among_thousands_is_six_requests_and_little_more_than_the_file() {
    let memory = night(24_000).await;
    assert!(keys(&memory, "catalogs/", ".age").len() >= 12, "many segments and their index");
    let biggest = keys(&memory, "catalogs/", ".age").into_iter().map(|key| memory.store.peek(&key).unwrap().len());
    let biggest = biggest.max().unwrap() as u64;
    // In the middle of a volume, at the end of the last one, and among the small ones.
    for (path, content) in [
        ("m07/big".to_owned(), noise(7, 1 << 20)),
        ("m23/big".to_owned(), noise(23, 1 << 20)),
        ("s010/a name of some length 20123".to_owned(), 20_123_u64.to_le_bytes().to_vec()),
    ] {
        let cost = restore_cold(&memory, &path).await;
        assert_eq!(cost.found(&path), content, "{path}");
        // repo.json, listing, manifest, segment; head and frame of the volume.
        assert_eq!((cost.requests.list, cost.requests.get), (1, 5), "{path}");
        assert!(cost.requests.total() <= REQUESTS_MAX, "{path}: {:?}", cost.requests);
        let fetched = cost.ended.summary().fetched_bytes;
        assert!(fetched <= BYTES_MAX && fetched <= biggest + MIB + 300_000, "{path}: {fetched} bytes, {biggest}");
        // Once more, and the machine knows manifest and segment.
        let again = restore(&memory, &path).await;
        assert_eq!(again.found(&path), content, "{path}");
        assert_eq!((again.requests.list, again.requests.get, again.requests.total()), (1, 3, 4), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_a_small_tree_is_not_more() {
    let mut memory = Memory::new().await;
    memory.site.write("only", b"a few bytes");
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let cost = restore_cold(&memory, "only").await;
    assert_eq!(cost.found("only"), b"a few bytes");
    // The volume came with its head.
    assert_eq!((cost.requests.list, cost.requests.get, cost.requests.total()), (1, 4, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_in_parts_only_its_parts_are_read() {
    let mut memory = Memory::new().await;
    for file in 0..3 {
        memory.site.write(&format!("big/{file}"), &noise(file, 40 << 20));
    }
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let cost = restore_cold(&memory, "big/1").await;
    assert!(cost.found("big/1") == noise(1, 40 << 20));
    let fetched = cost.ended.summary().fetched_bytes;
    assert!((40 * MIB..42 * MIB).contains(&fetched), "{fetched}");
    // One for each 4 MiB or so and for the head of each volume, and what leads there.
    assert!(cost.requests.total() <= 6 + 3 + 16, "{:?}", cost.requests);
}

/// What somebody does to the bytes of an object.
type Harm = fn(&mut Vec<u8>);

/// A point that is damaged like this, and what a restore of one file says of it.
async fn harmed(memory: &Memory, key: &Key, harm: Harm) -> Cost {
    let good = memory.store.peek(key).unwrap();
    let mut bytes = good.to_vec();
    harm(&mut bytes);
    memory.store.replace(key.clone(), bytes.into());
    let cost = restore_cold(memory, "m07/big").await;
    memory.store.replace(key.clone(), good);
    cost
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_as_exactly_as_of_a_whole_tree() {
    let memory = night(0).await;
    let [volume] = &keys(&memory, "volumes/", ".age")[..] else { panic!("one volume") };
    let flip: Harm = |bytes| bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
    let harms: [(&str, Harm); 2] =
        [("truncated", |bytes| bytes.truncate(5 << 20)), ("unreadable", |bytes| bytes[(7 << 20) + (1 << 19)] ^= 1)];
    for (kind, harm) in harms {
        let cost = harmed(&memory, volume, harm).await;
        assert_eq!(cost.ended.outcome.as_ref().unwrap_err().exit(), Exit::Damaged, "{kind}");
        assert_eq!(cost.findings(), [(volume.to_string(), kind.to_owned())]);
        assert!(!cost.to.join("m07/big").exists(), "{kind}");
    }
    for (begin, end) in [("catalogs/", ".age"), ("points/", "manifest.json"), ("repo.json", "")] {
        let keys = keys(&memory, begin, end);
        assert!(!keys.is_empty(), "{begin}");
        for key in keys {
            let cost = harmed(&memory, &key, flip).await;
            // The index stands in the manifest, too.
            let is_index = begin == "catalogs/" && cost.ended.outcome.is_ok();
            assert!(is_index || !cost.to.join("m07/big").exists(), "{key}");
            assert!(is_index || cost.ended.outcome.is_err(), "{key}");
        }
    }
    let good = memory.store.peek(volume).unwrap();
    memory.store.remove(volume);
    let cost = restore_cold(&memory, "m07/big").await;
    assert_eq!(cost.findings(), [(volume.to_string(), "missing".to_owned())]);
    memory.store.replace(volume.clone(), good);
    assert_eq!(restore_cold(&memory, "m07/big").await.found("m07/big"), noise(7, 1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_manifest_counts_in_place_of_another() {
    let mut memory = night(0).await;
    memory.site.write("m07/big", b"newer");
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let [old, new] = &keys(&memory, "points/", "manifest.json")[..] else { panic!("two nights") };
    let (older, newer) = (memory.store.peek(old).unwrap(), memory.store.peek(new).unwrap());
    let without = String::from_utf8(newer.to_vec()).unwrap();
    let at = without.rfind(",\n  \"signature\"").unwrap();
    for forged in [older.to_vec(), format!("{}\n}}\n", &without[..at]).into_bytes()] {
        memory.store.replace(new.clone(), forged.into());
        let cost = restore_cold(&memory, "m07/big").await;
        let fault = format!("{:?}", cost.ended.outcome.as_ref().unwrap_err());
        assert!(fault.contains("signature") && !cost.to.join("m07/big").exists(), "{fault}");
    }
    memory.store.replace(new.clone(), newer);
    assert_eq!(restore_cold(&memory, "m07/big").await.found("m07/big"), b"newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_checks_reads_what_a_single_file_does_without() {
    let memory = night(0).await;
    let wanted: BTreeSet<_> = ["manifest.json.minisig", "refs.jsonl"]
        .iter()
        .flat_map(|name| keys(&memory, "points/", name))
        .chain(keys(&memory, "catalogs/", ".age"))
        .collect();
    for key in &wanted {
        let good = memory.store.peek(key).unwrap();
        memory.store.remove(key);
        let check = Task::Check(CheckTask { point: None, depth: Depth::Objects, slice: None });
        let checked = run_on(&memory.site.job(check), memory.store.clone(), "").await;
        assert_eq!(checked.outcome.unwrap_err().exit(), Exit::Damaged, "{key}");
        memory.store.replace(key.clone(), good);
    }
    assert_eq!(wanted.len(), 4);
}
