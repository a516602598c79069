//! The recovery sheet and one of the two stores are enough on an empty machine: for each path alone and with nothing but
//! the keys of that path, once with dualsync and once with the `recover.py` that lies in the store.

use std::fs;

use dualsync_e2e::image::{image_has_the_tree, rsync_finds_no_difference, sh, text};
use dualsync_e2e::lost::Sheet;
use dualsync_e2e::needs;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// A machine with one night, and its sheet.
fn one_night() -> (Site, Sheet) {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("first.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    let sheet = Sheet::of(&site, "sheet.txt");
    (site, sheet)
}

#[test]
fn the_archive_store_and_the_sheet_are_enough() {
    if !needs::commands(&["python3", "age", "zstd", "rsync"]) {
        return;
    }
    let (lost, sheet) = one_night();
    let machine = sheet.machine(&lost, "fr");
    assert!(!machine.path("block.key").exists());
    let to = machine.path("restored");
    let ran = machine.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&to)]).exits(0);
    assert!(ran.stdout.contains("from the archive copy"), "{}", ran.stdout);
    rsync_finds_no_difference(&lost.path("tree"), &to, &[]);

    let (script, to) = (sheet.script(&machine, "fr"), machine.path("recovered"));
    let identity = machine.path("archive.agekey");
    sh("python3", &[text(&script), "--identity", text(&identity), "--to", text(&to), text(&machine.path("fr"))]);
    rsync_finds_no_difference(&lost.path("tree"), &to, &[]);
}

#[test]
fn the_block_store_and_the_sheet_are_enough() {
    if !needs::commands(&["python3", "e2fsck", "debugfs"]) {
        return;
    }
    let (lost, sheet) = one_night();
    let machine = sheet.machine(&lost, "de");
    assert!(!machine.path("archive.agekey").exists() && !machine.path("archive.signing").exists());
    let to = machine.path("restored.img");
    let ran = machine.dualsync(&["restore", "web@latest", "--from", "block", "--to", text(&to)]).exits(0);
    assert!(ran.stdout.contains("from the block copy"), "{}", ran.stdout);
    image_has_the_tree(&to, &lost.path("tree"), &machine.path("inside-1"));

    let (script, to) = (sheet.script(&machine, "de"), machine.path("recovered.img"));
    let key = machine.path("block.key");
    sh("python3", &[text(&script), "--identity", text(&key), "--to", text(&to), text(&machine.path("de"))]);
    image_has_the_tree(&to, &lost.path("tree"), &machine.path("inside-2"));
}

#[test]
fn what_a_scanner_reads_from_the_sheet_is_the_key_file_byte_for_byte() {
    if !needs::commands(&["zbarimg"]) {
        return;
    }
    let (site, sheet) = one_night();
    for (label, file) in
        [("repository key", "block.key"), ("age identity", "archive.agekey"), ("signing key", "archive.signing")]
    {
        let key = fs::read(site.path(file)).unwrap();
        assert_eq!(sheet.scanned(label, &site.path("code.pgm")), key, "{label}");
        assert_eq!(sheet.secret(label).into_bytes(), key, "{label}, typed");
    }
}
