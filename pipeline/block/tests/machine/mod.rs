//! Real loop devices, file systems and mounts for tests, gone again when their guards are dropped.
//!
//! What this machine cannot do is said on standard error and skipped, or is a failure where
//! `DUALSYNC_NO_SKIP=1` promises that it can.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether this machine offers root and loop devices; says "skipped" when not.
pub fn has_loop_devices() -> bool {
    if !rustix::process::geteuid().is_root() {
        return skipped("needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return skipped("needs /dev/loop-control");
    }
    true
}

/// Whether the programs that a test needs are installed; says "skipped" when not.
pub fn has_programs(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| {
        !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(name).exists())
    });
    missing.is_none_or(|name| skipped(&format!("needs {name}")))
}

/// Always false, after saying why.
pub fn skipped(reason: &str) -> bool {
    assert!(std::env::var("DUALSYNC_NO_SKIP").as_deref() != Ok("1"), "must not be skipped here: {reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Runs a program to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).args(arguments).env("PATH", path).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// The text of a path, which tests keep to UTF-8.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("tests use UTF-8 paths")
}

/// A sparse image file of `size_mib` with a file system in it.
pub fn image(folder: &Path, name: &str, size_mib: u64, make: &[&str]) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).unwrap().set_len(size_mib << 20).unwrap();
    let (program, arguments) = make.split_first().expect("a command");
    run(program, &[arguments, &[text(&path)]].concat());
    path
}

/// A loop device over an image file.
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Attaches `image`.
    pub fn attach(image: &Path) -> Self {
        Self(PathBuf::from(run("losetup", &["--find", "--show", text(image)]).trim()))
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", text(&self.0)]).status();
    }
}

/// A mounted file system, thawed and unmounted when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `device` at `at`, which is created.
    pub fn new(device: &Path, at: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-o", options, text(device), text(at)]);
        Self(at.to_owned())
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A private mount namespace that another test just made holds the file system, too: then unmounting here writes nothing.
        // Frozen once, everything is in the image, the log is empty, and nobody writes any more.
        for step in ["--freeze", "--unfreeze"] {
            let _ = Command::new("fsfreeze").arg(step).arg(&self.0).stderr(Stdio::null()).status();
        }
        // A program that another test just started may hold a descriptor until it is executed. Only a
        // real unmount has written everything to the image when it returns: a lazy one is the last resort.
        let unmounted = || Command::new("umount").arg(&self.0).stderr(Stdio::null()).status();
        let started = std::time::Instant::now();
        while !unmounted().is_ok_and(|status| status.success()) {
            if started.elapsed() > std::time::Duration::from_secs(30) {
                let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
                return;
            }
        }
    }
}
