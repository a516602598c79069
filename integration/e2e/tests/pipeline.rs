//! One night, two copies, from a real mounted ext4 file system that holds a real Debian tree and every
//! nasty thing, on directory targets and on two S3 servers: made, listed, compared, changed, made
//! again, brought back from either side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use dualsync_e2e::garage::Garage;
use dualsync_e2e::image::{Mounted, fsck_is_clean, rsync_finds_no_difference, sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree;

/// The length of a file that is written over in place: several blocks of the block path.
const IN_PLACE_BYTES: usize = 1 << 20;

/// Where the copies go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stores {
    Directories,
    Garages,
}

/// A site with a mounted ext4, frozen for each run. The servers, if any, run as long as it is held.
struct Server {
    mounted: Mounted,
    site: Site,
    _garages: Vec<Garage>,
}

fn server(stores: Stores) -> Server {
    let site = Site::new();
    let mounted = Mounted::make(site.directory.path(), "data", "ext4", 512, &["-O", "metadata_csum,64bit"]);
    tree::nasty(&mounted.tree);
    tree::debian(&mounted.tree);
    fs::write(mounted.tree.join("in-place"), vec![b'1'; IN_PLACE_BYTES]).unwrap();
    sh("sync", &["-f", text(&mounted.tree)]);
    let source = Source {
        device: mounted.device.clone(),
        tree: mounted.tree.clone(),
        lines: "snapshot = \"freeze\"\nexclude = [\"cache/**\"]\n".into(),
    };
    let mut garages = Vec::new();
    match stores {
        Stores::Directories => site.configure(&source),
        Stores::Garages => {
            garages = ["garage-de", "garage-fr"].map(|name| Garage::start(&site.path(name))).into();
            site.configure_s3(&garages[0], &garages[1], &source);
        }
    }
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    Server { mounted, site, _garages: garages }
}

fn restored_image_equals(site: &Site, mounted: &Mounted, point: &str) {
    let image = site.path(&format!("restored-{}.img", point.replace('@', "-")));
    let _ = site.dualsync(&["restore", point, "--from", "block", "--to", text(&image), "--yes"]).exits(0);
    fsck_is_clean(&image);
    let back = Mounted::mount(&image, &site.path("mounted-back"), &["-o", "ro"]);
    rsync_finds_no_difference(&mounted.tree, &back.tree, &["/deep"]);
    assert_eq!(tree::bottom(&mounted.tree), tree::bottom(&back.tree));
}

fn restored_tree_equals(site: &Site, mounted: &Mounted, point: &str) {
    let to = site.path(&format!("restored-{}", point.replace('@', "-")));
    let _ = site.dualsync(&["restore", point, "--from", "archive", "--to", text(&to), "--yes"]).exits(0);
    // Sockets are listed and never stored; what the configuration leaves out is not there.
    rsync_finds_no_difference(&mounted.tree, &to, &["/deep", "/kinds/socket", "/lost+found", "/cache/*"]);
    assert_eq!(tree::bottom(&mounted.tree), tree::bottom(&to));
}

#[test]
fn two_nights_in_two_folders_are_compared_and_brought_back() {
    if needs::root_and_loop() && needs::commands(&["rsync", "setfacl", "setcap", "e2fsck", "filefrag", "mtr-packet"]) {
        two_nights(Stores::Directories);
    }
}

#[test]
fn two_nights_in_two_countries_are_compared_and_brought_back() {
    if needs::root_and_loop()
        && needs::commands(&["rsync", "setfacl", "setcap", "e2fsck", "filefrag", "mtr-packet", "garage"])
    {
        two_nights(Stores::Garages);
    }
}

fn two_nights(stores: Stores) {
    let Server { mounted, site, _garages } = server(stores);
    fs::create_dir(mounted.tree.join("cache")).unwrap();
    fs::write(mounted.tree.join("cache/left-out"), "not in the archive").unwrap();

    let _ = site.dualsync(&["check"]).exits(0);
    let first = site.dualsync(&["run", "--json"]).exits(0).summary();
    assert_eq!(first["copies"]["block"]["state"], "available", "{first}");
    assert_eq!(first["copies"]["archive"]["state"], "available", "{first}");
    assert_verified(&site, "explained");
    restored_image_equals(&site, &mounted, "web@latest");
    restored_tree_equals(&site, &mounted, "web@latest");

    change(&mounted.tree);
    let _ = site.dualsync(&["run"]).exits(0);
    assert_verified(&site, "explained");
    let points = site.dualsync(&["list", "--json"]).exits(0).json();
    let points = points.as_array().unwrap();
    assert_eq!(points.len(), 2, "{points:?}");
    for point in points {
        assert_eq!(point["copies"]["block"]["state"], "available");
        let _ = site.dualsync(&["verify", point["point"].as_str().unwrap()]).exits(0);
    }
    let newest = points.iter().map(|point| point["point"].as_str().unwrap()).max().unwrap();
    restored_image_equals(&site, &mounted, newest);
    restored_tree_equals(&site, &mounted, newest);
}

fn assert_verified(site: &Site, verdict: &str) {
    let report = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(0).summary();
    assert_eq!(report["verdict"], verdict, "{report}");
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");
    assert!(report["witnessed_entries"].as_u64().unwrap() > 300, "{report}");
}

/// Other bytes where the old ones lay: only a read that passes the page cache of the device by sees them.
fn write_over_in_place(file: &Path) {
    let place = || sh("filefrag", &["-e", text(file)]);
    let before = place();
    let to = format!("of={}", file.display());
    let script =
        format!("yes 2 | tr -d '\\n' | head -c {} | dd {to} bs=64k conv=notrunc,fsync status=none", IN_PLACE_BYTES / 2);
    sh("sh", &["-c", &script]);
    assert_eq!(place(), before, "it was not written over in place");
    let bytes = fs::read(file).unwrap();
    assert!(bytes.starts_with(b"22") && bytes.ends_with(b"11") && bytes.len() == IN_PLACE_BYTES);
}

fn change(tree: &Path) {
    write_over_in_place(&tree.join("in-place"));
    fs::write(tree.join("names/a.txt"), "no longer empty").unwrap();
    fs::remove_file(tree.join("kinds/linked-2")).unwrap();
    fs::rename(tree.join("kinds/relative"), tree.join("kinds/renamed")).unwrap();
    sh("setfacl", &["-b", text(&tree.join("attributes/plain"))]);
    let mut grown = fs::OpenOptions::new().append(true).open(tree.join("sparse")).unwrap();
    std::io::Write::write_all(&mut grown, &vec![b'x'; 3 << 20]).unwrap();
}

#[test]
fn one_file_comes_back_from_either_copy() {
    if !needs::root_and_loop() || !needs::commands(&["setfacl", "setcap", "mtr-packet"]) {
        return;
    }
    let Server { mounted, site, _garages } = server(Stores::Directories);
    let _ = site.dualsync(&["run"]).exits(0);
    for from in ["block", "archive"] {
        let to = site.path(&format!("one-{from}"));
        let arguments =
            ["restore", "web@latest", "--from", from, "--path", "attributes/nanos", "--to", text(&to), "--yes"];
        let _ = site.dualsync(&arguments).exits(0);
        let names = Ran::of(Command::new("find").arg(&to).args(["-type", "f", "-printf", "%P\n"])).stdout;
        assert_eq!(names, "attributes/nanos\n", "{from}");
        let stat = |path: &Path| sh("stat", &["-c", "%s %a %u %g %y", text(path)]);
        assert_eq!(stat(&to.join("attributes/nanos")), stat(&mounted.tree.join("attributes/nanos")), "{from}");
    }
}

#[test]
fn a_restore_never_writes_over_what_exists() {
    if !needs::root_and_loop() || !needs::commands(&["setfacl", "setcap", "mtr-packet"]) {
        return;
    }
    let Server { mounted: _mounted, site, _garages } = server(Stores::Directories);
    let _ = site.dualsync(&["run"]).exits(0);
    let precious = site.path("precious.img");
    fs::write(&precious, "precious").unwrap();
    let ran = site.dualsync(&["restore", "web@latest", "--from", "block", "--to", text(&precious), "--yes"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}
