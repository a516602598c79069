//! Files restored out of real file systems by the real program.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod machine;
#[path = "machine/stored.rs"]
mod stored;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dualsync_block::files::{FilesError, Restored, restore_files};
use dualsync_block::view::Setup;
use dualsync_block::view::inside::Extract;
use dualsync_model::event::{Event, Finding, Warning};
use dualsync_model::path::RawPath;

use self::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image, run, text};
use self::stored::{BLOCK_BYTES, Faults, ImageFile};

struct Ask<'a> {
    image: &'a Path,
    extract: Extract,
    kernel_mount: bool,
    faults: Arc<Faults>,
}

struct Answer {
    outcome: Result<Restored, FilesError>,
    warnings: Vec<Warning>,
    findings: Vec<Finding>,
}

impl<'a> Ask<'a> {
    fn new(image: &'a Path, to: &Path, paths: &[&str]) -> Self {
        let paths = paths.iter().map(ToString::to_string).collect();
        let extract = Extract { paths, to: to.to_owned(), keep: false, overwrite: false, dry_run: false };
        Self { image, extract, kernel_mount: true, faults: Arc::default() }
    }

    fn restore(&self) -> Answer {
        let state = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let setup = Setup {
            program: PathBuf::from(env!("CARGO_BIN_EXE_dualsync-block")),
            state: state.path().to_owned(),
            kernel_mount: self.kernel_mount,
            runtime: runtime.handle().clone(),
        };
        let point = "web@20261120T020000Z".parse().unwrap();
        let (mut warnings, mut findings) = (Vec::new(), Vec::new());
        let image = ImageFile::open(self.image, Arc::clone(&self.faults));
        let outcome = restore_files(image, &point, "paris", self.extract.clone(), &setup, &mut |event| match event {
            Event::Warning(warning) => warnings.push(warning),
            Event::Finding(finding) => findings.push(finding),
            _ => {}
        });
        Answer { outcome, warnings, findings }
    }
}

fn fill(root: &Path) {
    let etc = root.join("etc/ssh");
    fs::create_dir_all(&etc).unwrap();
    fs::create_dir_all(root.join("var/empty")).unwrap();
    fs::write(etc.join("key"), b"secret").unwrap();
    fs::write(root.join("etc/passwd"), b"root").unwrap();
    fs::hard_link(etc.join("key"), root.join("etc/same")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("etc/link")).unwrap();
    run("mkfifo", &[text(&root.join("var/fifo"))]);
    run("mknod", &[text(&root.join("var/null")), "c", "1", "3"]);
    let sparse = File::create(root.join("var/sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"island", 10 << 20).unwrap();
    for number in 0..200_usize {
        fs::write(root.join(format!("var/file-{number}")), vec![b'x'; number * 333]).unwrap();
    }
    fs::set_permissions(etc.join("key"), fs::Permissions::from_mode(0o4710)).unwrap();
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o2550)).unwrap();
    run("chown", &["-h", "1000:1001", text(&root.join("etc/link")), text(&root.join("etc/passwd"))]);
    if has_setfattr() {
        run("setfattr", &["-n", "user.note", "-v", "hello", text(&root.join("etc/passwd"))]);
        run("setfattr", &["-n", "trusted.t", "-v", "x", text(&etc)]);
    }
    for (name, time) in [("etc/link", "1961-04-12T06:07:08.123456789Z"), ("etc", "2001-02-03T04:05:06.7Z")] {
        run("touch", &["-h", "-d", time, text(&root.join(name))]);
    }
}

fn has_setfattr() -> bool {
    Path::new("/usr/bin/setfattr").exists()
}

/// An image with [`fill`] in it, and the folder it lies in.
fn stored_tree(make: &[&str], size_mib: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", size_mib, make);
    let device = LoopDevice::attach(&image);
    fill(Mounted::new(device.path(), &folder.path().join("mnt"), "rw").path());
    drop(device);
    (folder, image)
}

const EXT4: [&str; 4] = ["mke2fs", "-q", "-Ft", "ext4"];

/// What `rsync` would still have to change; nothing when the trees are the same.
fn difference(image: &Path, folder: &Path, restored: &Path) -> String {
    let device = LoopDevice::attach(image);
    let mounted = Mounted::new(device.path(), &folder.join("mnt"), "ro");
    let (from, to) = (format!("{}/", text(mounted.path())), format!("{}/", text(restored)));
    // Without a window of -1 whole seconds are compared only.
    run(
        "rsync",
        &["-aHAXni", "--modify-window=-1", "--delete", "--checksum", "--no-specials", "--specials", &from, &to],
    )
}

#[test]
fn a_restored_tree_is_the_stored_one_by_the_judgement_of_rsync() {
    if !has_loop_devices() || !has_programs(&["rsync"]) {
        return;
    }
    for (make, size_mib) in [(&EXT4[..], 128), (&["mkfs.xfs", "-qf"][..], 512), (&["mkfs.btrfs", "-qf"][..], 256)] {
        if !has_programs(&make[..1]) {
            continue;
        }
        let (folder, image) = stored_tree(make, size_mib);
        let to = folder.path().join("out");
        let answer = Ask::new(&image, &to, &[]).restore();
        let restored = answer.outcome.unwrap();
        assert_eq!((restored.damaged, restored.not_restored), (0, 0), "{:?}", answer.warnings);
        assert_eq!(difference(&image, folder.path(), &to), "", "{make:?}");
        let sparse = fs::metadata(to.join("var/sparse")).unwrap();
        assert_eq!(sparse.len(), 20 << 20);
        assert!(sparse.blocks() * 512 < 1 << 20, "holes were filled");
        assert_eq!(
            fs::metadata(to.join("etc/ssh/key")).unwrap().ino(),
            fs::metadata(to.join("etc/same")).unwrap().ino()
        );
    }
}

#[test]
fn globs_bring_back_what_they_match_with_its_folders_and_nothing_else() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let check = |paths: &[&str], expected: &[&str]| {
        let to = folder.path().join("out");
        let answer = Ask::new(&image, &to, paths).restore();
        answer.outcome.unwrap();
        let listing = run("find", &[text(&to), "-mindepth", "1", "-printf", "%P\n"]);
        let mut found: Vec<_> = listing.lines().collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{paths:?}");
        fs::remove_dir_all(&to).unwrap();
    };
    check(&["etc/passwd"], &["etc", "etc/passwd"]);
    check(&["etc/ssh", "**/sparse"], &["etc", "etc/ssh", "etc/ssh/key", "var", "var/sparse"]);
    check(
        &["var/file-1?"],
        &[
            "var",
            "var/file-10",
            "var/file-11",
            "var/file-12",
            "var/file-13",
            "var/file-14",
            "var/file-15",
            "var/file-16",
            "var/file-17",
            "var/file-18",
            "var/file-19",
        ],
    );
    let to = folder.path().join("out");
    let nothing = Ask::new(&image, &to, &["etc/nothing"]).restore();
    assert!(matches!(nothing.outcome, Err(FilesError::NothingMatches { .. })));
}

#[test]
fn fuse2fs_restores_too() {
    if !has_loop_devices() || !has_programs(&["fuse2fs"]) {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let to = folder.path().join("out");
    let answer = Ask { kernel_mount: false, ..Ask::new(&image, &to, &["etc"]) }.restore();
    answer.outcome.unwrap();
    let key = fs::metadata(to.join("etc/ssh/key")).unwrap();
    assert_eq!((key.mode() & 0o7777, key.nlink()), (0o4710, 2));
    assert_eq!(fs::read(to.join("etc/passwd")).unwrap(), b"root");
}

#[test]
fn what_exists_stays_unless_it_may_be_written_over() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let to = folder.path().join("out");
    fs::create_dir_all(to.join("etc")).unwrap();
    fs::write(to.join("etc/passwd"), b"mine").unwrap();
    std::os::unix::fs::symlink("/dev/null", to.join("etc/link")).unwrap();
    let answer = Ask::new(&image, &to, &["etc"]).restore();
    assert_eq!(answer.outcome.unwrap().not_restored, 2);
    let mut told: Vec<_> = answer.warnings.into_iter().map(|warning| warning.path.unwrap()).collect();
    told.sort();
    assert_eq!(told, [RawPath::new("etc/link"), RawPath::new("etc/passwd")]);
    assert_eq!(fs::read(to.join("etc/passwd")).unwrap(), b"mine");

    let mut ask = Ask::new(&image, &to, &["etc"]);
    ask.extract.overwrite = true;
    assert_eq!(ask.restore().outcome.unwrap().not_restored, 0);
    assert_eq!(fs::read(to.join("etc/passwd")).unwrap(), b"root");
    assert_eq!(fs::read_link(to.join("etc/link")).unwrap(), Path::new("/etc/passwd"));
    assert!(run("find", &[text(&to), "-name", ".dualsync-restore-*"]).is_empty());
}

#[test]
fn an_interrupted_restore_goes_on_without_reading_again_what_it_made() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let to = folder.path().join("out");
    Ask::new(&image, &to, &[]).restore().outcome.unwrap();
    // As if it had been killed before these.
    for lost in ["etc/same", "var/file-7", "etc/link"] {
        fs::remove_file(to.join(lost)).unwrap();
    }
    fs::write(to.join("var/file-9"), b"changed since").unwrap();
    let mut ask = Ask::new(&image, &to, &[]);
    ask.extract.keep = true;
    let answer = ask.restore();
    let told: Vec<_> = answer.warnings.iter().map(|warning| warning.path.clone().unwrap()).collect();
    assert_eq!(told, [RawPath::new("var/file-9")]);
    assert!(answer.outcome.unwrap().bytes < 10_000, "content was read again");
    assert_eq!(fs::metadata(to.join("etc/ssh/key")).unwrap().ino(), fs::metadata(to.join("etc/same")).unwrap().ino());
    assert_eq!(fs::read(to.join("var/file-7")).unwrap().len(), 7 * 333);
    assert!(to.join("etc/link").is_symlink());
}

#[test]
fn a_link_planted_in_the_target_leads_nothing_out_of_it() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    for overwrite in [false, true] {
        let outside = folder.path().join(format!("outside-{overwrite}"));
        let to = folder.path().join(format!("out-{overwrite}"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(to.join("etc")).unwrap();
        std::os::unix::fs::symlink(&outside, to.join("etc/ssh")).unwrap();
        std::os::unix::fs::symlink(&outside, to.join("var")).unwrap();
        let mut ask = Ask::new(&image, &to, &[]);
        ask.extract.overwrite = overwrite;
        let answer = ask.restore();
        assert_eq!(answer.outcome.unwrap().not_restored > 0, !overwrite);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "written outside the target");
        assert_eq!(to.join("etc/ssh").is_symlink(), !overwrite);
    }
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
    assert!(Ask::new(&image, &link, &["etc"]).restore().outcome.is_err(), "the target itself is a link");
}

#[test]
fn a_dry_run_writes_nothing_and_fetches_no_content() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let to = folder.path().join("out");
    let mut ask = Ask::new(&image, &to, &["etc"]);
    ask.extract.dry_run = true;
    let restored = ask.restore().outcome.unwrap();
    assert_eq!((restored.entries, restored.bytes), (6, 16));
    assert!(!to.exists());
}

#[test]
fn a_damaged_file_is_a_finding_and_the_rest_is_restored() {
    if !has_loop_devices() || !has_programs(&["filefrag"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"]);
    let place = {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        fill(mounted.path());
        fs::write(mounted.path().join("etc/victim"), vec![b'v'; 2 << 20]).unwrap();
        run("sync", &["-f", text(mounted.path())]);
        let listing = run("filefrag", &["-b4096", "-e", text(&mounted.path().join("etc/victim"))]);
        let line = listing.lines().find(|line| line.trim_start().starts_with("0:")).unwrap();
        line.split(':').nth(2).unwrap().split("..").next().unwrap().trim().parse::<u64>().unwrap() * 4096
    };
    let to = folder.path().join("out");
    let ask = Ask::new(&image, &to, &["etc"]);
    ask.faults.damaged.lock().unwrap().insert(place / BLOCK_BYTES + 5, "packs/aa/bad".to_owned());
    let answer = ask.restore();
    let restored = answer.outcome.unwrap();
    assert_eq!((restored.damaged, restored.not_restored, restored.findings), (1, 0, 1));
    assert_eq!(answer.findings[0].object, "packs/aa/bad");
    assert_eq!(answer.findings[0].paths, [RawPath::new("etc/victim")]);
    assert!(!to.join("etc/victim").exists(), "half a file under its name");
    assert_eq!(fs::read(to.join("etc/passwd")).unwrap(), b"root");
    assert!(run("find", &[text(&to), "-name", ".dualsync-restore-*"]).is_empty());
}

#[test]
fn damage_that_keeps_the_image_from_being_mounted_is_a_finding_and_the_cause() {
    if !has_loop_devices() {
        return;
    }
    let (folder, image) = stored_tree(&EXT4, 64);
    let ask = Ask::new(&image, &folder.path().join("out"), &[]);
    // The block with the superblock.
    ask.faults.damaged.lock().unwrap().insert(0, "packs/aa/bad".to_owned());
    let answer = ask.restore();
    assert!(matches!(answer.outcome, Err(FilesError::Damaged { objects: 1, .. })), "{:?}", answer.outcome);
    assert_eq!(answer.findings[0].object, "packs/aa/bad");
}

#[test]
fn one_small_file_of_a_large_tree_costs_few_fetches() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 8192, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        for number in 0..60 {
            let at = mounted.path().join(format!("home/{number}/mail"));
            fs::create_dir_all(&at).unwrap();
            for file in 0..100 {
                fs::write(at.join(format!("{file}")), vec![b'm'; 20_000]).unwrap();
            }
        }
        fs::write(mounted.path().join("home/33/mail/wanted"), vec![b'w'; 1 << 20]).unwrap();
    }
    let to = folder.path().join("out");
    let ask = Ask::new(&image, &to, &["home/33/mail/wanted"]);
    ask.restore().outcome.unwrap();
    assert_eq!(fs::read(to.join("home/33/mail/wanted")).unwrap().len(), 1 << 20);
    let fetched = ask.faults.fetched.lock().unwrap().clone();
    let bytes: u64 = fetched.iter().map(|blocks| (blocks.end - blocks.start) * BLOCK_BYTES).sum();
    // The store's own records (repository, manifest, map pages) come on top of these.
    assert!(fetched.len() <= 28 && bytes <= 6 << 20, "{} fetches, {bytes} bytes: {fetched:?}", fetched.len());
}
