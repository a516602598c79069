//! A tree of everything that has broken a backup program, for tests.
//!
//! [`build`] makes what the caller may make; [`privileged`] is asked by tests that cannot do with less.

#![cfg(test)]

use std::fs::{self, File, FileTimes};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, makedev};
use sha2::{Digest, Sha256};

use dualsync_model::fact::EntryKind;

use super::walk::{Walk, Walked};

/// Whether a test that needs root can run. Without root it says so and is over, unless
/// `DUALSYNC_NO_SKIP=1` makes that a failure: then nothing counts as tested that was not.
pub(crate) fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}

/// Says that a test cannot run here.
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("DUALSYNC_NO_SKIP").is_none_or(|value| value != "1"), "{test}: {reason}");
    println!("skipped: {test}: {reason}");
}

/// Runs a tool that a test builds or judges with; its output.
pub(crate) fn tool(argv: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let mut command = Command::new(argv[0]);
    command.args(argv[1..].iter().map(AsRef::as_ref)).env("LC_ALL", "C");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes the tree below `root`, which exists and is empty, with `crowd` files in one directory.
pub(crate) fn build(root: &Path, crowd: u32) {
    names(root);
    times(root);
    sparse(root);
    modes_and_attributes(root);
    nodes(root);
    links(root);
    deep(root);
    fs::create_dir(root.join("crowd")).unwrap();
    let folder = File::open(root.join("crowd")).unwrap();
    for n in 0..crowd {
        if n % 100 == 0 {
            fs::write(root.join(format!("crowd/{n}")), n.to_string()).unwrap();
        } else {
            rustix::fs::mknodat(&folder, n.to_string(), FileType::RegularFile, Mode::RUSR, 0).unwrap();
        }
    }
    // Last, since everything above changes the times of directories.
    let old = SystemTime::UNIX_EPOCH - Duration::new(86_400, 1);
    File::open(root.join("times")).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
    fs::set_permissions(root.join("modes/closed"), fs::Permissions::from_mode(0o500)).unwrap();
}

fn names(root: &Path) {
    let folder = root.join("names");
    fs::create_dir(&folder).unwrap();
    let name_of = |bytes: &[u8]| folder.join(std::ffi::OsStr::from_bytes(bytes));
    fs::write(name_of(&[b'\xe9'; 255]), "255 bytes, no UTF-8").unwrap();
    fs::write(name_of("ünïcode".as_bytes()), "text").unwrap();
    for name in ["-rf", " ", "new\nline", "quote\"'\\", "*", "[a]", "...", "a", "a b"] {
        fs::write(folder.join(name), name).unwrap();
    }
    // Sorted as text with '/' these three would stand in another order.
    fs::create_dir(folder.join("sort")).unwrap();
    fs::write(folder.join("sort/inner"), "1").unwrap();
    fs::write(folder.join("sort-1"), "2").unwrap();
    fs::write(folder.join("sort.txt"), "3").unwrap();
    fs::create_dir(folder.join("empty directory")).unwrap();
    fs::write(folder.join("empty file"), "").unwrap();
}

fn times(root: &Path) {
    fs::create_dir(root.join("times")).unwrap();
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("before the epoch", epoch - Duration::new(1_000_000_000, 123_456_789)),
        ("at the epoch", epoch),
        ("nanoseconds", epoch + Duration::new(1_700_000_000, 1)),
        ("after 2038", epoch + Duration::new(4_000_000_000, 999_999_999)),
    ] {
        let file = File::create(root.join("times").join(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

fn sparse(root: &Path) {
    const MIB: u64 = 1 << 20;
    fs::create_dir(root.join("sparse")).unwrap();
    let make = |name: &str, size: u64, data: &[u64]| {
        let file = File::create(root.join("sparse").join(name)).unwrap();
        file.set_len(size).unwrap();
        for offset in data {
            file.write_all_at(&[b'd'; 5000], *offset).unwrap();
        }
    };
    make("holes at both ends", 8 * MIB, &[2 * MIB, 5 * MIB]);
    make("nothing but a hole", 3 * MIB + 7, &[]);
    make("data at both ends", 2 * MIB + 5000, &[0, 2 * MIB]);
}

fn modes_and_attributes(root: &Path) {
    let folder = root.join("modes");
    fs::create_dir(&folder).unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    fs::write(folder.join("read only"), "read only").unwrap();
    set(&folder.join("read only"), "user.binary", b"\0\xff\x01");
    set(&folder.join("read only"), "user.empty", b"");
    fs::set_permissions(folder.join("read only"), fs::Permissions::from_mode(0o444)).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("none", 0o000)] {
        fs::write(folder.join(name), name).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("sticky", 0o1777), ("setgid directory", 0o2775), ("closed", 0o700)] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(folder.join("closed/inside"), "").unwrap();
    set(&folder.join("sticky"), "user.directory", "ünïcode".as_bytes());
    fs::create_dir(folder.join("acl")).unwrap();
    tool(&[&"setfacl", &"-m", &"u:1234:rwx,d:g:4321:rx", &folder.join("acl")]);
    fs::write(folder.join("acl/inherits"), "").unwrap();
    tool(&[&"setfacl", &"-m", &"u:1:r", &folder.join("none")]);
    if rustix::process::geteuid().is_root() {
        set(&folder, "trusted.note", b"only root sees this");
        fs::write(folder.join("capable"), "#!").unwrap();
        std::os::unix::fs::chown(folder.join("capable"), Some(65_534), Some(4_000_000_000)).unwrap();
        tool(&[&"setcap", &"cap_net_raw+ep", &folder.join("capable")]);
        std::os::unix::fs::chown(folder.join("setuid"), Some(1234), Some(4321)).unwrap();
        fs::set_permissions(folder.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    }
}

fn nodes(root: &Path) {
    let folder = root.join("nodes");
    fs::create_dir(&folder).unwrap();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, folder.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    if rustix::process::geteuid().is_root() {
        make("null", FileType::CharacterDevice, makedev(1, 3));
        make("block", FileType::BlockDevice, makedev(259, 1_000_000));
    }
}

/// Adds a socket, which restores leave out.
pub(crate) fn add_socket(root: &Path) {
    rustix::fs::mknodat(CWD, root.join("nodes/socket"), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
}

fn links(root: &Path) {
    let folder = root.join("links");
    fs::create_dir(&folder).unwrap();
    for (name, target) in [
        ("dangling", "nowhere/at all"),
        ("absolute", "/etc/passwd"),
        ("up", "../../../../.."),
        ("loop", "loop"),
        ("to a directory", "../names"),
    ] {
        symlink(target, folder.join(name)).unwrap();
    }
    symlink(std::ffi::OsStr::from_bytes(b"caf\xe9\n"), folder.join("no text")).unwrap();
    symlink("x".repeat(4095), folder.join("long")).unwrap();
    let old = rustix::fs::Timespec { tv_sec: -5, tv_nsec: 7 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(CWD, folder.join("dangling"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    fs::write(folder.join("z first"), "one inode, three names").unwrap();
    fs::hard_link(folder.join("z first"), folder.join("b second")).unwrap();
    fs::hard_link(folder.join("z first"), root.join("names/third")).unwrap();
    rustix::fs::linkat(
        CWD,
        folder.join("dangling"),
        CWD,
        folder.join("hard link to a symbolic link"),
        AtFlags::empty(),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(folder.join("loop"), Some(77), Some(88)).unwrap();
    }
}

/// 40 directories with names of 200 bytes: 8,000 bytes, twice what a path may have.
fn deep(root: &Path) {
    let mut folder: OwnedFd = File::open(root).unwrap().into();
    let mut name = b"deep".to_vec();
    for _ in 0..40 {
        rustix::fs::mkdirat(&folder, &*name, Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, &*name, flags, Mode::empty()).unwrap();
        name = vec![b'd'; 200];
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder.as_fd(), "bottom", flags, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"at the bottom").unwrap();
}

/// Where the bottom of [`build`]'s deep directories is.
pub(crate) fn bottom() -> PathBuf {
    let mut path = PathBuf::from("deep");
    path.extend(std::iter::repeat_n("d".repeat(200), 39));
    path.join("bottom")
}

/// A file system mounted for a test, gone with the value.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// An empty tmpfs at `path`.
    pub(crate) fn tmpfs(path: &Path) -> Self {
        tool(&[&"mount", &"-t", &"tmpfs", &"none", &path]);
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        tool(&[&"umount", &self.0]);
    }
}

/// Panics unless two trees are the same: by rsync, which takes no paths beyond 4,096 bytes, and by our own
/// walk with everything it captures, content and holes included.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let slashed = |path: &Path| format!("{}/", path.display());
    // Without a window of -1 whole seconds are compared only.
    let options = ["-aHAXni", "--modify-window=-1", "--delete", "--checksum", "--exclude=/deep"];
    let mut argv: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"rsync"];
    argv.extend(options.iter().map(|option| option as &dyn AsRef<std::ffi::OsStr>));
    let (from, to) = (slashed(left), slashed(right));
    argv.extend([&from as &dyn AsRef<std::ffi::OsStr>, &to]);
    assert_eq!(tool(&argv), "", "rsync sees differences");
    let (left, right) = (described(left), described(right));
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
}

/// Every entry in words, with nothing that differs between a tree and its copy.
fn described(root: &Path) -> Vec<String> {
    let mut groups: Vec<u64> = Vec::new();
    let walk = Walk::new(root, root, |_| false).unwrap().map(Result::unwrap);
    let describe = |entry: Walked| {
        let mut meta = entry.meta.as_ref().unwrap().clone();
        assert!(entry.problems.is_empty(), "{entry:?}");
        let group = meta.hard_link().map(|inode| {
            groups.iter().position(|known| *known == inode).unwrap_or_else(|| {
                groups.push(inode);
                groups.len() - 1
            })
        });
        (meta.inode, meta.file_system, meta.ctime) = (0, 0, meta.mtime);
        if meta.kind == EntryKind::Directory {
            // File systems count subdirectories in their own ways.
            meta.links = 1;
        }
        let content = entry.open_content().map(|mut content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            content.finish().unwrap();
            format!("{:x?}", Sha256::digest(&bytes))
        });
        format!("{} {meta:?} group {group:?} {}", entry.path, content.unwrap_or_default())
    };
    walk.map(describe).collect()
}
