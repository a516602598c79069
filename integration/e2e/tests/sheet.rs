//! The recovery sheet and one of the two stores are enough on an empty machine: for each path alone, once with
//! dualsync and once with the `recover.py` that lies in the store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail; helpers of tests are not marked as such")]

use std::fs;
use std::path::{Path, PathBuf};

use dualsync_e2e::image::{fsck_is_clean, rsync_finds_no_difference, sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::site::{Site, write_secret};
use dualsync_e2e::tree;

/// The lost machine, of which only the sheet's text and the two stores are left.
struct Lost {
    site: Site,
    sheet: String,
}

impl Lost {
    fn new() -> Self {
        let site = Site::new();
        let source = tree::small_source(&site, "");
        site.configure(&source);
        let _ = site.dualsync(&["init", "--sheet", text(&site.path("first.txt"))]).exits(0);
        let _ = site.dualsync(&["run"]).exits(0);
        let path = site.path("sheet.txt");
        let _ = site.dualsync(&["keys", "export", "--qr", "--sheet", text(&path)]).exits(0);
        let sheet = fs::read_to_string(path).unwrap();
        Self { site, sheet }
    }

    /// The lines of the secret that the sheet has under `label`, as its file had them.
    fn secret(&self, label: &str) -> String {
        let mut lines =
            self.sheet.lines().skip_while(|line| !line.trim_start().starts_with(&format!("SECRET {label}")));
        assert!(lines.next().is_some(), "{label} is not on the sheet");
        let inside = |line: &&str| line.starts_with(&" ".repeat(20)) && !line.contains("QR code");
        lines.take_while(inside).flat_map(|line| [line.trim_start(), "\n"]).collect()
    }

    /// A value that the sheet has beside `label`.
    fn value(&self, label: &str) -> &str {
        let line = self.sheet.lines().find(|line| line.trim_start().starts_with(label)).expect("it is on the sheet");
        line.split_whitespace().last().unwrap()
    }

    /// An empty machine with a copy of one store's folder, `de` or `fr`, and the keys typed from the sheet. The other
    /// target is an empty folder.
    fn empty_machine(&self, store: &str) -> Site {
        let machine = Site::new();
        sh("cp", &["-r", text(&self.site.path(store)), text(&machine.path(store))]);
        write_secret(&machine.path("block.key"), &self.secret("repository key"));
        write_secret(&machine.path("archive.agekey"), &self.secret("age identity"));
        write_secret(&machine.path("archive.signing"), &self.secret("signing key"));
        let nothing = machine.path("nothing");
        fs::create_dir(&nothing).unwrap();
        machine.configure(&dualsync_e2e::site::Source {
            device: nothing.join("disk"),
            tree: nothing,
            lines: "snapshot = \"none\"\nidle = true\n".to_owned(),
        });
        let config = fs::read_to_string(machine.config()).unwrap();
        let public = self.value("archive signing public key");
        let pinned = config.replace("\nsigning_key = ", &format!("\nsigning_public = \"{public}\"\nsigning_key = "));
        fs::write(machine.config(), pinned).unwrap();
        machine
    }

    fn tree(&self) -> PathBuf {
        self.site.path("tree")
    }

    /// The script of a store, once its digest is the one on the sheet.
    fn script(&self, machine: &Site, store: &str) -> PathBuf {
        let script = machine.path(&format!("{store}/recover.py"));
        let digest = sh("sha256sum", &[text(&script)]);
        let digest = digest.split_whitespace().next().unwrap();
        assert!(self.sheet.contains(digest), "recover.py is the one of the sheet");
        script
    }
}

fn image_has_the_tree(image: &Path, lost: &Lost, machine: &Site, name: &str) {
    fsck_is_clean(image);
    let inside = machine.path(name);
    fs::create_dir(&inside).unwrap();
    sh("debugfs", &["-R", &format!("rdump / {}", text(&inside)), text(image)]);
    sh("diff", &["-r", "--no-dereference", "-x", "lost+found", text(&lost.tree()), text(&inside)]);
}

#[test]
fn the_archive_store_and_the_sheet_are_enough() {
    if !needs::commands(&["python3", "age", "zstd", "rsync"]) {
        return;
    }
    let lost = Lost::new();
    let machine = lost.empty_machine("fr");
    let to = machine.path("restored");
    let ran = machine.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&to)]).exits(0);
    assert!(ran.stdout.contains("from the archive copy"), "{}", ran.stdout);
    rsync_finds_no_difference(&lost.tree(), &to, &[]);

    let (script, to) = (lost.script(&machine, "fr"), machine.path("recovered"));
    let identity = machine.path("archive.agekey");
    sh("python3", &[text(&script), "--identity", text(&identity), "--to", text(&to), text(&machine.path("fr"))]);
    rsync_finds_no_difference(&lost.tree(), &to, &[]);
}

#[test]
fn the_block_store_and_the_sheet_are_enough() {
    if !needs::commands(&["python3", "e2fsck", "debugfs"]) {
        return;
    }
    let lost = Lost::new();
    let machine = lost.empty_machine("de");
    let to = machine.path("restored.img");
    let ran = machine.dualsync(&["restore", "web@latest", "--from", "block", "--to", text(&to)]).exits(0);
    assert!(ran.stdout.contains("from the block copy"), "{}", ran.stdout);
    image_has_the_tree(&to, &lost, &machine, "inside-1");

    let (script, to) = (lost.script(&machine, "de"), machine.path("recovered.img"));
    let key = machine.path("block.key");
    sh("python3", &[text(&script), "--identity", text(&key), "--to", text(&to), text(&machine.path("de"))]);
    image_has_the_tree(&to, &lost, &machine, "inside-2");
}
