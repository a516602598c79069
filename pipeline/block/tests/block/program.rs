//! The real program over its pipes, on a directory: every verb, its exits, its memory, and `recover.py`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dualsync_model::event::{Event, RetiredAction, Summary};
use serde_json::{Value, json};

use crate::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image};

const POINT: &str = "web@20261120T020000Z";

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("nas")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, task: &Value) -> Value {
        json!({
            "protocol": 1, "now": "2026-11-20T02:00:00Z",
            "target": {"name": "frankfurt", "prefix": "web-01", "place": {"kind": "directory", "path": self.path("nas")}},
            "keys": {"mechanism": "block", "key": format!("file:{}", self.path("block.key").display())},
            "state": self.path("state"), "task": task,
        })
    }

    fn run(&self, task: &Value) -> (i32, Vec<Event>) {
        run(task["verb"].as_str().unwrap(), &self.job(task))
    }

    fn done(&self, task: &Value) -> Summary {
        let (exit, events) = self.run(task);
        assert_eq!(exit, 0, "{events:?}");
        match events.into_iter().last() {
            Some(Event::Summary(summary)) => summary,
            other => panic!("a summary comes last, not {other:?}"),
        }
    }

    fn backup(&self, source: &Path, is_device: bool) -> Value {
        json!({
            "verb": "backup", "point": POINT, "run": "0123456789abcdef", "business_date": "2026-11-20", "class": "auto",
            "snapshot": {"id": self.path("s"), "method": "none", "frozen": true, "taken_at": "2026-11-20T02:00:00Z",
                         "device": source, "tree": "/", "is_device": is_device},
            "compression": "deflate:1", "grace_s": 86400,
        })
    }

    /// A sparse source of `gib` with `islands` MiB of noise spread over it.
    fn source(&self, gib: u64, islands: u64) -> PathBuf {
        let path = self.path("source.img");
        let file = File::create(&path).unwrap();
        file.set_len(gib << 30).unwrap();
        let mut noise = vec![0; 1 << 20];
        for island in 0..islands {
            blake3::Hasher::new().update(&island.to_le_bytes()).finalize_xof().fill(&mut noise);
            file.write_all_at(&noise, island * ((gib << 30) / islands)).unwrap();
        }
        path
    }
}

fn restore(to: &Path, shape: &str) -> Value {
    json!({"verb": "restore", "point": POINT, "to": to, "shape": shape})
}

fn run(verb: &str, job: &Value) -> (i32, Vec<Event>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dualsync-block"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that refuses the job at once may be gone before it is written.
    let _ = input.write_all(format!("{job}\n").as_bytes());
    let _ = input.write_all(b"{\"command\":\"commit\"}\n");
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(events.first(), Some(Event::Hello(_))), "{text}");
    (output.status.code().unwrap(), events)
}

fn same(a: &Path, b: &Path) -> bool {
    Command::new("cmp").arg(a).arg(b).status().unwrap().success()
}

fn recover(site: &Site, arguments: &[&str]) -> std::process::Output {
    let repository = site.path("nas/web-01");
    Command::new("python3")
        .arg(repository.join("recover.py"))
        .arg("--identity")
        .arg(site.path("block.key"))
        .args(arguments)
        .arg(&repository)
        .output()
        .unwrap()
}

#[test]
fn every_verb_works_over_the_pipes_and_recover_py_needs_no_dualsync() {
    let site = Site::new();
    let source = site.source(1, 40);
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    assert_eq!(fs::metadata(site.path("block.key")).unwrap().permissions().mode() & 0o777, 0o600);
    site.done(&site.backup(&source, false));
    assert_eq!(site.done(&json!({"verb": "list"})).items, 1);
    assert_eq!(site.done(&json!({"verb": "check", "depth": "objects"})).incomplete, 0);
    assert!(site.done(&json!({"verb": "probe"})).items > 3);
    let image = site.path("out.img");
    site.done(&restore(&image, "image"));
    assert!(same(&source, &image));
    let recovered = site.path("recovered.img");
    let listed = recover(&site, &["--list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(POINT));
    let output = recover(&site, &["--to", recovered.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(same(&source, &recovered));
    let again = recover(&site, &["--to", recovered.to_str().unwrap()]);
    assert!(!again.status.success(), "what exists is not overwritten");
}

#[test]
fn recover_py_tells_damage_and_brings_the_rest_back() {
    let site = Site::new();
    let source = site.source(1, 60);
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    site.done(&site.backup(&source, false));
    let pack = packs(&site).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let output = recover(&site, &["--to", site.path("recovered.img").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(21));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(pack.file_name().unwrap().to_str().unwrap()), "{told}");
    let (exit, events) = site.run(&restore(&site.path("out.img"), "image"));
    assert_eq!(exit, 21);
    assert!(events.iter().any(|event| matches!(event, Event::Finding(_))));
    let (exit, _) = site.run(&json!({"verb": "check", "depth": "objects"}));
    assert_eq!(exit, 21);
}

#[test]
fn recover_py_tells_a_later_format_from_damage() {
    let site = Site::new();
    let source = site.source(1, 4);
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    site.done(&site.backup(&source, false));
    let folder = site.path("nas/web-01/points/web");
    let manifest = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut later = fs::read(&manifest).unwrap();
    later[8] = 2;
    let name = manifest.file_name().unwrap().to_str().unwrap();
    let stem = name.rsplit_once('-').unwrap().0;
    fs::write(folder.join(format!("{stem}-{}", dualsync_block::digest::Sha256::of(&later))), later).unwrap();
    let check = |output: std::process::Output, exit: i32, word: &str| {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{told}");
        assert!(told.contains(word) && !told.contains("damaged"), "{told}");
    };
    check(recover(&site, &["--list"]), 1, "of a later format");
    check(recover(&site, &["--to", site.path("recovered.img").to_str().unwrap()]), 0, "of a later format");
    assert!(same(&source, &site.path("recovered.img")));
    fs::remove_file(&manifest).unwrap();
    check(recover(&site, &["--to", site.path("none.img").to_str().unwrap()]), 1, "use a newer recover.py");
}

#[test]
fn prune_and_evidence_work_over_the_pipes_on_a_directory() {
    let site = Site::new();
    let source = site.source(1, 4);
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    for (point, run) in [(POINT, "0000000000000001"), ("web@20261121T020000Z", "0000000000000002")] {
        let mut task = site.backup(&source, false);
        (task["point"], task["run"]) = (json!(point), json!(run));
        site.done(&task);
    }
    let (_, events) = site.run(&json!({"verb": "list"}));
    let old = events.into_iter().find_map(|event| if let Event::Point(point) = event { Some(*point) } else { None });
    let old = old.unwrap();
    assert!(old.stored_at.is_none() && old.live_bytes.is_some(), "a directory has no clock");
    let leaving = json!({"point": old.point, "manifest": old.manifest, "sha256": old.anchor.sha256, "reason": "old"});
    let prune = |now: &str| {
        let mut job = site.job(&json!({"verb": "prune", "drop": [leaving], "sweep": true, "grace_s": 86400}));
        job["now"] = json!(now);
        let (exit, events) = run("prune", &job);
        assert_eq!(exit, 0, "{events:?}");
        let retired =
            events.into_iter().find_map(|event| if let Event::Retired(told) = event { Some(told) } else { None });
        retired.unwrap().action
    };
    assert_eq!(prune("2026-11-22T02:00:00Z"), RetiredAction::Marked);
    assert_eq!(prune("2026-11-22T12:00:00Z"), RetiredAction::Waiting);
    let leftover = site.path("nas/web-01/packs/.tmp-0123456789abcdef");
    let file = File::create(&leftover).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(49)).unwrap();
    drop(file);
    assert_eq!(prune("2026-11-23T02:00:01Z"), RetiredAction::Deleted);
    assert!(!leftover.exists());
    assert_eq!(site.done(&json!({"verb": "list"})).items, 1);
    assert_eq!(site.done(&json!({"verb": "check", "depth": "objects"})).incomplete, 0);

    let report = site.path("report");
    fs::create_dir(&report).unwrap();
    for name in ["report.json", "report.txt", "report.html"] {
        fs::write(report.join(name), "{}").unwrap();
    }
    let sha256 = dualsync_block::digest::Sha256::of(b"{}").to_string();
    let put = json!({"verb": "evidence", "act": "put", "number": 1, "at": "2026-11-23T03:00:00Z", "sha256": sha256,
                     "folder": report});
    site.done(&put);
    site.done(&put);
    let back = site.path("back");
    assert_eq!(site.done(&json!({"verb": "evidence", "act": "list", "folder": back})).items, 1);
    assert_eq!(fs::read(back.join("1/report.json")).unwrap(), b"{}");
}

#[test]
fn a_retention_key_lists_and_prunes_over_the_pipes_and_opens_no_content() {
    let site = Site::new();
    let source = site.source(1, 4);
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    site.done(&site.backup(&source, false));
    let to = site.path("retention.key");
    site.done(&json!({"verb": "keys", "act": "add", "new": {"kind": "retention", "to": to}}));
    assert_eq!(site.done(&json!({"verb": "keys", "act": "list"})).items, 2);
    fs::rename(site.path("block.key"), site.path("raw.key")).unwrap();
    fs::rename(&to, site.path("block.key")).unwrap();
    for task in [
        json!({"verb": "list"}),
        json!({"verb": "check", "depth": "objects"}),
        json!({"verb": "prune", "sweep": true, "grace_s": 86400}),
        json!({"verb": "init"}),
        json!({"verb": "keys", "act": "list"}),
    ] {
        site.done(&task);
    }
    let mut again = site.backup(&source, false);
    again["point"] = json!("web@20261121T020000Z");
    let rotate = json!({"verb": "keys", "act": "rotate"});
    for (task, exit) in [
        (again, 12),
        (restore(&site.path("never.img"), "image"), 12),
        (restore(&site.path("never"), "tree"), 12),
        (json!({"verb": "facts", "point": POINT}), 12),
        (rotate, 12),
    ] {
        let (code, events) = site.run(&task);
        assert_eq!(code, exit, "{task}");
        let Some(Event::Error(failure)) = events.last() else { panic!("{events:?}") };
        assert!(failure.message.contains("manifests only"), "{}", failure.message);
    }
    assert!(!site.path("never.img").exists() && !site.path("never").exists());
}

fn packs(site: &Site) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(site.path("nas/web-01/packs")).unwrap() {
        found.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

#[test]
fn mistakes_have_their_own_exits() {
    let site = Site::new();
    let list = json!({"verb": "list"});
    fs::write(site.path("block.key"), format!("dualsync-block-key-1:{}\n", "07".repeat(32))).unwrap();
    fs::set_permissions(site.path("block.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(site.run(&list).0, 10, "no repository");
    site.done(&json!({"verb": "init"}));
    assert_eq!(site.run(&list).0, 0);
    fs::write(site.path("block.key"), format!("dualsync-block-key-1:{}\n", "08".repeat(32))).unwrap();
    assert_eq!(site.run(&list).0, 12, "wrong key");
    fs::remove_file(site.path("block.key")).unwrap();
    assert_eq!(site.run(&json!({"verb": "init"})).0, 12, "an existing repository gets no new key");
    assert!(!site.path("block.key").exists());
    assert_eq!(run("check", &site.job(&list)).0, 2, "another verb");
    let mut other = site.job(&list);
    other["protocol"] = json!(2);
    assert_eq!(run("list", &other).0, 2, "another protocol");
    let mut strange = site.job(&list);
    strange["task"]["sorce"] = json!("web");
    assert_eq!(run("list", &strange).0, 2, "an unknown field");
}

#[test]
fn init_twice_changes_nothing() {
    let site = Site::new();
    site.done(&json!({"verb": "init"}));
    let before = fs::read(site.path("nas/web-01/repo.json")).unwrap();
    let (exit, events) = site.run(&json!({"verb": "init"}));
    assert_eq!(exit, 0);
    let created = events.iter().find_map(|event| match event {
        Event::Repository(repository) => Some(repository.created),
        _ => None,
    });
    assert_eq!(created, Some(false));
    assert_eq!(fs::read(site.path("nas/web-01/repo.json")).unwrap(), before);
}

#[test]
fn memory_stays_under_256_mib_on_a_sparse_image_of_64_gib() {
    let site = Site::new();
    let source = site.source(64, 300);
    site.done(&json!({"verb": "init"}));
    let made = site.done(&site.backup(&source, false));
    assert_eq!(made.bytes, 64 << 30);
    // It proves every block itself; comparing 64 GiB once more takes minutes.
    let restored = site.done(&restore(&site.path("out.img"), "image"));
    for (what, peak) in [("backup", made.peak_memory_bytes), ("restore", restored.peak_memory_bytes)] {
        assert!(peak > 0 && peak < 256 << 20, "{what}: {peak}");
    }
}

#[test]
fn a_device_is_not_taken_for_blank() {
    if !has_loop_devices() {
        return;
    }
    let site = Site::new();
    let source = site.path("source.img");
    let file = File::create(&source).unwrap();
    file.set_len(40 << 20).unwrap();
    file.write_all_at(&vec![7; 5 << 20], 11 << 20).unwrap();
    site.done(&json!({"verb": "init", "block_bytes": 65536}));
    site.done(&site.backup(&source, false));
    let disk = site.path("disk.img");
    fs::write(&disk, vec![0xee; 40 << 20]).unwrap();
    let device = LoopDevice::attach(&disk);
    let mut task = restore(device.path(), "device");
    assert_eq!(site.run(&task).0, 2, "not over what is there");
    task["overwrite"] = json!(true);
    site.done(&task);
    assert!(same(&source, device.path()), "every zero was written");
    let small = site.path("small.img");
    File::create(&small).unwrap().set_len(20 << 20).unwrap();
    let device = LoopDevice::attach(&small);
    task["to"] = json!(device.path());
    assert_eq!(site.run(&task).0, 2, "too small");
}

#[test]
fn facts_and_one_file_come_out_of_the_stored_image_by_few_requests() {
    if !has_loop_devices() || !has_programs(&["mke2fs"]) {
        return;
    }
    let site = Site::new();
    let source = image(site.folder.path(), "source.img", 512, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let device = LoopDevice::attach(&source);
    let mut noise = vec![0; 1 << 20];
    {
        let mounted = Mounted::new(device.path(), &site.path("mnt"), "rw");
        for number in 0..200_u64 {
            blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut noise);
            fs::write(mounted.path().join(format!("file-{number}")), &noise).unwrap();
        }
    }
    site.done(&json!({"verb": "init"}));
    site.done(&site.backup(device.path(), true));
    let (exit, events) = site.run(&json!({"verb": "facts", "point": POINT, "kernel_mount": true}));
    assert_eq!(exit, 0, "{:?}", events.last());
    let facts = events.iter().filter(|event| matches!(event, Event::Fact(_))).count();
    assert_eq!(facts, 202, "the root, lost+found and 200 files");
    let mut task = restore(&site.path("tree"), "tree");
    task["paths"] = json!(["file-199"]);
    task["kernel_mount"] = json!(true);
    let done = site.done(&task);
    assert_eq!(fs::read(site.path("tree/file-199")).unwrap(), noise);
    let cost = (done.requests.total(), done.fetched_bytes >> 20);
    assert!(cost.0 <= 40 && cost.1 < 8, "{} requests, {} MiB", cost.0, cost.1);
}
