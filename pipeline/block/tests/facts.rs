//! Facts of real file systems, read through the view by the real program, against what `std` sees.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "machine/far.rs"]
mod far;
#[path = "machine/frozen.rs"]
mod frozen;
mod machine;
#[path = "machine/stored.rs"]
mod stored;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dualsync_block::facts::{FactsError, Outcome, Question, facts};
use dualsync_block::view::{BlockSource, ReaderError, Setup};
use dualsync_model::event::{Event, Finding};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use dualsync_model::slice::Slice;
use rustix::fs::{Mode, OFlags};

use self::far::{FarImage, Road};
use self::frozen::Frozen;
use self::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image, run, text};
use self::stored::{BLOCK_BYTES, Faults, ImageFile};

/// A tree with one of everything; returns how many entries it has.
fn fill(root: &Path) {
    let deep = root.join("deep/er");
    fs::create_dir_all(&deep).unwrap();
    for number in 0..300_usize {
        let bytes: Vec<u8> = (0..number * 700).map(|at| (at * number % 253).to_le_bytes()[0]).collect();
        fs::write(deep.join(format!("file-{number}")), bytes).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9 \n")), b"raw name").unwrap();
    fs::write(root.join("n".repeat(255)), b"long name").unwrap();
    fs::hard_link(deep.join("file-7"), root.join("hard")).unwrap();
    std::os::unix::fs::symlink("deep/../nowhere", root.join("link")).unwrap();
    run("mkfifo", &[text(&root.join("fifo"))]);
    run("mknod", &[text(&root.join("null")), "c", "1", "3"]);
    run("mknod", &[text(&root.join("disk")), "b", "259", "70000"]);
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"island", 30 << 20).unwrap();
    run("touch", &["-h", "-d", "1961-04-12T06:07:08.123456789Z", text(&root.join("link"))]);
    run("touch", &["-d", "1969-12-31T23:59:59.5Z", text(&root.join("sparse"))]);
    run("chown", &["1234:65534", text(&deep)]);
    fs::set_permissions(deep.join("file-1"), fs::Permissions::from_mode(0o6751)).unwrap();
    if Path::new("/usr/bin/setfattr").exists() {
        run("setfattr", &["-n", "user.note", "-v", "hello", text(&deep.join("file-2"))]);
        run("setfattr", &["-n", "trusted.t", "-v", "x", text(&deep)]);
    }
}

/// What the kernel and `sha256sum` say of every entry of a mounted tree.
fn expected(root: &Path, whole_seconds: bool) -> BTreeMap<RawPath, Fact> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = match meta.mode() & 0o170_000 {
            0o100_000 => EntryKind::File,
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::Symlink,
            0o010_000 => EntryKind::Fifo,
            0o020_000 => EntryKind::CharDevice,
            0o060_000 => EntryKind::BlockDevice,
            other => panic!("{other:o}"),
        };
        if kind == EntryKind::Directory {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let raw = RawPath::new(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
        let nanos = if whole_seconds { 0 } else { u32::try_from(meta.mtime_nsec()).unwrap() };
        let fact = Fact {
            path: raw.clone(),
            kind,
            size: if matches!(kind, EntryKind::File | EntryKind::Symlink) { meta.len() } else { 0 },
            mtime: dualsync_model::time::Timestamp::new(meta.mtime(), nanos).unwrap(),
            mtime_whole_seconds: whole_seconds,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            link_target: (kind == EntryKind::Symlink)
                .then(|| RawPath::new(fs::read_link(&path).unwrap().as_os_str().as_bytes())),
            device: is_device.then(|| {
                let device = meta.rdev();
                (rustix::fs::major(device), rustix::fs::minor(device))
            }),
            xattrs: None,
            hard_link: (kind != EntryKind::Directory && meta.nlink() > 1).then(|| meta.ino()),
            sha256: (kind == EntryKind::File).then(|| sha256sum(&path)),
            state: FactState::Good,
        };
        found.insert(raw, fact);
    }
    found
}

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").stdin(File::open(path).unwrap()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

struct Read {
    outcome: Result<Outcome, FactsError>,
    facts: Vec<Fact>,
    findings: Vec<Finding>,
}

struct Ask<'a> {
    image: &'a Path,
    kernel_mount: bool,
    slice: Option<Slice>,
    faults: Arc<Faults>,
}

impl<'a> Ask<'a> {
    fn of(image: &'a Path) -> Self {
        Self { image, kernel_mount: true, slice: None, faults: Arc::default() }
    }

    fn read(&self) -> Read {
        self.read_from(ImageFile::open(self.image, Arc::clone(&self.faults)))
    }

    fn read_from(&self, image: impl BlockSource) -> Read {
        let state = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let setup = Setup {
            program: PathBuf::from(env!("CARGO_BIN_EXE_dualsync-block")),
            state: state.path().to_owned(),
            kernel_mount: self.kernel_mount,
            runtime: runtime.handle().clone(),
        };
        let point = "web@20261120T020000Z".parse().unwrap();
        let question = Question { point: &point, target: "paris", slice: self.slice };
        let (mut facts_seen, mut findings) = (Vec::new(), Vec::new());
        let outcome = facts(image, &question, &setup, &mut |event| match event {
            Event::Fact(fact) => facts_seen.push(*fact),
            Event::Finding(finding) => {
                assert!(facts_seen.is_empty(), "findings come before the facts");
                findings.push(finding);
            }
            _ => {}
        });
        let left = fs::read_dir(state.path().join("views")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a view was left behind");
        Read { outcome, facts: facts_seen, findings }
    }
}

/// Compares all but the digest of extended attributes, which a test of its own looks at.
fn assert_equal(read: &Read, expected: &BTreeMap<RawPath, Fact>) {
    read.outcome.as_ref().unwrap();
    assert!(read.facts.is_sorted_by(|a, b| a.path < b.path), "not in the common order");
    let seen: BTreeMap<_, _> =
        read.facts.iter().map(|fact| (fact.path.clone(), Fact { xattrs: None, ..fact.clone() })).collect();
    for (path, fact) in expected {
        assert_eq!(seen.get(path), Some(fact), "{path}");
    }
    assert_eq!(seen.len(), expected.len());
}

fn check_kernel_mount(make: &[&str], size_mib: u64) {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", size_mib, make);
    let expected = {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fill(mounted.path());
        expected(mounted.path(), false)
    };
    let read = Ask::of(&image).read();
    assert_equal(&read, &expected);
    assert!(read.findings.is_empty());
    let outcome = read.outcome.unwrap();
    assert_eq!((outcome.entries, outcome.damaged), (expected.len() as u64, 0));
}

#[test]
fn the_facts_of_an_ext4_image_are_those_of_the_mounted_tree() {
    if has_loop_devices() {
        check_kernel_mount(&["mke2fs", "-q", "-F", "-t", "ext4"], 128);
    }
}

#[test]
fn the_facts_of_an_ext2_image_are_those_of_the_mounted_tree() {
    if has_loop_devices() {
        check_kernel_mount(&["mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024"], 128);
    }
}

#[test]
fn the_facts_of_an_xfs_image_are_those_of_the_mounted_tree() {
    if has_loop_devices() && has_programs(&["mkfs.xfs"]) {
        check_kernel_mount(&["mkfs.xfs", "-q", "-f"], 512);
    }
}

#[test]
fn the_facts_of_a_btrfs_image_are_those_of_the_mounted_tree() {
    if has_loop_devices() && has_programs(&["mkfs.btrfs"]) {
        check_kernel_mount(&["mkfs.btrfs", "-q", "-f"], 256);
    }
}

#[test]
fn fuse2fs_tells_the_same_to_the_second() {
    if !has_loop_devices() || !has_programs(&["fuse2fs", "fusermount3"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let expected = {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fill(mounted.path());
        expected(mounted.path(), true)
    };
    let read = Ask { kernel_mount: false, ..Ask::of(&image) }.read();
    assert_equal(&read, &expected);
}

#[test]
fn what_was_fsynced_into_a_journal_is_told_as_it_would_boot() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let copy = folder.path().join("copy");
    let expected = {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fill(mounted.path());
        File::create(mounted.path().join("last")).unwrap().sync_all().unwrap();
        run("sync", &["-f", text(mounted.path())]);
        let late = File::create(mounted.path().join("late")).unwrap();
        late.write_all_at(b"only the journal knows me", 0).unwrap();
        late.sync_all().unwrap();
        fs::copy(&image, &copy).unwrap();
        expected(mounted.path(), false)
    };
    let before = sha256sum(&copy);
    let read = Ask::of(&copy).read();
    assert_equal(&read, &expected);
    if has_programs(&["fuse2fs"]) {
        let read = Ask { kernel_mount: false, ..Ask::of(&copy) }.read();
        read.outcome.unwrap();
        assert!(read.facts.iter().any(|fact| fact.path == RawPath::new("late") && fact.size == 25));
    }
    assert_eq!(sha256sum(&copy), before, "the stored image was written to");
}

#[test]
fn extended_attributes_have_the_documented_digest() {
    if !has_loop_devices() || !has_programs(&["setfattr"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 32, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fs::write(mounted.path().join("with"), b"").unwrap();
        fs::write(mounted.path().join("without"), b"").unwrap();
        run("setfattr", &["-n", "user.b", "-v", "2", text(&mounted.path().join("with"))]);
        run("setfattr", &["-n", "user.a", "-v", "1", text(&mounted.path().join("with"))]);
    }
    let read = Ask::of(&image).read();
    let xattrs_of =
        |name: &str| read.facts.iter().find(|fact| fact.path == RawPath::new(name)).unwrap().xattrs.clone().unwrap();
    let expected = folder.path().join("expected");
    fs::write(&expected, b"\x06\0\0\0user.a\x01\0\0\x001\x06\0\0\0user.b\x01\0\0\x002").unwrap();
    assert_eq!(xattrs_of("with"), sha256sum(&expected));
    assert_eq!(xattrs_of("without"), "");
}

#[test]
fn a_slice_lists_everything_and_reads_its_part() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        fill(Mounted::new(device.path(), &folder.path().join("mnt"), "rw").path());
    }
    let all = Ask::of(&image).read();
    let mut hashed = 0;
    for index in 1..=4 {
        let slice = Slice::new(index, 4).unwrap();
        let part = Ask { slice: Some(slice), ..Ask::of(&image) }.read();
        assert_eq!(part.facts.len(), all.facts.len());
        for (seen, whole) in part.facts.iter().zip(&all.facts) {
            let expected = if whole.kind != EntryKind::File || slice.contains(whole.path.as_bytes()) {
                whole.clone()
            } else {
                Fact { sha256: None, state: FactState::Skipped, ..whole.clone() }
            };
            assert_eq!(*seen, expected);
            hashed += usize::from(seen.sha256.is_some());
        }
    }
    assert_eq!(hashed, all.facts.iter().filter(|fact| fact.kind == EntryKind::File).count());
}

#[test]
fn folders_that_lie_scattered_are_asked_for_several_at_once_and_none_twice() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    for number in 0..64_usize {
        // Between the records of two folders lies the content of one.
        let bytes: Vec<u8> = (0..256 << 10).map(|at| (at / 7 % 250 + number % 5 + 1).to_le_bytes()[0]).collect();
        fs::create_dir_all(tree.join(format!("folder-{number}"))).unwrap();
        fs::write(tree.join(format!("folder-{number}/file")), bytes).unwrap();
    }
    let image = image(folder.path(), "disk", 64, &["mke2fs", "-q", "-F", "-t", "ext4", "-d", text(&tree)]);
    // Next to no content: what is asked for together is asked for by the walk.
    let ask = Ask { slice: Some(Slice::new(1, 1000).unwrap()), ..Ask::of(&image) };
    let near = ask.read();
    let road = Arc::new(Road::new(6));
    ask.faults.fetched.lock().unwrap().clear();
    let far = FarImage { image: ImageFile::open(&image, Arc::clone(&ask.faults)), road: Arc::clone(&road) };
    let far = ask.read_from(far);
    assert_eq!(far.facts, near.facts);
    assert_eq!(far.outcome.unwrap().entries, 2 + 2 * 64);
    let met = road.met.load(Ordering::SeqCst);
    assert!(met >= 4, "six fetches were under way at the same time only {met} times");
    let mut fetched: Vec<u64> = ask.faults.fetched.lock().unwrap().iter().cloned().flatten().collect();
    let count = fetched.len();
    fetched.sort_unstable();
    fetched.dedup();
    assert_eq!(fetched.len(), count, "a block was fetched twice");
}

#[test]
fn a_frozen_xfs_copied_as_it_lies_is_read() {
    if !has_loop_devices() || !has_programs(&["mkfs.xfs", "fsfreeze"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 512, &["mkfs.xfs", "-q", "-f"]);
    let device = LoopDevice::attach(&image);
    let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
    fill(mounted.path());
    let copy = folder.path().join("copy");
    {
        let _frozen = Frozen::new(&mounted);
        fs::copy(&image, &copy).unwrap();
    }
    // Beside its live twin, with the same id.
    assert_equal(&Ask::of(&copy).read(), &expected(mounted.path(), false));
}

#[test]
fn a_btrfs_beside_its_live_twin_is_not_mixed_up_with_it() {
    if !has_loop_devices() || !has_programs(&["mkfs.btrfs"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 256, &["mkfs.btrfs", "-q", "-f"]);
    let device = LoopDevice::attach(&image);
    let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
    fs::write(mounted.path().join("before"), b"1").unwrap();
    run("sync", &["-f", text(mounted.path())]);
    let copy = folder.path().join("copy");
    fs::copy(&image, &copy).unwrap();
    fs::write(mounted.path().join("after"), b"2").unwrap();
    match Ask::of(&copy).read() {
        Read { outcome: Ok(_), facts, .. } => {
            let paths: Vec<_> = facts.iter().map(|fact| fact.path.to_string()).collect();
            assert_eq!(paths, [".", "before"], "these are the facts of the live file system");
        }
        Read { outcome: Err(error), .. } => {
            let FactsError::Reader { source: ReaderError::Failed { message, .. }, .. } = error else {
                panic!("{error:?}");
            };
            assert!(message.contains("cannot tell the stored one from it"), "{message}");
        }
    }
}

#[test]
fn a_path_longer_than_the_kernel_takes_at_once_is_told_with_its_content() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 64, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let name = "d".repeat(240);
    {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        let mut at: OwnedFd = File::open(mounted.path()).unwrap().into();
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = rustix::fs::openat(&at, "bottom", flags, Mode::RUSR).unwrap();
        File::from(file).write_all_at(b"far down", 0).unwrap();
    }
    for kernel_mount in [true, false] {
        if !kernel_mount && !has_programs(&["fuse2fs"]) {
            continue;
        }
        let read = Ask { kernel_mount, ..Ask::of(&image) }.read();
        read.outcome.unwrap();
        let bottom = read.facts.iter().max_by_key(|fact| fact.path.as_bytes().len()).unwrap();
        assert_eq!(bottom.path.as_bytes().len(), 40 * 241 + 6);
        assert_eq!(bottom.sha256.as_deref(), Some("24146c2a26d037bcac2ae11ae55f60348dd4735d924e22f9fe1fd77d50df3897"));
    }
}

/// Loop devices that a reader attached.
fn loop_devices_of_readers() -> usize {
    run("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"])
        .lines()
        .filter(|file| *file == "/image")
        .count()
}

#[test]
fn killed_in_the_middle_it_leaves_no_process_no_mount_and_no_loop_device() {
    const VICTIM: &str = "DUALSYNC_TEST_VICTIM_OF";
    if let Some(image) = std::env::var_os(VICTIM) {
        // The part that is killed: it waits for a block that never comes.
        let faults = Arc::new(Faults::default());
        *faults.stalled.lock().unwrap() = 40..u64::MAX;
        let ended = Ask { faults, ..Ask::of(Path::new(&image)) }.read();
        panic!("the store stands still, and yet: {:?}", ended.outcome);
    }
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        fill(Mounted::new(device.path(), &folder.path().join("mnt"), "rw").path());
    }
    let test = std::env::current_exe().unwrap();
    let mut victim = Command::new(test)
        .args(["--exact", "--nocapture", "killed_in_the_middle_it_leaves_no_process_no_mount_and_no_loop_device"])
        .env(VICTIM, &image)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(victim.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "stalled"), "it never came to the block that never comes");
    assert!(loop_devices_of_readers() > 0, "the reader should have attached one");
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The reader has the same standard error: its end is the end of the reader.
    assert!(said.all(|line| line.is_ok()));
    // Tests beside this one attach theirs for a while.
    let started = Instant::now();
    while loop_devices_of_readers() > 0 {
        assert!(started.elapsed() < Duration::from_mins(5), "a loop device stays attached");
        std::thread::yield_now();
    }
}

/// Where the first block of a file lies in the image.
fn place_of(file: &Path) -> u64 {
    let listing = run("filefrag", &["-b1024", "-e", text(file)]);
    let line = listing.lines().find(|line| line.trim_start().starts_with("0:")).expect("an extent");
    let first = line.split(':').nth(2).and_then(|part| part.split("..").next()).expect("an offset");
    first.trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_damaged_block_is_laid_to_the_files_it_hits_and_no_others() {
    if !has_loop_devices() || !has_programs(&["filefrag"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 256, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"]);
    let place = {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fill(mounted.path());
        fs::write(mounted.path().join("victim"), vec![b'v'; 4 << 20]).unwrap();
        run("sync", &["-f", text(mounted.path())]);
        place_of(&mounted.path().join("victim"))
    };
    let good = Ask::of(&image).read();
    for kernel_mount in [true, false] {
        if !kernel_mount && !has_programs(&["fuse2fs"]) {
            continue;
        }
        let faults = Arc::new(Faults::default());
        faults.damaged.lock().unwrap().insert(place / BLOCK_BYTES + 9, "packs/aa/bad".to_owned());
        let read = Ask { kernel_mount, faults, ..Ask::of(&image) }.read();
        let outcome = read.outcome.unwrap();
        assert_eq!((outcome.damaged, outcome.findings, outcome.entries), (1, 1, good.facts.len() as u64));
        let [finding] = read.findings.as_slice() else { panic!("{:?}", read.findings) };
        assert_eq!((finding.target.as_str(), finding.object.as_str()), ("paris", "packs/aa/bad"));
        assert_eq!(finding.paths, [RawPath::new("victim")]);
        for (seen, whole) in read.facts.iter().zip(&good.facts) {
            if whole.path == RawPath::new("victim") {
                assert!(matches!(&seen.state, FactState::Damaged { object, .. } if object == "packs/aa/bad"));
                assert_eq!(seen.sha256, None);
            } else {
                assert_eq!((&seen.sha256, &seen.state), (&whole.sha256, &whole.state));
            }
        }
    }
}

#[test]
fn damage_anywhere_is_told_and_never_hangs_nor_invents_content() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 64, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-N", "4096"]);
    {
        let device = LoopDevice::attach(&image);
        fill(Mounted::new(device.path(), &folder.path().join("mnt"), "rw").path());
    }
    let good: BTreeMap<_, _> = Ask::of(&image).read().facts.into_iter().map(|fact| (fact.path.clone(), fact)).collect();
    for block in (1..512).step_by(17) {
        let faults = Arc::new(Faults::default());
        faults.damaged.lock().unwrap().insert(block, format!("packs/{block}"));
        let read = Ask { faults, ..Ask::of(&image) }.read();
        let Ok(outcome) = read.outcome else { continue };
        for fact in &read.facts {
            if fact.state == FactState::Good && fact.sha256.is_some() {
                assert_eq!(fact.sha256, good[&fact.path].sha256, "block {block}: {}", fact.path);
            }
        }
        let missing = good.len() != read.facts.len();
        assert!(!missing || outcome.damaged > 0, "block {block}: entries are gone and nobody says why");
        assert!(outcome.damaged == 0 || outcome.findings > 0, "block {block}");
    }
}

#[test]
fn a_store_that_gives_no_answer_is_no_damage() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        fill(Mounted::new(device.path(), &folder.path().join("mnt"), "rw").path());
    }
    for silent in [0..1024, 300..1024] {
        let faults = Arc::new(Faults::default());
        *faults.silent.lock().unwrap() = silent;
        let read = Ask { faults, ..Ask::of(&image) }.read();
        assert!(matches!(read.outcome, Err(FactsError::Store { .. })), "{:?}", read.outcome);
        assert!(read.facts.is_empty() && read.findings.is_empty());
    }
}

#[test]
fn what_cannot_be_mounted_is_said_with_what_to_do() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let check = |image: &Path, kernel_mount: bool, message: &str, has_hint: bool| {
        let read = Ask { kernel_mount, ..Ask::of(image) }.read();
        let error = read.outcome.unwrap_err();
        let FactsError::Reader { source: ReaderError::Failed { message: found, hint }, .. } = error else {
            panic!("{error:?}");
        };
        assert!(found.contains(message), "{found}");
        assert_eq!(hint.is_some(), has_hint, "{found}");
    };
    let empty = folder.path().join("empty");
    File::create(&empty).unwrap().set_len(1 << 20).unwrap();
    check(&empty, true, "holds no ext2", false);
    let broken = image(folder.path(), "broken", 32, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    File::options().write(true).open(&broken).unwrap().write_all_at(&[0xff; 300], 1024 + 0x64).unwrap();
    check(&broken, true, "the kernel does not mount the stored ext4", false);
    if has_programs(&["mkfs.xfs"]) {
        let xfs = image(folder.path(), "xfs", 512, &["mkfs.xfs", "-q", "-f"]);
        check(&xfs, false, "only the kernel can mount xfs", true);
    }
}
