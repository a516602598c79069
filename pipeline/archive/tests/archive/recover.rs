//! `recover.py`, as it lies in the repository, brings trees back without dualsync.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dualsync_archive_store::contract::Store as _;
use dualsync_model::job::{RestoreTask, Shape, Task};

use crate::memory::Memory;
use crate::site::{COMMIT, Site, is_root, noise, run_on, same_tree};

/// Runs the script that lies in the repository.
fn recover(site: &Site, to: &str, more: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg(site.target().join("recover.py")).arg("--identity").arg(site.path("age.key"));
    command.arg("--to").arg(site.path(to)).args(more).arg(site.target());
    command.output().unwrap()
}

fn recovered(site: &Site, to: &str, more: &[&str]) -> PathBuf {
    let output = recover(site, to, more);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    site.path(to)
}

/// Everything that is hard to bring back.
fn fill(site: &Site) {
    let source = site.source();
    site.write("etc/passwd", b"root:x:0:0\n");
    site.write("etc/again", b"root:x:0:0\n");
    site.write("etc/empty", b"");
    site.write("big", &noise(7, 40 << 20));
    site.write("a/b/c/deep", &noise(8, 3 << 20));
    std::fs::hard_link(source.join("etc/passwd"), source.join("etc/zz-link")).unwrap();
    std::fs::hard_link(source.join("big"), source.join("big-link")).unwrap();
    symlink("../etc/passwd", source.join("a/symlink")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere-\xff"), source.join("dangling")).unwrap();
    std::fs::write(source.join(OsStr::from_bytes(&[0xe9; 255])), b"not utf-8").unwrap();
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
    sparse.set_len(9_000_001).unwrap();
    let big_sparse = std::fs::File::create(source.join("big-sparse")).unwrap();
    big_sparse.write_all_at(&noise(9, 18 << 20), 1 << 20).unwrap();
    big_sparse.write_all_at(&noise(10, 2 << 20), 64 << 20).unwrap();
    big_sparse.set_len(80 << 20).unwrap();
    std::fs::set_permissions(source.join("etc/again"), std::fs::Permissions::from_mode(0o4710)).unwrap();
    std::fs::set_permissions(source.join("a/b"), std::fs::Permissions::from_mode(0o1500)).unwrap();
    let run = |line: &str| {
        let done = Command::new("bash").args(["-ec", line]).current_dir(&source).status().unwrap();
        assert!(done.success(), "{line}");
    };
    run(
        "mkfifo pipe; touch -d '1969-12-31T23:59:59.123456789Z' etc/empty; touch -h -d '1955-05-05T05:05:05.5Z' dangling",
    );
    if is_root() {
        run("mknod null c 1 3; chown 1234:4321 etc/again; chown -h 77:88 dangling; chmod 4710 etc/again");
    }
    if xattr::set(source.join("etc/passwd"), "user.note", b"\x00\xffbinary").is_ok() {
        xattr::set(source.join("a"), "user.empty", b"").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_tree_comes_back_as_it_was() {
    let mut site = Site::new().await;
    fill(&site);
    assert_eq!(site.backup().await.summary().exit_code, 0);
    let public = site.signing_public.clone().unwrap();
    let out = recovered(&site, "out", &["--signing-public", &public]);
    same_tree(&site.source(), &out);
    assert_eq!(
        std::fs::metadata(out.join("big")).unwrap().ino(),
        std::fs::metadata(out.join("big-link")).unwrap().ino()
    );
    assert!(std::fs::metadata(out.join("big-sparse")).unwrap().blocks() * 512 < 30 << 20, "holes stay holes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_point_and_a_glob_bring_back_what_was_asked_for() {
    let mut site = Site::new().await;
    fill(&site);
    site.backup().await.summary();
    let first = site.backup_task().point.to_string();
    site.write("etc/passwd", b"changed\n");
    site.backup().await.summary();
    let out = recovered(&site, "out", &["--point", &first, "--path", "etc/{passwd,zz*}", "--path", "**/deep"]);
    assert_eq!(std::fs::read(out.join("etc/passwd")).unwrap(), b"root:x:0:0\n");
    assert_eq!(std::fs::read(out.join("a/b/c/deep")).unwrap(), noise(8, 3 << 20));
    assert!(!out.join("etc/empty").exists() && !out.join("big").exists());
    let out = recovered(&site, "latest", &["--point", "web@latest", "--path", "etc"]);
    assert_eq!(std::fs::read(out.join("etc/passwd")).unwrap(), b"changed\n");
    assert!(out.join("etc/again").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_the_files_it_hits_and_is_told() {
    let mut site = Site::new().await;
    site.write("first", &noise(1, 5 << 20));
    site.backup().await.summary();
    site.write("second", &noise(2, 5 << 20));
    site.backup().await.summary();
    let volume = site.target().join(&site.objects_like("volumes/", ".age")[0]);
    let mut bytes = std::fs::read(&volume).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&volume, bytes).unwrap();
    let output = recover(&site, "out", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("NOT restored: first") && !said.contains("NOT restored: second"), "{said}");
    assert_eq!(std::fs::read(site.path("out/second")).unwrap(), noise(2, 5 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_points_and_folders_in_use_are_refused() {
    let mut site = Site::new().await;
    site.write("file", b"content");
    site.backup().await.summary();
    std::fs::create_dir(site.path("used")).unwrap();
    std::fs::write(site.path("used/precious"), b"mine").unwrap();
    assert!(!recover(&site, "used", &[]).status.success());
    let manifest = site.target().join(&site.objects_like("points/", "manifest.json")[0]);
    let forged = std::fs::read_to_string(&manifest).unwrap().replace("night-1", "night-2");
    std::fs::write(&manifest, forged).unwrap();
    let public = site.signing_public.clone().unwrap();
    let output = recover(&site, "out", &["--signing-public", &public]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("signature") && !Path::new(&site.path("out")).exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_on_the_host_that_made_the_point_is_four_requests() {
    let mut memory = Memory::new().await;
    for file in 0..20 {
        memory.site.write(&format!("d/{file}"), &noise(file, 1 << 20));
    }
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let task = RestoreTask {
        point: memory.site.backup_task().point,
        to: memory.site.path("out"),
        shape: Shape::Tree,
        paths: vec!["d/13".into()],
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    };
    let before = memory.store.requests();
    run_on(&memory.site.job(Task::Restore(task)), memory.store.clone(), "").await.summary();
    let after = memory.store.requests();
    assert_eq!(std::fs::read(memory.site.path("out/d/13")).unwrap(), noise(13, 1 << 20));
    // repo.json and a listing; head and frame of the volume.
    assert_eq!((after.list - before.list, after.get - before.get), (1, 3));
    assert_eq!(after.total() - before.total(), 4);
}
