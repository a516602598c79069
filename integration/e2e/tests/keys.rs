//! Keys that are replaced, and a host that cannot read what it stores, by the real programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use dualsync_e2e::image::{image_has_the_tree, rsync_finds_no_difference, sh, text};
use dualsync_e2e::lost::Sheet;
use dualsync_e2e::needs;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// A site with two nights of different content; both keys were replaced between them.
struct Rotated {
    site: Site,
    /// The sheets from before and from after.
    sheets: [Sheet; 2],
    /// Each night's point, and the tree as it was.
    nights: [(String, PathBuf); 2],
}

impl Rotated {
    fn new() -> Self {
        let site = Site::new();
        let source = tree::small_source(&site, "");
        site.configure(&source);
        let _ = site.dualsync(&["init", "--sheet", text(&site.path("first.txt"))]).exits(0);
        let first = Self::night(&site, "tree-1");
        let before = Sheet::of(&site, "before.txt");
        for target in ["de", "fr"] {
            let _ = site.dualsync(&["keys", "rotate", "--target", target]).exits(0);
        }
        tree::grow_small_source(&source, 300_000);
        let second = Self::night(&site, "tree-2");
        let after = Sheet::of(&site, "after.txt");
        Self { site, sheets: [before, after], nights: [first, second] }
    }

    fn night(site: &Site, tree: &str) -> (String, PathBuf) {
        let _ = site.dualsync(&["run"]).exits(0);
        let kept = site.path(tree);
        sh("cp", &["-a", text(&site.path("tree")), text(&kept)]);
        let points = site.dualsync(&["list", "--json"]).exits(0).json();
        (points.as_array().unwrap().last().unwrap()["point"].as_str().unwrap().to_owned(), kept)
    }
}

/// Both nights come back on `machine` from the copies of one path.
fn both_come_back(machine: &Site, from: &str, nights: &[(String, PathBuf)]) {
    for (at, (point, tree)) in nights.iter().enumerate() {
        let to = machine.path(&format!("{from}-{at}"));
        let _ = machine.dualsync(&["restore", point, "--from", from, "--to", text(&to)]).exits(0);
        is_the_tree(from, &to, tree);
    }
}

/// The same by the script that the sheet names.
fn both_are_recovered(machine: &Site, store: &str, sheet: &Sheet, nights: &[(String, PathBuf)]) {
    let (from, key) = if store == "de" { ("block", "block.key") } else { ("archive", "archive.agekey") };
    let script = sheet.script(machine, store);
    for (at, (point, tree)) in nights.iter().enumerate() {
        let (to, key, repository) = (machine.path(&format!("recovered-{at}")), machine.path(key), machine.path(store));
        let options = ["--identity", text(&key), "--to", text(&to), "--point", point, text(&repository)];
        sh("python3", &[&[text(&script)], &options[..]].concat());
        is_the_tree(from, &to, tree);
    }
}

fn is_the_tree(from: &str, restored: &Path, tree: &Path) {
    if from == "block" {
        image_has_the_tree(restored, tree, &restored.with_extension("inside"));
    } else {
        rsync_finds_no_difference(tree, restored, &[]);
    }
}

#[test]
fn after_both_keys_were_replaced_both_nights_come_back() {
    if !needs::commands(&["rsync", "e2fsck", "debugfs"]) {
        return;
    }
    let Rotated { site, nights, .. } = Rotated::new();
    assert_ne!(nights[0].0, nights[1].0);
    let _ = site.dualsync(&["verify", "--all", "--full"]).exits(0);
    // The keys and the stores alone, without what the host remembers.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    for from in ["block", "archive"] {
        both_come_back(&site, from, &nights);
    }
}

#[test]
fn the_new_sheet_and_either_store_bring_both_nights_back_on_an_empty_machine() {
    if !needs::commands(&["python3", "age", "zstd", "rsync", "e2fsck", "debugfs", "zbarimg"]) {
        return;
    }
    let Rotated { site, sheets, nights } = Rotated::new();
    for (label, file) in [("repository key", "block.key"), ("age identity", "archive.agekey")] {
        let key = std::fs::read(site.path(file)).unwrap();
        assert_eq!(sheets[1].scanned(label, &site.path("code.pgm")), key, "{label}");
        assert_ne!(sheets[0].secret(label).into_bytes(), key, "{label}: the sheet from before");
    }
    for (store, from) in [("de", "block"), ("fr", "archive")] {
        let machine = sheets[1].machine(&site, store);
        both_come_back(&machine, from, &nights);
        both_are_recovered(&machine, store, &sheets[1], &nights);
    }
}

#[test]
fn the_old_sheet_brings_back_the_night_before_the_rotation_and_nothing_newer() {
    if !needs::commands(&["rsync", "e2fsck", "debugfs"]) {
        return;
    }
    let Rotated { site, sheets, nights } = Rotated::new();
    for (store, from) in [("de", "block"), ("fr", "archive")] {
        let machine = sheets[0].machine(&site, store);
        both_come_back(&machine, from, &nights[..1]);
        let to = machine.path("newer");
        let ran = machine.dualsync(&["restore", &nights[1].0, "--from", from, "--to", text(&to)]);
        assert!(ran.code != 0 && ran.stderr.contains("sealed"), "{store}: {} {}", ran.code, ran.stderr);
        assert!(!to.exists() || to.is_dir() && std::fs::read_dir(&to).unwrap().next().is_none(), "{store}");
    }
}

#[test]
fn a_sealed_host_makes_its_nights_and_only_the_recovery_identity_reads_them() {
    if !needs::commands(&["age-keygen", "rsync"]) {
        return;
    }
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let identity = site.path("safe.agekey");
    sh("age-keygen", &["-o", text(&identity)]);
    let recipient = sh("age-keygen", &["-y", text(&identity)]);
    let sealed = format!("mechanism = \"archive\"\nrecipients = [\"{}\"]\nsealed = true\n", recipient.trim());
    let config = std::fs::read_to_string(site.config()).unwrap().replace("mechanism = \"archive\"\n", &sealed);
    std::fs::write(site.config(), config).unwrap();
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    tree::grow_small_source(&source, 300_000);
    let _ = site.dualsync(&["run"]).exits(0);

    let to = site.path("restored");
    let restore = ["restore", "web@latest", "--from", "archive", "--to", text(&to)];
    for arguments in [&["verify", "--latest"][..], &["verify", "--latest", "--full"], &restore] {
        let ran = site.dualsync(arguments).exits(12);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(recipient.trim()), "{arguments:?} names who can read: {said}");
    }
    assert!(!to.join("random").exists(), "nothing was written");
    // What needs no content goes on.
    for arguments in [["verify", "--latest", "--objects"], ["verify", "--all", "--presence"]] {
        let _ = site.dualsync(&arguments).exits(0);
    }
    let _ = site.dualsync(&[&restore[..], &["--identity", text(&identity)]].concat()).exits(0);
    rsync_finds_no_difference(&source.tree, &to, &[]);
}
