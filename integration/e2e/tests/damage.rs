//! A flipped byte, a missing object, a truncated object in either store: verify names the object, the
//! target and the files hit, exits 21, and the rest still restores.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use dualsync_e2e::image::text;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

type Damage = fn(&Path);

const DAMAGES: &[(&str, Damage)] = &[
    ("a flipped byte", |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("a missing object", |path| fs::remove_file(path).unwrap()),
    ("a truncated object", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("an empty object", |path| fs::write(path, "").unwrap()),
];

/// The folders whose objects hold what people want back.
const KINDS: &[(&str, &str, &str)] =
    &[("de", "block", "packs"), ("de", "block", "maps"), ("fr", "archive", "volumes"), ("fr", "archive", "catalogs")];

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn verify_names_each_damaged_object_and_the_other_copy_restores() {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    let _ = site.dualsync(&["verify", "--latest", "--full"]).exits(0);
    for (target, mechanism, kind) in KINDS {
        let root = site.path(target);
        let object = files(&root.join(kind)).pop().unwrap();
        let name = object.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let good = fs::read(&object).unwrap();
        for (damage, apply) in DAMAGES {
            apply(&object);
            // Nothing that a program remembers may hide it.
            fs::remove_dir_all(site.path("state")).unwrap();
            let report = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(21).summary();
            let findings = report["findings"].as_array().unwrap();
            assert!(
                findings.iter().any(|f| f["object"] == *name && f["target"] == *target),
                "{kind}: {damage}: {report}"
            );
            assert_eq!(report["verdict"], "damaged", "{kind}: {damage}");

            let other = if *mechanism == "block" { "archive" } else { "block" };
            let to = site.path(&format!("{kind}-{}", damage.replace(' ', "-")));
            let _ = site
                .dualsync(&["restore", "web@latest", "--from", other, "--path", "**", "--to", text(&to), "--yes"])
                .exits(0);

            fs::write(&object, &good).unwrap();
        }
        let _ = site.dualsync(&["verify", "--latest", "--full"]).exits(0);
    }
}
