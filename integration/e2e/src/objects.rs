//! The objects of a target as somebody else reaches them: looked at and changed behind dualsync's back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bucket::Bucket;

const SCRIPT: &str = include_str!("s3.py");

/// Where a target keeps its objects.
#[derive(Debug)]
pub enum Objects {
    /// A directory target.
    Folder(PathBuf),
    /// A bucket, reached by a client of the tests' own (Python).
    Bucket(Bucket),
}

impl Objects {
    /// Keys below `folder`, the longest object first.
    ///
    /// # Panics
    /// When they cannot be listed, or when there are more than a page of them.
    pub fn keys(&self, folder: &str) -> Vec<String> {
        let mut sized = match self {
            // The folder comes with its first object.
            Self::Folder(root) if !root.join(folder).exists() => Vec::new(),
            Self::Folder(root) => files(&root.join(folder))
                .into_iter()
                .map(|path| (fs::metadata(&path).unwrap().len(), name_below(root, &path)))
                .collect(),
            Self::Bucket(bucket) => String::from_utf8(ask(bucket, "keys", &format!("{folder}/"), b""))
                .unwrap()
                .lines()
                .map(|line| line.split_once(' ').unwrap())
                .map(|(size, key)| (size.parse::<u64>().unwrap(), key.to_owned()))
                .collect::<Vec<_>>(),
        };
        sized.sort_by(|left, right| right.cmp(left));
        sized.into_iter().map(|(_, key)| key).collect()
    }

    /// The bytes of an object.
    ///
    /// # Panics
    /// When it is not there.
    pub fn get(&self, key: &str) -> Vec<u8> {
        match self {
            Self::Folder(root) => fs::read(root.join(key)).unwrap(),
            Self::Bucket(bucket) => ask(bucket, "get", key, b""),
        }
    }

    /// Puts other bytes in an object's place.
    ///
    /// # Panics
    /// When the store refuses.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Folder(root) => fs::write(root.join(key), bytes).unwrap(),
            Self::Bucket(bucket) => drop(ask(bucket, "put", key, bytes)),
        }
    }

    /// Takes an object away.
    ///
    /// # Panics
    /// When the store refuses.
    pub fn delete(&self, key: &str) {
        match self {
            Self::Folder(root) => fs::remove_file(root.join(key)).unwrap(),
            Self::Bucket(bucket) => drop(ask(bucket, "delete", key, b"")),
        }
    }
}

/// Every regular file below `directory`.
///
/// # Panics
/// When it cannot be read.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

/// The path of a file below `root`; the tests' own names are ASCII.
///
/// # Panics
/// When it is not below it.
pub fn name_below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

fn ask(bucket: &Bucket, act: &str, argument: &str, body: &[u8]) -> Vec<u8> {
    let Bucket { endpoint, region, name, credentials } = bucket;
    let mut child = Command::new("python3")
        .args(["-c", SCRIPT, endpoint, region, name, act, argument])
        .env("CREDENTIALS", credentials)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start python3");
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{act} {argument}: the bucket refused");
    output.stdout
}
