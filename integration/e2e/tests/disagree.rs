//! Two real copies that do not say the same: verify names each path, what differs and, where a copy
//! contradicts its own note, the side that is wrong; it ends with 20.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::image::{sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::objects::Objects;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree::{make_image, random_bytes, set_times};

/// How the source is said to be held still: both methods are given an image and another tree.
fn lines(method: &str, device: &Path, tree: &Path) -> String {
    match method {
        "command" => format!(
            "snapshot = \"command\"\nsnapshot_command = {{ take = \"/usr/bin/printf 'device=%s\\\\ntree=%s\\\\n' {} {}\", release = \"/bin/true\" }}\n",
            text(device),
            text(tree)
        ),
        _ => "snapshot = \"none\"\nidle = true\n".to_owned(),
    }
}

/// A tree, the image of it, and then the tree as [`differ`] leaves it.
fn site(method: &str) -> Site {
    let site = Site::new();
    let (device, tree) = (site.path("data.img"), site.path("tree"));
    fs::create_dir(&tree).unwrap();
    for name in ["content", "size", "mtime", "mode", "owner", "xattr", "kind", "gone", "plain", "linked-a"] {
        fs::write(tree.join(name), format!("this is {name}")).unwrap();
    }
    fs::write(tree.join("big"), random_bytes(1 << 20)).unwrap();
    fs::hard_link(tree.join("linked-a"), tree.join("linked-b")).unwrap();
    symlink("one/target", tree.join("link")).unwrap();
    sh("mknod", &[text(&tree.join("node")), "c", "1", "3"]);
    sh("setfattr", &["-n", "user.note", "-v", "one", text(&tree.join("xattr"))]);
    let source = Source { lines: lines(method, &device, &tree), device, tree };
    make_image(&source, "32M");
    differ(&source.tree);
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    site
}

fn differ(tree: &Path) {
    let at = |name: &str| tree.join(name);
    fs::write(at("content"), "THIS is content").unwrap();
    fs::write(at("size"), "this is size, and more").unwrap();
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    sh("chown", &["12345:54321", text(&at("owner"))]);
    sh("setfattr", &["-n", "user.note", "-v", "two", text(&at("xattr"))]);
    for name in ["kind", "gone", "link", "linked-b", "node"] {
        fs::remove_file(at(name)).unwrap();
    }
    sh("mkfifo", &["-m", "644", text(&at("kind"))]);
    symlink("two/target", at("link")).unwrap();
    fs::write(at("linked-b"), "this is linked-a").unwrap();
    sh("mknod", &[text(&at("node")), "c", "1", "5"]);
    fs::write(at("appears"), "this is new").unwrap();
    set_times(tree);
    sh("touch", &["-d", "2026-01-02 03:04:05.000000001 UTC", text(&at("mtime"))]);
}

/// Path, kind and culprit of every difference; `who` is the culprit where no copy says anything against itself.
fn expected(who: &str, hole: [&str; 2]) -> BTreeSet<String> {
    let fields = [
        "content content",
        "kind kind",
        "link link_target",
        "linked-b hard_link",
        "mode mode",
        "mtime mtime",
        "node device",
        "owner owner",
        "size content",
        "size size",
        "xattr xattrs",
    ];
    let mut all: BTreeSet<_> = fields.iter().map(|field| format!("{field} {who}")).collect();
    all.extend([format!("gone missing {}", hole[0]), format!("appears missing {}", hole[1])]);
    all
}

fn told(summary: &serde_json::Value) -> BTreeSet<String> {
    let word = |difference: &serde_json::Value, field: &str| difference[field].as_str().unwrap_or("?").to_owned();
    let line = |difference| ["path", "kind", "culprit"].map(|field| word(difference, field)).join(" ");
    summary["differences"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn every_way_in_which_two_copies_differ_is_named() {
    if !needs::root_and_loop() || !needs::commands(&["setfattr"]) {
        return;
    }
    for (method, who, hole) in [("command", "unknown", ["archive", "block"]), ("none", "source", ["source", "source"])]
    {
        let site = site(method);
        let _ = site.dualsync(&["run"]).exits(0);
        let summary = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(20).summary();
        assert_eq!(summary["verdict"], "disagree", "{method}: {summary}");
        assert_eq!(told(&summary), expected(who, hole), "{method}: {summary}");
        assert_eq!(summary["findings"], serde_json::json!([]), "{method}: nothing stored is wrong");

        let said = site.dualsync(&["verify", "--latest"]).exits(20).stdout;
        for line in expected(who, hole) {
            let [path, kind, culprit] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let is_it = |told: &str| {
                told.trim_start().starts_with(&format!("{path}: {} ", kind.replace('_', " ")))
                    && told.contains(&format!("wrong: {culprit}"))
            };
            assert!(said.lines().any(is_it), "{method}: {line} is not in\n{said}");
        }
    }
}

#[test]
fn a_copy_that_contradicts_its_own_note_is_the_culprit() {
    if !needs::root_and_loop() || !needs::commands(&["setfattr", "faketime"]) {
        return;
    }
    let site = site("command");
    // A morning after the slot of its date, whatever the time is here: the damaged copy is one that the contract waits for.
    let morning = "2027-03-01T08:00:00Z".parse().unwrap();
    let clock = ClockFile::new(&site.path("clock"), morning);
    let dualsync = |arguments: &[&str]| Ran::of(&mut clock.at(&site.command(arguments), morning));
    let _ = dualsync(&["run"]).exits(0);
    for (target, folder, mechanism) in [("de", "packs", "block"), ("fr", "volumes", "archive")] {
        let objects = Objects::Folder(site.path(target));
        let object = objects.keys(folder).remove(0);
        let good = objects.get(&object);
        let mut bytes = good.clone();
        bytes[good.len() / 2] ^= 1;
        objects.put(&object, &bytes);

        let ran = dualsync(&["verify", "--latest", "--full", "--json"]).exits(21);
        let summary = ran.summary();
        assert_eq!(summary["verdict"], "damaged", "{target}: {summary}");
        let mut all = expected("unknown", ["archive", "block"]);
        all.insert(format!("big damaged {mechanism}"));
        assert_eq!(told(&summary), all, "{target}: {summary}");
        let is_big = |difference: &&serde_json::Value| difference["path"] == "big";
        let big = summary["differences"].as_array().unwrap().iter().find(is_big).unwrap();
        assert_eq!(big[mechanism], *object, "it names the object");
        let error: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["codes"], serde_json::json!([21, 20, 22]), "all three hold");

        objects.put(&object, &good);
        let _ = dualsync(&["verify", "--latest", "--full"]).exits(20);
    }
}
