//! The copies open with standard tools: age, zstd, tar, sha256sum, minisign, and the `recover.py` that
//! each repository carries.

use std::path::PathBuf;
use std::process::Command;

use dualsync_e2e::image::{fsck_is_clean, rsync_finds_no_difference, sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

fn site_with_a_point() -> Site {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    site
}

fn find(site: &Site, name: &str) -> Vec<PathBuf> {
    let found = sh("find", &[text(&site.path("fr")), "-name", name]);
    found.lines().map(PathBuf::from).collect()
}

#[test]
fn each_volume_opens_with_age_zstd_and_tar() {
    if !needs::commands(&["age", "zstd", "tar"]) {
        return;
    }
    let site = site_with_a_point();
    let identity = site.path("archive.agekey");
    let volumes = find(&site, "*.tar.zst.age");
    assert!(!volumes.is_empty());
    let mut members = String::new();
    for volume in volumes {
        let pipe = "set -o pipefail; age -d -i \"$1\" \"$2\" | zstd -d -q | tar -t";
        members += &sh("bash", &["-c", pipe, "open", text(&identity), text(&volume)]);
        members.push('\n');
    }
    for name in ["d0/f3.txt", "d3/f24.txt", "random"] {
        assert!(
            members.lines().any(|member| member.trim_start_matches("./") == name),
            "{name} is in no volume:\n{members}"
        );
    }
}

#[test]
fn sha256sum_and_minisign_accept_a_point() {
    if !needs::commands(&["minisign", "sha256sum"]) {
        return;
    }
    let site = site_with_a_point();
    let list = find(&site, "SHA256SUMS").pop().expect("a point has its list");
    let checked =
        Ran::of(Command::new("sha256sum").arg("--strict").arg("-c").arg(&list).current_dir(site.path("fr"))).exits(0);
    assert!(checked.stdout.lines().count() >= 3, "{}", checked.stdout);

    let config = std::fs::read_to_string(site.config()).unwrap();
    let pinned =
        config.split("signing_public = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("init pins the key");
    let manifest = find(&site, "manifest.json").pop().expect("a point has its manifest");
    let said = sh("minisign", &["-V", "-P", pinned, "-m", text(&manifest)]);
    assert!(said.contains("Signature and comment signature verified"), "{said}");
    assert!(said.contains("web"), "the trusted comment names the source: {said}");
}

#[test]
fn recover_py_brings_the_files_back_without_dualsync() {
    if !needs::commands(&["python3", "age", "zstd", "rsync"]) {
        return;
    }
    let site = site_with_a_point();
    let (script, to) = (site.path("fr/recover.py"), site.path("recovered"));
    let identity = site.path("archive.agekey");
    sh("python3", &[text(&script), "--identity", text(&identity), "--to", text(&to), text(&site.path("fr"))]);
    rsync_finds_no_difference(&site.path("tree"), &to, &[]);
}

#[test]
fn recover_py_brings_the_disk_back_without_dualsync() {
    if !needs::commands(&["python3", "e2fsck", "debugfs"]) {
        return;
    }
    let site = site_with_a_point();
    let (script, to) = (site.path("de/recover.py"), site.path("recovered.img"));
    sh(
        "python3",
        &[text(&script), "--identity", text(&site.path("block.key")), "--to", text(&to), text(&site.path("de"))],
    );
    fsck_is_clean(&to);
    let inside = site.path("inside");
    std::fs::create_dir(&inside).unwrap();
    sh("debugfs", &["-R", &format!("rdump / {}", text(&inside)), text(&to)]);
    sh("diff", &["-r", "--no-dereference", "-x", "lost+found", text(&site.path("tree")), text(&inside)]);
}
