//! Real file systems in image files, mounted through loop devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::Ran;

/// Runs a command that must succeed and gives its output, trimmed.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn sh(program: &str, arguments: &[&str]) -> String {
    Ran::of(Command::new(program).args(arguments)).exits(0).stdout.trim().to_owned()
}

/// A mounted file system on a loop device; unmounted and detached when dropped.
pub struct Mounted {
    /// The image file.
    pub image: PathBuf,
    /// The loop device.
    pub device: PathBuf,
    /// Where it is mounted.
    pub tree: PathBuf,
}

impl Mounted {
    /// Makes a file system of `megabytes` with `mkfs.KIND ARGUMENTS` in `directory` and mounts it.
    ///
    /// # Panics
    /// When a tool fails.
    pub fn make(directory: &Path, name: &str, kind: &str, megabytes: u64, arguments: &[&str]) -> Self {
        let image = directory.join(format!("{name}.img"));
        let file = fs::File::create(&image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let mkfs = format!("mkfs.{kind}");
        sh(&mkfs, &[&["-q"], arguments, &[text(&image)]].concat());
        Self::mount(&image, &directory.join(name), &[])
    }

    /// Mounts an image that exists, with mount options.
    ///
    /// # Panics
    /// When a tool fails.
    pub fn mount(image: &Path, tree: &Path, options: &[&str]) -> Self {
        fs::create_dir_all(tree).unwrap();
        let device = PathBuf::from(sh("losetup", &["--find", "--show", text(image)]));
        sh("mount", &[options, &[text(&device), text(tree)]].concat());
        Self { image: image.to_owned(), device, tree: tree.to_owned() }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A failing test may leave it frozen: thaw first, or the unmount waits for ever. And a private mount namespace of
        // another test may hold it, too: then unmounting writes nothing, and freezing it once does.
        for step in ["--freeze", "--unfreeze"] {
            let _ = Command::new("fsfreeze").arg(step).arg(&self.tree).stderr(std::process::Stdio::null()).status();
        }
        let _ = Command::new("umount").arg(&self.tree).status();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// `fsck -fn` of an ext file system in an image must find nothing.
///
/// # Panics
/// When it finds something.
#[track_caller]
pub fn fsck_is_clean(image: &Path) {
    sh("e2fsck", &["-fn", text(image)]);
}

/// An image is a clean ext file system with the files of `tree`, which `debugfs` writes into the new folder `inside`.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn image_has_the_tree(image: &Path, tree: &Path, inside: &Path) {
    fsck_is_clean(image);
    fs::create_dir(inside).unwrap();
    sh("debugfs", &["-R", &format!("rdump / {}", text(inside)), text(image)]);
    sh("diff", &["-r", "--no-dereference", "-x", "lost+found", text(tree), text(inside)]);
}

/// Two trees are equal for a tool that is not ours.
///
/// # Panics
/// When rsync would change anything.
#[track_caller]
pub fn rsync_finds_no_difference(from: &Path, to: &Path, exclude: &[&str]) {
    let (from, to) = (format!("{}/", from.display()), format!("{}/", to.display()));
    let mut command = Command::new("rsync");
    // Without a window of -1 whole seconds are compared only.
    command.args(["-aHAXni", "--modify-window=-1", "--devices", "--specials", "--delete", "--checksum"]);
    command.args(exclude.iter().map(|pattern| format!("--exclude={pattern}")));
    let found = Ran::of(command.args([from, to])).exits(0).stdout;
    assert!(found.is_empty(), "rsync would change:\n{found}");
}

/// A path as text; the test's own folders are ASCII.
///
/// # Panics
/// When it is not.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own paths are UTF-8")
}
