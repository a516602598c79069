//! Files that move while they are read.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::tree::walk::{Walk, Walked};

fn see(tree: &Path) -> Walked {
    let mut walk = Walk::new(tree, tree, |_| false).unwrap().map(Result::unwrap);
    walk.find(|entry| entry.path.as_bytes() == b"file").unwrap()
}

fn tree(content: &[u8]) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), content).unwrap();
    tree
}

/// Reads `before` bytes, lets `meddle` happen, reads the rest: the bytes and the verdict.
fn read_while(tree: &Path, before: usize, meddle: impl FnOnce(&Path)) -> (Vec<u8>, Result<(), String>) {
    let seen = see(tree);
    let mut content = seen.open_content().unwrap();
    let mut bytes = vec![0; before];
    content.read_exact(&mut bytes).unwrap();
    meddle(&tree.join("file"));
    content.read_to_end(&mut bytes).unwrap();
    (bytes, content.finish().map_err(|problem| problem.to_string()))
}

#[test]
fn a_file_at_rest_is_read_whole() {
    let tree = tree(&vec![7; 100_000]);
    assert_eq!(read_while(tree.path(), 10, |_| ()), (vec![7; 100_000], Ok(())));
}

#[test]
fn a_file_that_shrinks_keeps_its_length_and_says_so() {
    let tree = tree(&vec![7; 100_000]);
    let (bytes, verdict) =
        read_while(tree.path(), 10, |file| File::options().write(true).open(file).unwrap().set_len(20).unwrap());
    assert_eq!(bytes.len(), 100_000);
    assert_eq!((bytes[19], bytes[20]), (7, 0));
    assert_eq!(verdict, Err("shrank while it was read: 20 of 100000 bytes were there".into()));
}

#[test]
fn a_file_that_grows_is_read_to_its_old_end() {
    let tree = tree(b"0123456789");
    let (bytes, verdict) = read_while(tree.path(), 5, |file| {
        File::options().append(true).open(file).unwrap().write_all(b"more").unwrap();
    });
    assert_eq!(bytes, b"0123456789");
    assert_eq!(verdict, Err("grew while it was read, from 10 to 14 bytes".into()));
}

#[test]
fn a_write_in_place_is_noticed() {
    let tree = tree(b"0123456789");
    let (bytes, verdict) = read_while(tree.path(), 5, |file| {
        File::options().write(true).open(file).unwrap().write_all_at(b"x", 9).unwrap();
    });
    assert_eq!(bytes, b"012345678x");
    assert_eq!(verdict, Err("changed while it was read".into()));
}

#[test]
fn a_file_replaced_before_it_is_opened_is_not_read() {
    let tree = tree(b"old");
    let seen = see(tree.path());
    fs::write(tree.path().join("new"), "new").unwrap();
    fs::rename(tree.path().join("new"), tree.path().join("file")).unwrap();
    assert!(matches!(seen.open_content(), Err(ContentProblem::Replaced)));
}

#[test]
fn a_file_that_vanished_is_not_unreadable() {
    let tree = tree(b"old");
    let seen = see(tree.path());
    fs::remove_file(tree.path().join("file")).unwrap();
    let problem = seen.open_content().unwrap_err();
    assert!(matches!(problem, ContentProblem::Open(_)) && !problem.is_unreadable(), "{problem}");
}

#[test]
fn a_link_put_in_a_files_place_is_not_followed() {
    let tree = tree(b"old");
    let seen = see(tree.path());
    fs::remove_file(tree.path().join("file")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.path().join("file")).unwrap();
    assert!(matches!(seen.open_content(), Err(ContentProblem::Open(_))));
}

#[test]
fn only_the_data_of_a_sparse_file_is_read() {
    let tree = tree(b"");
    let file = File::options().write(true).open(tree.path().join("file")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"data", 32 << 20).unwrap();
    let seen = see(tree.path());
    let mut content = seen.open_content().unwrap();
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, content.data_bytes());
    assert!(bytes.starts_with(b"data") && bytes.len() <= 1 << 20, "{}", bytes.len());
    content.finish().unwrap();
}
