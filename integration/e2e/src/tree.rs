//! A tree with everything that copies get wrong.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::image::{sh, text};
use crate::programs::Ran;
use crate::site::{Site, Source};

/// Fills `root` with nasty names, kinds, attributes and times; as root on a real file system.
///
/// # Panics
/// When the file system refuses something.
pub fn nasty(root: &Path) {
    names(root);
    kinds(root);
    attributes(root);
    deep(root);
    sparse(root);
}

fn names(root: &Path) {
    let directory = root.join("names");
    fs::create_dir(&directory).unwrap();
    let latin1 = std::ffi::OsStr::from_bytes(b"caf\xe9 \x01\n\"quoted\"");
    let longest = vec![0xff_u8; 255];
    for name in [
        latin1,
        std::ffi::OsStr::from_bytes(&longest),
        "-rf".as_ref(),
        "*".as_ref(),
        " ".as_ref(),
        "a\\b".as_ref(),
        "ünïcode".as_ref(),
    ] {
        fs::write(directory.join(name), name.as_bytes()).unwrap();
    }
    // These sort differently as whole strings and as components.
    fs::create_dir(directory.join("a")).unwrap();
    fs::write(directory.join("a/z"), "inside a").unwrap();
    fs::write(directory.join("a-"), "after a by components").unwrap();
    fs::write(directory.join("a.txt"), "").unwrap();
}

fn kinds(root: &Path) {
    let directory = root.join("kinds");
    fs::create_dir(&directory).unwrap();
    fs::create_dir(directory.join("empty")).unwrap();
    fs::write(directory.join("linked"), "one inode, three names").unwrap();
    fs::hard_link(directory.join("linked"), directory.join("linked-2")).unwrap();
    fs::hard_link(directory.join("linked"), root.join("names/linked-3")).unwrap();
    symlink("../names/a", directory.join("relative")).unwrap();
    symlink("/etc/passwd", directory.join("absolute")).unwrap();
    symlink("nowhere/at/all", directory.join("dangling")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"caf\xe9"), directory.join("latin1")).unwrap();
    sh("mkfifo", &[text(&directory.join("fifo"))]);
    sh("mknod", &[text(&directory.join("null")), "c", "1", "3"]);
    sh("mknod", &[text(&directory.join("disk")), "b", "7", "300"]);
    drop(std::os::unix::net::UnixListener::bind(directory.join("socket")).unwrap());
}

fn attributes(root: &Path) {
    let directory = root.join("attributes");
    fs::create_dir(&directory).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("secret", 0o000), ("plain", 0o644)] {
        let path = directory.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let sticky = directory.join("sticky");
    fs::create_dir(&sticky).unwrap();
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    let plain = directory.join("plain");
    sh("chown", &["12345:54321", text(&plain)]);
    sh("setfattr", &["-n", "user.comment", "-v", "0x00ff0a", text(&plain)]);
    sh("setfattr", &["-n", "trusted.note", "-v", "root only", text(&plain)]);
    sh("setfacl", &["-m", "u:12345:rw,g:54321:r", text(&plain)]);
    sh("setfacl", &["-d", "-m", "u:12345:rwx", text(&sticky)]);
    let capable = directory.join("capable");
    fs::write(&capable, "#!").unwrap();
    sh("setcap", &["cap_net_raw+ep", text(&capable)]);
    for (name, time) in [("nanos", "2001-02-03 04:05:06.123456789 UTC"), ("before-1970", "1961-04-12 06:07:00.5 UTC")] {
        let path = directory.join(name);
        fs::write(&path, name).unwrap();
        sh("touch", &["-d", time, text(&path)]);
    }
    sh("touch", &["-h", "-d", "1999-12-31 23:59:59.999999999 UTC", text(&root.join("kinds/dangling"))]);
}

/// A path beyond 4,096 bytes, made step by step as a shell would.
fn deep(root: &Path) {
    down(root, "mkdir -p deep && cd deep", "mkdir $name && cd $name", "echo bottom > bottom");
}

/// What lies at the end of that path, with its facts; rsync refuses to go there.
///
/// # Panics
/// When it is not there.
pub fn bottom(root: &Path) -> String {
    down(root, "cd deep", "cd $name && stat -c '%a %u %g %y' .", "cat bottom && stat -c '%a %u %g %y' bottom")
}

fn down(root: &Path, first: &str, each: &str, last: &str) -> String {
    let script = format!(
        "name={}; cd \"$1\" && {first} && for i in $(seq 24); do {each} || exit 1; done && {last}",
        "d".repeat(200)
    );
    sh("bash", &["-c", &script, "down", text(root)])
}

fn sparse(root: &Path) {
    let mut file = fs::File::create(root.join("sparse")).unwrap();
    for at in [1 << 20, 40 << 20] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"an island").unwrap();
    }
    file.set_len(64 << 20).unwrap();
}

/// Unpacks real Debian packages as the machine has them installed, with owners, modes, times, hard links
/// (`perl-base`) and capabilities (`mtr-tiny`, whose installation gives them).
///
/// # Panics
/// When a tool fails, or when what makes these packages worth it is not there.
pub fn debian(root: &Path) {
    let to = root.join("debian");
    fs::create_dir(&to).unwrap();
    let script = format!(
        "set -o pipefail; dpkg -L perl-base e2fsprogs mtr-tiny | sort -u | while read -r f; do [ -d \"$f\" ] || printf '%s\\0' \"$f\"; done \
         | tar -c --null --no-recursion --xattrs --xattrs-include='*' -T - 2>/dev/null | tar -x --xattrs --xattrs-include='*' -C '{}'",
        to.display()
    );
    sh("bash", &["-c", &script]);
    let linked = sh("find", &[text(&to), "-type", "f", "-links", "+1"]);
    assert!(linked.lines().count() > 1, "no hard links in the unpacked packages");
    let capable = sh("getcap", &["-r", text(&to)]);
    assert!(capable.contains("mtr-packet cap_net_raw"), "no capabilities in the unpacked packages: {capable}");
}

/// A small source that needs no root: a folder `tree` and an ext4 image of it, said to be idle.
/// `lines` are further lines for the whole configuration's source.
///
/// # Panics
/// When a tool fails.
pub fn small_source(site: &Site, lines: &str) -> Source {
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    for directory in 0..4 {
        let inside = tree.join(format!("d{directory}"));
        fs::create_dir(&inside).unwrap();
        for file in 0..25 {
            let line = format!("{directory} {file} some words that compress well\n");
            fs::write(inside.join(format!("f{file}.txt")), line.repeat(1 + file * 40)).unwrap();
        }
    }
    fs::write(tree.join("random"), random_bytes(3 << 20)).unwrap();
    let source =
        Source { device: site.path("data.img"), tree, lines: format!("snapshot = \"none\"\nidle = true\n{lines}") };
    make_image(&source, "256M");
    source
}

/// A source of a few files in an image of 8 MiB, for many nights.
///
/// # Panics
/// When a tool fails.
pub fn tiny_source(site: &Site, lines: &str) -> Source {
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    for file in 0..6 {
        fs::write(tree.join(format!("f{file}")), format!("file {file}\n").repeat(200 * (file + 1))).unwrap();
    }
    let source =
        Source { device: site.path("data.img"), tree, lines: format!("snapshot = \"none\"\nidle = true\n{lines}") };
    change_tiny_source(&source, 0);
    source
}

/// What a day changes in a tiny source: one file is new, and one written over.
///
/// # Panics
/// When a tool fails.
pub fn change_tiny_source(source: &Source, day: u32) {
    let text = format!("day {day}\n");
    fs::write(source.tree.join("today"), text.repeat(500)).unwrap();
    fs::write(source.tree.join(format!("f{}", day % 6)), text.repeat(100 + 10 * (day % 50) as usize)).unwrap();
    make_image(source, "8M");
}

/// Adds a file of `bytes` that do not compress to a small source.
///
/// # Panics
/// When a tool fails.
pub fn grow_small_source(source: &Source, bytes: usize) {
    write_small_source(source, "grown", &random_bytes(bytes));
}

/// Writes a file of a small source, anew or over.
///
/// # Panics
/// When a tool fails.
pub fn write_small_source(source: &Source, name: &str, bytes: &[u8]) {
    fs::write(source.tree.join(name), bytes).unwrap();
    make_image(source, "256M");
}

/// Gives every entry of a tree the one time that [`make_image`] gives its image.
///
/// # Panics
/// When a tool fails.
pub fn set_times(tree: &Path) {
    sh("find", &[text(tree), "-exec", "touch", "-h", "-d", "2026-01-02 03:04:05 UTC", "{}", "+"]);
}

/// The image of the tree, the same for the same tree; `mke2fs -d` keeps whole seconds only.
///
/// # Panics
/// When a tool fails.
pub fn make_image(source: &Source, size: &str) {
    set_times(&source.tree);
    let uuid = "b8f1a1b0-0000-4000-8000-64756c73796e";
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = format!("root_owner={user}:{group},hash_seed={uuid}");
    let mut mke2fs = Command::new("mke2fs");
    // The root directory gets the time of the making and root as its owner: let them be the tree's.
    mke2fs.env("E2FSPROGS_FAKE_TIME", "1767323045");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-U", uuid, "-E", &owner, "-d"]);
    let _ = Ran::of(mke2fs.args([&source.tree, &source.device]).arg(size)).exits(0);
}

/// Bytes that do not compress, the same each time (xorshift64*).
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7]
    })
    .take(count)
    .collect()
}
