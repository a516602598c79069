//! The real program on a real file system: backed up to a directory, then told and restored from there.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "machine/frozen.rs"]
mod frozen;
mod machine;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dualsync_model::event::{Event, Failure, Finding, Summary};
use dualsync_model::fact::{Fact, FactState};
use dualsync_model::job::{
    BackupTask, Class, FactsTask, InitTask, Job, Keys, Place, RestoreTask, Shape, Snapshot, Target, Task,
};
use dualsync_model::path::RawPath;
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use self::frozen::Frozen;
use self::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image, run, text};

const NOW: &str = "2026-11-20T02:00:00Z";
const POINT: &str = "web@20261120T020000Z";

/// A repository in a folder, and the program that works on it.
struct Shop {
    folder: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(shop.repository()).unwrap();
        shop.run("init", Task::Init(InitTask::default())).summary();
        shop
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn run(&self, verb: &str, task: Task) -> Lines {
        let job = Job {
            protocol: dualsync_model::PROTOCOL,
            now: NOW.parse::<Timestamp>().unwrap(),
            target: Target {
                name: "paris".to_owned(),
                place: Place::Directory { path: self.repository() },
                prefix: String::new(),
                credentials: None,
                immutability: None,
            },
            keys: Keys::Block { key: SecretRef::File(self.folder.path().join("block.key")) },
            state: self.folder.path().join("state"),
            bandwidth: None,
            task,
        };
        let mut program = Command::new(env!("CARGO_BIN_EXE_dualsync-block"))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = program.stdin.take().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(&job).unwrap()).unwrap();
        stdin.write_all(b"{\"command\":\"commit\"}\n").unwrap();
        drop(stdin);
        let output = program.wait_with_output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        Lines(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn back_up(&self, device: &Path, is_device: bool) -> Summary {
        let point: dualsync_model::id::PointId = POINT.parse().unwrap();
        let task = BackupTask {
            business_date: point.time().utc_date(),
            run: dualsync_model::id::RunId::from_random([1; 8]),
            class: Class::Auto,
            note: None,
            expires: None,
            snapshot: Snapshot {
                id: "snapshot".to_owned(),
                method: "freeze".to_owned(),
                frozen: true,
                taken_at: point.time(),
                device: device.to_owned(),
                tree: "/".into(),
                is_device,
            },
            exclude: Vec::new(),
            compression: "deflate:1".to_owned(),
            other: None,
            remembered: None,
            grace_s: 86_400,
            resend: dualsync_model::job::Resend::default(),
            lock_until: None,
            point,
        };
        self.run("backup", Task::Backup(Box::new(task))).summary()
    }

    fn facts(&self) -> Lines {
        let task = FactsTask { point: POINT.parse().unwrap(), slice: None, kernel_mount: true };
        self.run("facts", Task::Facts(task))
    }

    fn restore(&self, to: &Path, paths: &[&str], shape: Shape) -> Lines {
        let task = RestoreTask {
            point: POINT.parse().unwrap(),
            to: to.to_owned(),
            shape,
            paths: paths.iter().map(ToString::to_string).collect(),
            resume: false,
            overwrite: false,
            dry_run: false,
            kernel_mount: true,
        };
        self.run("restore", Task::Restore(task))
    }
}

struct Lines(Vec<Event>);

impl Lines {
    fn summary(&self) -> Summary {
        match self.0.last() {
            Some(Event::Summary(summary)) => summary.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self) -> Failure {
        match self.0.last() {
            Some(Event::Error(failure)) => failure.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        self.0.iter().filter_map(|line| if let Event::Fact(fact) = line { Some(*fact.clone()) } else { None }).collect()
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |line: &Event| if let Event::Finding(finding) = line { Some(finding.clone()) } else { None };
        self.0.iter().filter_map(finding).collect()
    }
}

/// Bytes that no compressor shrinks.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn one_mebibyte_out_of_a_large_tree_costs_at_most_forty_requests_and_eight_mebibytes() {
    if !has_loop_devices() || !has_programs(&["mke2fs", "fsfreeze"]) {
        return;
    }
    let shop = Shop::new();
    let image = image(shop.folder.path(), "disk", 4096, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let device = LoopDevice::attach(&image);
    let wanted = noise(0, 1 << 20);
    {
        let mounted = Mounted::new(device.path(), &shop.folder.path().join("mnt"), "rw");
        for home in 0..40 {
            let at = mounted.path().join(format!("home/{home}/mail"));
            fs::create_dir_all(&at).unwrap();
            for file in 0..40 {
                fs::write(at.join(format!("{file}")), noise(home * 100 + file, 40_000)).unwrap();
            }
        }
        fs::write(mounted.path().join("home/21/mail/wanted"), &wanted).unwrap();
        run("sync", &["-f", text(mounted.path())]);
        let _frozen = Frozen::new(&mounted);
        let made = shop.back_up(device.path(), true);
        assert!(made.added_bytes > 60 << 20 && made.added_bytes < 200 << 20, "{}", made.added_bytes);
    }
    let to = shop.folder.path().join("out");
    let restored = shop.restore(&to, &["home/21/mail/wanted"], Shape::Tree).summary();
    assert!(fs::read(to.join("home/21/mail/wanted")).unwrap() == wanted);
    let (requests, bytes) = (restored.requests.total(), restored.fetched_bytes);
    assert!(requests <= 40 && bytes <= 8 << 20, "{requests} requests, {bytes} bytes");
    assert!(restored.peak_memory_bytes < 256 << 20, "{}", restored.peak_memory_bytes);

    let told = shop.facts();
    let summary = told.summary();
    assert_eq!((summary.exit_code, summary.items), (0, told.facts().len() as u64));
    // Long stretches, not a request a file: 1,600 files and 64 MiB.
    assert!(summary.requests.total() < 160, "{} requests", summary.requests.total());
}

#[test]
fn what_was_fsynced_and_never_checkpointed_is_in_the_copy() {
    if !has_loop_devices() || !has_programs(&["mke2fs", "e2fsck"]) {
        return;
    }
    let shop = Shop::new();
    let image = image(shop.folder.path(), "disk", 128, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let device = LoopDevice::attach(&image);
    let precious = noise(1, 700_000);
    let copy = shop.folder.path().join("copy");
    {
        let mounted = Mounted::new(device.path(), &shop.folder.path().join("mnt"), "rw");
        run("sync", &["-f", text(mounted.path())]);
        let file = File::create(mounted.path().join("precious")).unwrap();
        file.write_all_at(&precious, 0).unwrap();
        file.sync_all().unwrap();
        // The power fails here: what is on the disk is all there is.
        fs::copy(&image, &copy).unwrap();
    }
    shop.back_up(&copy, false);
    let restored = shop.folder.path().join("restored.img");
    shop.restore(&restored, &[], Shape::Image).summary();
    {
        let device = LoopDevice::attach(&restored);
        let mounted = Mounted::new(device.path(), &shop.folder.path().join("mnt"), "rw");
        assert!(fs::read(mounted.path().join("precious")).unwrap() == precious);
    }
    run("e2fsck", &["-fn", text(&restored)]);
    let facts = shop.facts().facts();
    assert!(facts.iter().any(|fact| fact.path == RawPath::new("precious") && fact.sha256.is_some()));
}

#[test]
fn a_flipped_byte_in_a_pack_is_a_finding_with_the_files_it_hits() {
    if !has_loop_devices() {
        return;
    }
    let shop = Shop::new();
    let image = image(shop.folder.path(), "disk", 256, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    {
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &shop.folder.path().join("mnt"), "rw");
        for file in 0..200 {
            fs::write(mounted.path().join(format!("file-{file}")), noise(file, 300_000)).unwrap();
        }
    }
    shop.back_up(&image, false);
    let good = shop.facts();
    assert!(good.findings().is_empty());
    let listing = run("find", &[text(&shop.repository().join("packs")), "-type", "f", "-size", "+20M"]);
    let pack = PathBuf::from(listing.lines().next().expect("a full pack"));
    let file = File::options().read(true).write(true).open(&pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 15 << 20).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 15 << 20).unwrap();

    let told = shop.facts();
    let failure = told.failure();
    assert_eq!((failure.exit_code, failure.code.as_str()), (21, "damaged"));
    let findings = told.findings();
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert!(pack.ends_with(&finding.object), "{}", finding.object);
    let facts = told.facts();
    let damaged: Vec<_> = facts
        .iter()
        .filter(|fact| matches!(fact.state, FactState::Damaged { .. }))
        .map(|fact| fact.path.clone())
        .collect();
    assert!(!damaged.is_empty() && damaged.len() <= 3, "{damaged:?}");
    assert_eq!(finding.paths, damaged);
    let to = shop.folder.path().join("out");
    assert_eq!(shop.restore(&to, &[], Shape::Tree).failure().exit_code, 21);
    let back = fs::read_dir(&to).unwrap().count();
    assert_eq!(back, facts.len() - 1 - damaged.len(), "everything else is restored");
}
