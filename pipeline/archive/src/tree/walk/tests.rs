//! The walk against trees that were made for it, judged by GNU find.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::tree::nasty;

fn walk(root: &Path) -> Vec<Walked> {
    let spill = tempfile::tempdir().unwrap();
    Walk::new(root, spill.path(), |_| false).unwrap().map(Result::unwrap).collect()
}

fn paths(walked: &[Walked]) -> Vec<String> {
    walked.iter().map(|entry| entry.path.to_string()).collect()
}

fn letter(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "f",
        EntryKind::Directory => "d",
        EntryKind::Symlink => "l",
        EntryKind::Fifo => "p",
        EntryKind::CharDevice => "c",
        EntryKind::BlockDevice => "b",
        EntryKind::Socket => "s",
    }
}

/// What find prints for an entry, spelled from our own record of it.
fn as_find(meta: &Meta) -> String {
    let size = if matches!(meta.kind, EntryKind::File | EntryKind::Symlink) { meta.size } else { 0 };
    let target = meta.link_target.as_ref().map_or(String::new(), |target| format!("{:?}", target.as_bytes()));
    let Meta { mode, uid, gid, links, inode, kind, .. } = meta;
    // find, too, writes seconds before the epoch as a floor and a fraction after it.
    let (seconds, nanos) = (meta.mtime.seconds(), meta.mtime.nanos());
    format!("{} {mode:o} {uid} {gid} {size} {links} {inode} {seconds}.{nanos:09}0 {target}", letter(*kind))
}

fn find(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let output = std::process::Command::new("find")
        .arg(root)
        .args(["-printf", "%P\\0%y %m %U %G \\0%s\\0 %n %i %T@ \\0%l\\0"])
        .output()
        .unwrap();
    let fields: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    let entries = fields.chunks_exact(5).map(|fields| {
        let text = |n: usize| String::from_utf8(fields[n].to_vec()).unwrap();
        let size = if fields[1].starts_with(b"f") || fields[1].starts_with(b"l") { text(2) } else { "0".into() };
        let target = if fields[4].is_empty() { String::new() } else { format!("{:?}", fields[4]) };
        (fields[0].to_vec(), format!("{}{size}{}{target}", text(1), text(3)))
    });
    entries.collect()
}

#[test]
fn a_nasty_tree_is_what_find_says_in_the_one_order() {
    let tree = tempfile::tempdir().unwrap();
    nasty::build(tree.path(), 100_000);
    nasty::add_socket(tree.path());
    let walked = walk(tree.path());
    assert!(walked.is_sorted_by(|a, b| a.path < b.path), "{:?}", paths(&walked));
    assert!(walked.iter().all(|entry| entry.problems.is_empty()));
    let ours: BTreeMap<_, _> =
        walked.iter().map(|entry| (entry.path.as_bytes().to_vec(), as_find(entry.meta.as_ref().unwrap()))).collect();
    let theirs = find(tree.path());
    for (path, line) in &theirs {
        assert_eq!(ours.get(path), Some(line), "{:?}", RawPath::new(path.clone()));
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.contains_key(nasty::bottom().as_os_str().as_bytes()));
}

#[test]
fn attributes_acls_and_extents_come_along() {
    let tree = tempfile::tempdir().unwrap();
    nasty::build(tree.path(), 1);
    let walked = walk(tree.path());
    let meta = |path: &str| {
        walked.iter().find(|entry| entry.path.as_bytes() == path.as_bytes()).unwrap().meta.as_ref().unwrap()
    };
    let names = |path: &str| -> Vec<String> {
        let xattrs = meta(path).xattrs.as_ref().unwrap();
        xattrs.iter().map(|xattr| String::from_utf8(xattr.name.clone()).unwrap()).collect()
    };
    assert_eq!(names("modes/read only"), ["user.binary", "user.empty"]);
    assert_eq!(meta("modes/read only").xattrs.as_ref().unwrap()[0].value, b"\0\xff\x01");
    assert_eq!(names("modes/acl"), ["system.posix_acl_access", "system.posix_acl_default"]);
    assert_eq!(names("names"), [""; 0]);
    let holes = meta("sparse/holes at both ends");
    assert!(holes.extents_are_sound() && holes.extents.as_ref().unwrap().len() == 2, "{holes:?}");
    assert_eq!(meta("sparse/nothing but a hole").extents, Some(Vec::new()));
    assert_eq!(meta("names/a").extents, None);
    if nasty::privileged("attributes of root") {
        assert_eq!(names("modes"), ["trusted.note"]);
        assert_eq!(names("modes/capable"), ["security.capability"]);
        assert_eq!(meta("nodes/block").device, Some((259, 1_000_000)));
    }
}

#[test]
fn a_glance_and_a_closer_look_are_a_whole_walk() {
    let tree = tempfile::tempdir().unwrap();
    nasty::build(tree.path(), 1000);
    let spill = tempfile::tempdir().unwrap();
    let closely = walk(tree.path());
    let glances = Walk::new(tree.path(), spill.path(), |_| false).unwrap().at_a_glance().map(Result::unwrap);
    let mut entries = 0;
    for (whole, mut glance) in closely.iter().zip(glances) {
        entries += 1;
        assert_eq!(whole.path, glance.path);
        let whole = whole.meta.as_ref().unwrap();
        let mut completed = glance.meta.as_ref().unwrap().clone();
        assert!(glance.is_glance() && completed.xattrs.is_none() && completed.stands_as(whole), "{completed:?}");
        completed.complete_from(whole);
        assert_eq!(completed, *whole);
        glance.look_closely();
        assert!(!glance.is_glance() && glance.problems.is_empty());
        assert_eq!(glance.meta.as_ref().unwrap(), whole);
    }
    assert_eq!(entries, closely.len());
}

#[test]
fn what_stands_there_when_it_is_looked_at_closely_is_not_taken_for_what_was_glanced_at() {
    let tree = tempfile::tempdir().unwrap();
    for name in ["gone", "other", "replaced", "stays"] {
        fs::write(tree.path().join(name), name).unwrap();
    }
    let walk = Walk::new(tree.path(), tree.path(), |_| false).unwrap().at_a_glance();
    let mut walked: Vec<_> = walk.map(Result::unwrap).collect();
    fs::remove_file(tree.path().join("gone")).unwrap();
    fs::rename(tree.path().join("other"), tree.path().join("replaced")).unwrap();
    walked.iter_mut().for_each(Walked::look_closely);
    let vanished = |entry: &&Walked| entry.meta.as_ref().is_err_and(WalkProblem::is_vanished);
    let vanished: Vec<_> = walked.iter().filter(vanished).map(|entry| entry.path.to_string()).collect();
    assert_eq!(vanished, ["gone", "other", "replaced"]);
}

#[test]
fn what_is_excluded_is_left_out_with_all_below() {
    let tree = tempfile::tempdir().unwrap();
    for folder in ["cache/deep", "keep"] {
        fs::create_dir_all(tree.path().join(folder)).unwrap();
    }
    fs::write(tree.path().join("cache/deep/file"), "").unwrap();
    let spill = tempfile::tempdir().unwrap();
    let walk = Walk::new(tree.path(), spill.path(), |path| path.as_bytes() == b"cache").unwrap();
    let walked: Vec<_> = walk.map(Result::unwrap).collect();
    assert_eq!(paths(&walked), [".", "keep"]);
}

#[test]
fn an_entry_that_vanishes_is_an_outcome_and_not_the_end() {
    let tree = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(tree.path().join(name), "").unwrap();
    }
    let spill = tempfile::tempdir().unwrap();
    let mut walk = Walk::new(tree.path(), spill.path(), |_| false).unwrap();
    assert!(walk.next().unwrap().unwrap().path.is_root());
    fs::remove_file(tree.path().join("b")).unwrap();
    let rest: Vec<_> = walk.map(Result::unwrap).collect();
    assert_eq!(paths(&rest), ["a", "b", "c"]);
    let problem = rest[1].meta.as_ref().unwrap_err();
    assert!(problem.is_vanished());
    assert_eq!(problem.to_string(), "cannot stat 'b'");
    assert!(rest[2].meta.is_ok());
}

#[test]
fn a_directory_moved_away_below_the_open_ones_costs_its_entries_only() {
    let tree = tempfile::tempdir().unwrap();
    let mut deep = tree.path().join("a");
    for _ in 0..OPEN_MAX + 8 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(tree.path().join("a/d/z"), "").unwrap();
    let moved = tree.path().join("a/d/d/d");
    fs::write(tree.path().join("z"), "").unwrap();
    let spill = tempfile::tempdir().unwrap();
    let mut walk = Walk::new(tree.path(), spill.path(), |_| false).unwrap();
    let bottom = deep.strip_prefix(tree.path()).unwrap().as_os_str().as_bytes();
    while walk.next().unwrap().unwrap().path.as_bytes() != bottom {}
    fs::rename(&moved, tree.path().join("moved")).unwrap();
    let rest: Vec<_> = walk.map(Result::unwrap).collect();
    assert_eq!(paths(&rest), ["a/d/z", "z"]);
    assert!(rest.iter().all(|entry| entry.meta.is_ok()), "{rest:?}");
}

#[test]
fn names_that_do_not_fit_in_memory_are_spilled_and_still_sorted() {
    let tree = tempfile::tempdir().unwrap();
    let folder = fs::File::open(tree.path()).unwrap();
    for n in 0..5_000_u32 {
        let name = format!("{:08x}", n.wrapping_mul(2_654_435_761));
        rustix::fs::mknodat(&folder, name, rustix::fs::FileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    let spill = tempfile::tempdir().unwrap();
    let mut names = Sorter::new(spill.path(), 1000);
    assert!(list(&folder.into(), &mut names).unwrap().is_none());
    let sorted: Vec<_> = names.finish().unwrap().map(|record| record.unwrap().key).collect();
    assert!(sorted.is_sorted() && sorted.len() == 5_000);
}

#[test]
fn what_another_mount_covers_is_seen_below_it() {
    if !nasty::privileged("mounts") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("mnt")).unwrap();
    fs::write(tree.path().join("mnt/covered"), "").unwrap();
    let covered = nasty::Mounted::tmpfs(&tree.path().join("mnt"));
    fs::write(tree.path().join("mnt/foreign"), "").unwrap();
    assert_eq!(paths(&walk(tree.path())), [".", "mnt", "mnt/covered"]);
    drop(covered);
}

#[test]
fn a_mount_in_the_way_is_reported_and_not_entered() {
    if !nasty::privileged("mounts") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("mnt")).unwrap();
    let covered = nasty::Mounted::tmpfs(&tree.path().join("mnt"));
    fs::write(tree.path().join("mnt/foreign"), "").unwrap();
    let spill = tempfile::tempdir().unwrap();
    let mut walk = Walk::new(tree.path(), spill.path(), |_| false).unwrap();
    // As without the privilege to copy the mount.
    walk.root = Arc::new(fs::File::open(tree.path()).unwrap().into());
    let walked: Vec<_> = walk.map(Result::unwrap).collect();
    assert_eq!(paths(&walked), [".", "mnt"]);
    assert_eq!(walked[1].problems[0].to_string(), "cannot cross into the file system mounted at 'mnt'");
    drop(covered);
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let spill = tempfile::tempdir().unwrap();
    let file = spill.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file, spill.path().join("missing")] {
        let error = Walk::new(&root, spill.path(), |_| false).err().unwrap();
        assert!(error.to_string().starts_with("cannot open the tree "), "{error}");
    }
}
