//! A source that is deleted whole leaves nothing in either store, and no alarm.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::image::text;
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree;

/// A site with two sources of the same files, `web` and `mail`.
fn site() -> Site {
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    let config = fs::read_to_string(site.config()).unwrap();
    let Source { device, tree, .. } = &source;
    let mail = format!(
        "\n[[source]]\nname = \"mail\"\ndevice = \"{}\"\ntree = \"{}\"\nblock = \"de\"\narchive = \"fr\"\nsnapshot = \"none\"\nidle = true\n",
        device.display(),
        tree.display()
    );
    fs::write(site.config(), config + &mail).unwrap();
    site
}

fn at(site: &Site, time: &str, arguments: &[&str]) -> Ran {
    let time = time.parse().unwrap();
    Ran::of(&mut ClockFile::new(&site.path("clock"), time).at(&site.command(arguments), time))
}

/// Every object of both stores.
fn objects(site: &Site) -> BTreeSet<String> {
    let of = |target: &str| {
        let listed = Ran::of(Command::new("find").arg(site.path(target)).args(["-type", "f", "-printf", "%P\n"]));
        listed.stdout.lines().map(|name| format!("{target}/{name}")).collect::<Vec<_>>()
    };
    ["de", "fr"].iter().flat_map(|target| of(target)).collect()
}

fn is_data(name: &str) -> bool {
    !name.contains("/runs/") && !name.contains("/marks/")
}

#[test]
fn nothing_is_left_of_a_source_that_was_deleted() {
    if !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let site = site();
    let _ = at(&site, "2027-01-10T00:30:00Z", &["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = at(&site, "2027-01-10T01:10:00Z", &["run", "web"]).exits(0);
    let before = objects(&site);
    for day in ["10", "11"] {
        let _ = at(&site, &format!("2027-01-{day}T02:10:00Z"), &["run", "mail"]).exits(0);
    }
    let of_mail: BTreeSet<_> = objects(&site).difference(&before).cloned().collect();
    assert!(of_mail.iter().filter(|name| is_data(name)).count() > 8, "{of_mail:?}");

    let _ = at(&site, "2027-01-11T12:00:00Z", &["delete", "--source", "mail", "--all", "--yes"]).exits(0);
    for day in ["11T12:05", "13T12:00", "15T12:00"] {
        let _ = at(&site, &format!("2027-01-{day}:00Z"), &["prune"]).exits(0);
    }
    let left: Vec<_> = objects(&site).intersection(&of_mail).filter(|name| is_data(name)).cloned().collect();
    assert!(left.is_empty(), "four days later these are still there: {left:?}");

    // Marks and the records of runs go a month after they ended, and after a newer manifest knows what was deleted.
    for day in ["02-20", "03-25"] {
        let _ = at(&site, &format!("2027-{day}T01:10:00Z"), &["run", "web"]).exits(0);
        let _ = at(&site, &format!("2027-{day}T12:00:00Z"), &["prune"]).exits(0);
    }
    let all = objects(&site);
    let left: Vec<_> = all.iter().filter(|name| of_mail.contains(*name) || name.contains("/marks/")).collect();
    assert!(left.is_empty(), "two months later these are still there: {left:?}");
    assert!(all.iter().all(|name| !name.contains("mail")), "{all:?}");

    for arguments in [&["verify", "web@latest", "--full"][..], &["run", "mail"], &["list"], &["prune"]] {
        let ran = at(&site, "2027-03-26T12:00:00Z", arguments);
        // Nobody made copies of web for two months: those dates are red, and nothing else is wrong.
        let expected = if arguments[0] == "verify" { 22 } else { 0 };
        let ran = ran.exits(expected);
        assert!(!ran.stderr.contains("warning"), "{arguments:?}: {}", ran.stderr);
    }
}
