//! Points made by hand, restored: whole, in part, damaged, hostile, interrupted.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use dualsync_archive_store::contract::{ErrorKind, Operation, Store as _};
use dualsync_archive_store::faulty::{Fault as StoreFault, FaultyStore};
use dualsync_model::event::{Event, Finding, Warning};
use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;

use super::*;
use crate::catalog::entry::State;
use crate::digest::Digest;
use crate::events::tests::Sink;
use crate::sample::{Made, Sample, meta};
use crate::tree::meta::{Extent, Meta};
use crate::tree::nasty;
use crate::tree::walk::Walk;

/// What came of a restore.
struct Ran {
    outcome: Result<Summary, Fault>,
    events: Vec<Event>,
}

impl Ran {
    fn summary(&self) -> &Summary {
        self.outcome.as_ref().unwrap()
    }

    fn fault(&self) -> &Fault {
        self.outcome.as_ref().unwrap_err()
    }

    fn findings(&self) -> Vec<&Finding> {
        self.events.iter().filter_map(|event| if let Event::Finding(it) = event { Some(it) } else { None }).collect()
    }

    fn warnings(&self) -> Vec<&Warning> {
        self.events.iter().filter_map(|event| if let Event::Warning(it) = event { Some(it) } else { None }).collect()
    }
}

fn task(made: &Made, to: &Path) -> RestoreTask {
    RestoreTask {
        point: made.point.clone(),
        to: to.to_owned(),
        shape: Shape::Tree,
        paths: Vec::new(),
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    }
}

async fn run_on(repository: &Unlocked, task: &RestoreTask) -> Ran {
    let state = tempfile::tempdir().unwrap();
    let ran = run_beside(repository, task, state.path()).await;
    let left = fs::read_dir(state.path()).unwrap().count();
    assert!(left == 0 || !task.paths.is_empty(), "nothing is left in the state folder, but what single files need");
    ran
}

async fn run_beside(repository: &Unlocked, task: &RestoreTask, state: &Path) -> Ran {
    let sink = Sink::default();
    let outcome = restore(repository, None, task, state, &Events::new(sink.clone())).await;
    Ran { outcome, events: sink.events() }
}

async fn run(made: &Made, task: &RestoreTask) -> Ran {
    run_on(&made.repository, task).await
}

/// A target that does not exist yet.
fn target() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("to");
    (folder, target)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Files `a/0` to `a/9` in two volumes of five frames each, and a file beside.
fn ten() -> Sample {
    let mut sample = Sample::new();
    sample.directory("");
    sample.directory("a");
    for n in 0..10 {
        if n == 5 {
            sample.volume();
        }
        sample.file(&format!("a/{n}"), &noise(n, 50_000));
        sample.frame();
    }
    sample
}

/// Bytes that no compression makes smaller.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| Digest::of(&[&[seed][..], &n.to_le_bytes()].concat()).0).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nasty_tree_comes_back_to_the_last_bit() {
    if !nasty::privileged("a whole tree with owners, devices and capabilities") {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    nasty::build(source.path(), 2500);
    let mut sample = Sample::new().segments_of(1000);
    let walk = Walk::new(source.path(), source.path(), |_| false).unwrap();
    for (n, entry) in walk.map(Result::unwrap).enumerate() {
        let meta = entry.meta.as_ref().unwrap().clone();
        if meta.kind != EntryKind::File {
            sample.raw(entry.path, meta);
            continue;
        }
        let mut data = Vec::new();
        entry.open_content().unwrap().read_to_end(&mut data).unwrap();
        sample.content(entry.path, meta, &data);
        match n % 1000 {
            500 => sample.frame(),
            0 => sample.volume(),
            _ => {}
        }
    }
    let made = sample.finish();
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!((ran.summary().exit_code, ran.summary().incomplete), (0, 0), "{:?}", ran.warnings());
    nasty::assert_same(source.path(), &to);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_is_found_by_a_few_small_reads() {
    let mut sample = ten().segments_of(4);
    sample.volume();
    let made = sample.finish();
    let (_folder, to) = target();
    let mut task = task(&made, &to);
    task.paths = vec!["a/7".into()];
    let ran = run(&made, &task).await;
    let summary = ran.summary();
    assert_eq!(fs::read(to.join("a/7")).unwrap(), noise(7, 50_000));
    assert_eq!((names(&to), names(&to.join("a")), summary.items), (vec!["a".into()], vec!["7".into()], 1));
    // As earlier releases made it: a listing, manifest and signature, index, segment, head and frame of a volume.
    assert_eq!((summary.requests.list, summary.requests.get), (1, 6));
    // Chunks of age are 64 KiB, and the frame lies across a border.
    assert!(summary.fetched_bytes < 160_000, "{}", summary.fetched_bytes);
    assert_eq!(mode(&to.join("a")), 0o700, "a directory that was not asked for opens to nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_read_one_file_reads_the_next_by_a_listing_and_two_reads() {
    let mut sample = ten().segments_of(4);
    sample.volume();
    let made = sample.finish();
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let read = async |path: &str, to: &str| {
        let mut task = task(&made, &folder.path().join(to));
        task.paths = vec![path.into()];
        let before = made.store.requests();
        let ran = run_beside(&made.repository, &task, state.path()).await;
        let requests = made.store.requests();
        let bytes = fs::read(folder.path().join(to).join(path)).unwrap_or_default();
        (ran.outcome.is_ok(), bytes, requests.list - before.list, requests.get - before.get)
    };
    assert_eq!(read("a/7", "1").await, (true, noise(7, 50_000), 1, 6));
    assert_eq!(read("a/7", "2").await, (true, noise(7, 50_000), 1, 2), "head and frame");
    assert_eq!(read("a/1", "3").await, (true, noise(1, 50_000), 1, 3), "and a segment that was not read yet");

    // What lies in the folder is proved each time: what is spoilt there is read from the store again.
    let kept = state.path().join("web/read");
    for file in fs::read_dir(&kept).unwrap() {
        fs::write(file.unwrap().path(), b"spoilt").unwrap();
    }
    assert_eq!(read("a/1", "4").await, (true, noise(1, 50_000), 1, 6));
    // And a point that is not listed any more is not there, whatever this host keeps.
    made.store.remove(&made.key("points/", "manifest.json"));
    assert!(!read("a/1", "5").await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glob_takes_a_directory_with_all_below_and_nothing_else() {
    let mut sample = ten();
    sample.directory("b");
    sample.file("b/x", b"x");
    sample.file("b.txt", b"text");
    let made = sample.finish();
    let (_folder, to) = target();
    let mut task = task(&made, &to);
    task.paths = vec!["b".into(), "a/[89]".into()];
    assert_eq!(run(&made, &task).await.summary().items, 4);
    assert_eq!((names(&to), names(&to.join("a"))), (vec!["a".into(), "b".into()], vec!["8".into(), "9".into()]));
    assert_eq!(mode(&to.join("b")), 0o755);
    task.paths = vec!["nothing/like/this".into()];
    let ran = run(&made, &task).await;
    assert_eq!(ran.fault().exit(), Exit::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_catalog_writes_nothing_outside_the_target() {
    let (folder, to) = target();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let mut sample = Sample::new();
    sample.directory("");
    let link = |target: &str| Meta {
        link_target: Some(RawPath::new(target)),
        ..meta(EntryKind::Symlink, target.len() as u64)
    };
    sample.entry("planted", link("../outside"));
    sample.file("planted/new", b"through the link");
    sample.directory("planted/sub");
    let linked = |inode| Meta { links: 2, inode, ..meta(EntryKind::File, 6) };
    sample.content(RawPath::new("planted/secret"), linked(7), b"stolen");
    sample.content(RawPath::new("stolen"), linked(7), b"stolen");
    sample.file("good", b"good");
    let made = sample.finish();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    assert_eq!(fs::read(to.join("good")).unwrap(), b"good");
    assert!(ran.outcome.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_the_files_it_hits_and_no_others() {
    type Harm = fn(&Made, &dualsync_archive_store::contract::Key);
    let harms: [(&str, Harm, &[&str]); 3] = [
        ("missing", |made, key| drop(made.store.remove(key)), &["a/5", "a/6", "a/7", "a/8", "a/9"]),
        ("truncated", Made::truncate, &["a/6", "a/7", "a/8", "a/9"]),
        // Both share the damaged chunk of age.
        ("digest", Made::flip, &["a/6", "a/7"]),
    ];
    for (kind, harm, hit) in harms {
        let made = ten().finish();
        let key = made.key("volumes/", "00001.tar.zst.age");
        harm(&made, &key);
        let (_folder, to) = target();
        let ran = run(&made, &task(&made, &to)).await;
        assert_eq!(ran.fault().exit(), Exit::Damaged, "{kind}");
        let findings = ran.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].kind.as_str(), findings[0].object.as_str()), (kind, key.as_str()));
        assert_eq!(findings[0].paths, hit.iter().map(|path| RawPath::new(*path)).collect::<Vec<_>>(), "{kind}");
        assert_eq!(names(&to.join("a")).len(), 10 - hit.len(), "{kind}");
        assert_eq!(names(&to), ["a"], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_the_catalog_says_never_stands() {
    let mut sample = ten();
    sample.file("liar", b"what is stored").sha256 = Some(Digest::of(b"what was read"));
    sample.parted("liar in parts", meta(EntryKind::File, 6), &[b"abc", b"def"]);
    let made = sample.finish_with(|entries| {
        entries.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        let parted = entries.iter_mut().find(|(entry, _)| entry.parts > 0).unwrap();
        parted.1.swap(0, 1);
    });
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!(ran.fault().exit(), Exit::Damaged);
    assert_eq!(names(&to), ["a"]);
    let hit: Vec<_> = ran.findings().into_iter().flat_map(|finding| finding.paths.clone()).collect();
    assert_eq!(hit.len(), 2, "{hit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_parts_is_put_together_with_its_holes() {
    let (one, two, three) = (noise(1, 400_000), noise(2, 300_000), noise(3, 100_000));
    let extents = vec![Extent { offset: 8192, length: 500_000 }, Extent { offset: 1_000_000, length: 300_000 }];
    let sparse = Meta { extents: Some(extents), ..meta(EntryKind::File, 2_000_000) };
    let data = [&one[..], &two, &three].concat();
    let mut expected = vec![0; 2_000_000];
    expected[8192..508_192].copy_from_slice(&data[..500_000]);
    expected[1_000_000..1_300_000].copy_from_slice(&data[500_000..]);
    let mut sample = Sample::new();
    sample.directory("");
    sample.parted("whole", meta(EntryKind::File, 700_000), &[&one, &two]);
    sample.frame();
    let entry = sample.entry("sparse", sparse);
    (entry.sha256, entry.parts) = (Some(Digest::of(&expected)), 3);
    sample.part(&one);
    sample.part(&two);
    sample.volume();
    sample.part(&three);
    let made = sample.finish();
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!(ran.summary().exit_code, 0, "{:?}", ran.findings());
    assert!(fs::read(to.join("sparse")).unwrap() == expected);
    assert!(fs::read(to.join("whole")).unwrap() == data[..700_000]);
    let blocks = fs::metadata(to.join("sparse")).unwrap().blocks();
    assert!(blocks * 512 < 1_000_000, "holes stay holes: {blocks} blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_parts_lead_the_segment_after_it_comes_back_alone() {
    let (one, two) = (noise(1, 100_000), noise(2, 100_000));
    let mut sample = Sample::new().splits_parts();
    sample.directory("");
    sample.file("a", b"a");
    sample.parted("big", meta(EntryKind::File, 200_000), &[&one, &two]);
    sample.file("c", b"c");
    sample.parted("d", meta(EntryKind::File, 200_000), &[&two, &one]);
    sample.file("e", b"e");
    let made = sample.finish();
    // Between "big" and "e" a segment is left out that begins with parts, as that of "e" does.
    for wanted in [&["big"][..], &["c"], &["d"], &["a", "e"], &["big", "e"]] {
        let (_folder, to) = target();
        let ran =
            run(&made, &RestoreTask { paths: wanted.iter().map(|&path| path.into()).collect(), ..task(&made, &to) })
                .await;
        assert_eq!(ran.summary().exit_code, 0, "{wanted:?}: {:?}", ran.findings());
        assert_eq!(names(&to), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_costs_its_file() {
    let mut sample = Sample::new();
    sample.directory("");
    sample.parted("big", meta(EntryKind::File, 200_000), &[&noise(1, 100_000), &noise(2, 100_000)]);
    sample.volume();
    sample.file("small", b"small");
    let made = sample.finish();
    let key = made.key("volumes/", "00000.tar.zst.age");
    made.flip(&key);
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!((ran.fault().exit(), names(&to)), (Exit::Damaged, vec!["small".into()]));
    assert_eq!(ran.findings()[0].paths, [RawPath::new("big")]);
    assert_eq!(ran.findings()[0].object, key.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_part_of_the_catalog_costs_its_entries() {
    let made = ten().segments_of(4).finish();
    let listing =
        Listing::open(&made.repository, &Copy::find(&made.repository, &made.point).await.unwrap()).await.unwrap();
    let segments = listing.keys();
    assert_eq!(segments.len(), 3);
    made.store.remove(&segments[0].parse().unwrap());
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!(ran.fault().exit(), Exit::Damaged);
    // Even their directory's own entry is lost.
    assert_eq!(names(&to.join("a")), ["2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(ran.findings()[0].problem.contains("4 entries from '.' on are unknown"), "{:?}", ran.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_restore_fetches_nothing_again() {
    let made = ten().finish();
    let volume = made.key("volumes/", "00001.tar.zst.age").to_string();
    let broken =
        FaultyStore::new(Arc::<dualsync_archive_store::memory::MemoryStore>::clone(&made.store), move |call| {
            (call.operation == Operation::Get && call.object == volume).then_some(StoreFault::Fail(ErrorKind::Denied))
        });
    let (_folder, to) = target();
    let mut task = task(&made, &to);
    let ran = run_on(&made.through(Arc::new(broken)), &task).await;
    assert_eq!((ran.fault().exit(), ran.fault().code()), (Exit::Failed, "store"));
    assert_eq!(names(&to.join("a")), ["0", "1", "2", "3", "4"]);
    // As if the machine had crashed with one file not yet on disk.
    fs::write(to.join("a/3"), "").unwrap();
    task.resume = true;
    let ran = run(&made, &task).await;
    let summary = ran.summary();
    assert_eq!((summary.exit_code, summary.items), (0, 12));
    for n in 0..10 {
        assert!(fs::read(to.join(format!("a/{n}"))).unwrap() == noise(n, 50_000), "{n}");
    }
    assert_eq!(names(&to), ["a"], "the staging folder is gone");
    // The second volume, and of the first the chunks of age that hold the one file.
    let wanted = 250_000 + 140_000;
    assert!(summary.fetched_bytes < wanted + 20_000, "{} bytes were fetched", summary.fetched_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_restore_goes_on_in_the_middle_of_a_file_in_parts() {
    let parts: Vec<_> = (0..12).map(|n| noise(n, 600_000)).collect();
    let mut sample = Sample::new();
    sample.directory("");
    let entry = sample.entry("big", meta(EntryKind::File, 12 * 600_000));
    (entry.sha256, entry.parts) = (Some(Digest::of(&parts.concat())), 12);
    for (n, part) in parts.iter().enumerate() {
        if n == 9 {
            sample.volume();
        }
        sample.part(part);
        sample.frame();
    }
    let made = sample.finish();
    let volume = made.key("volumes/", "00001.tar.zst.age").to_string();
    let broken =
        FaultyStore::new(Arc::<dualsync_archive_store::memory::MemoryStore>::clone(&made.store), move |call| {
            (call.operation == Operation::Get && call.object == volume).then_some(StoreFault::Fail(ErrorKind::Denied))
        });
    let (_folder, to) = target();
    let mut task = task(&made, &to);
    let ran = run_on(&made.through(Arc::new(broken)), &task).await;
    assert_eq!(ran.fault().code(), "store");
    let staged = names(&to.join(".dualsync-restore"));
    let left = to.join(".dualsync-restore").join(staged.iter().find(|name| name.starts_with("parted-")).unwrap());
    // As if the machine had crashed with a block that is not on disk.
    let file = fs::OpenOptions::new().write(true).open(&left).unwrap();
    file.write_all_at(&[0; 4096], 8192).unwrap();
    task.resume = true;
    let ran = run(&made, &task).await;
    let summary = ran.summary();
    assert!(fs::read(to.join("big")).unwrap() == parts.concat());
    assert_eq!((summary.exit_code, names(&to)), (0, vec!["big".to_owned()]), "the staging folder is gone");
    // The second volume, and the run of 4 MiB in which the block was lost; not the run after it.
    let wanted = 3 * 600_000 + (4 << 20) + 600_000;
    assert!(summary.fetched_bytes < wanted + 100_000, "{} bytes were fetched", summary.fetched_bytes);

    // Without --resume nothing that lies there is used.
    let (_folder, other) = target();
    fs::create_dir_all(other.join(".dualsync-restore")).unwrap();
    fs::write(other.join(".dualsync-restore").join(left.file_name().unwrap()), "junk").unwrap();
    task.to = other;
    task.resume = false;
    assert_eq!(run(&made, &task).await.summary().exit_code, 0);
    assert!(fs::read(task.to.join("big")).unwrap() == parts.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_stays_unless_overwriting_is_asked_for() {
    let made = ten().finish();
    let (_folder, to) = target();
    fs::create_dir_all(to.join("a")).unwrap();
    fs::write(to.join("a/0"), "mine").unwrap();
    fs::write(to.join("mine"), "mine").unwrap();
    fs::set_permissions(to.join("a"), fs::Permissions::from_mode(0o711)).unwrap();
    let mut task = task(&made, &to);
    let ran = run(&made, &task).await;
    assert_eq!((ran.summary().exit_code, ran.summary().incomplete), (Exit::Incomplete.code(), 1));
    assert_eq!(ran.warnings()[0].message, "'a/0' exists already");
    assert_eq!(fs::read(to.join("a/0")).unwrap(), b"mine");
    assert_eq!(mode(&to.join("a")), 0o711);
    task.overwrite = true;
    assert_eq!(run(&made, &task).await.summary().exit_code, 0);
    assert!(fs::read(to.join("a/0")).unwrap() == noise(0, 50_000));
    assert_eq!(fs::read(to.join("mine")).unwrap(), b"mine");
    assert_eq!(mode(&to.join("a")), 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_touches_and_fetches_nothing() {
    let made = ten().finish();
    let (_folder, to) = target();
    let mut task = task(&made, &to);
    task.dry_run = true;
    let ran = run(&made, &task).await;
    assert_eq!((ran.summary().items, ran.summary().bytes), (12, 500_000));
    assert!(!to.exists() && ran.summary().fetched_bytes < 50_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_writer_could_not_read_is_said_again() {
    let mut sample = ten();
    let problem = "cannot be read at byte 0".to_owned();
    sample.entry("lost", meta(EntryKind::File, 9)).state = State::Unreadable { problem };
    sample.file("moved", b"half").state = State::Changed { problem: "shrank".into() };
    sample.entry("vanished", meta(EntryKind::File, 0)).state = State::Changed { problem: "vanished".into() };
    sample.entry("socket", meta(EntryKind::Socket, 0));
    let made = sample.finish();
    let (_folder, to) = target();
    let ran = run(&made, &task(&made, &to)).await;
    assert_eq!((ran.summary().exit_code, ran.summary().incomplete), (3, 2));
    let codes: Vec<_> = ran.warnings().iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["unreadable", "changed", "changed"]);
    assert_eq!(names(&to), ["a", "moved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_the_other_paths_business() {
    let made = ten().finish();
    let (_folder, to) = target();
    let ran = run(&made, &RestoreTask { shape: Shape::Image, ..task(&made, &to) }).await;
    assert_eq!((ran.fault().exit(), to.exists()), (Exit::Usage, false));
}

/// A restore through a bad line, once for each request: what stands is right, whatever happened.
async fn sweep(made: Made, fault: StoreFault, check_end: impl Fn(u64, &Ran)) {
    let store = || Arc::<dualsync_archive_store::memory::MemoryStore>::clone(&made.store);
    for number in 0.. {
        let broken = Arc::new(FaultyStore::at_call(store(), number, fault));
        let (_folder, to) = target();
        let mut task = task(&made, &to);
        let ran = run_on(&made.through(Arc::<FaultyStore>::clone(&broken)), &task).await;
        if broken.calls() <= number {
            assert!(number >= 8, "{number} requests are too few to be the whole restore");
            return;
        }
        check_end(number, &ran);
        for n in 0..10 {
            let found = fs::read(to.join(format!("a/{n}")));
            assert!(found.is_err() || found.is_ok_and(|found| found == noise(n, 50_000)), "call {number}, file {n}");
        }
        let parted = fs::read(to.join("b"));
        assert!(parted.is_err() || parted.is_ok_and(|found| found == noise(20, 100_000)), "call {number}");
        task.resume = true;
        assert_eq!(run(&made, &task).await.summary().exit_code, 0, "call {number}");
        assert_eq!(names(&to.join("a")).len(), 10, "call {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_once_ends_the_restore_and_it_can_be_resumed() {
    let mut sample = ten();
    sample.volume();
    let parted = noise(20, 100_000);
    sample.parted("b", meta(EntryKind::File, 100_000), &[&parted[..60_000], &parted[60_000..]]);
    sweep(sample.finish(), StoreFault::Fail(ErrorKind::Timeout), |number, ran| {
        assert_eq!((ran.fault().exit(), ran.fault().code()), (Exit::Failed, "store"), "call {number}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_any_answer_is_never_restored() {
    sweep(ten().finish(), StoreFault::Flip(700), |number, ran| match &ran.outcome {
        Err(fault) => assert_eq!(fault.exit(), Exit::Damaged, "call {number}"),
        // A listing has no bytes to flip, and the first line of a signature is a comment that nobody signs.
        Ok(_) => assert!(number == 0 || number == 2, "call {number}"),
    })
    .await;
}
