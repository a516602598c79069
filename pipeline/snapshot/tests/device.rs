//! Driver `command` with a block device: read-only while it is held, as it was afterwards.

mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dualsync_model::time::Timestamp;
use dualsync_snapshot::{CommandSpec, Driver, Spec, Taken, take};
use skip::skip;

/// A loop device; dropped, it is detached.
struct Loop {
    device: PathBuf,
    folder: tempfile::TempDir,
}

impl Loop {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return skip("a loop device needs root");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("disk.img");
        std::fs::File::create(&file).expect("a file").set_len(1 << 20).expect("room for a sparse file");
        match says("losetup", &["--find", "--show", &file.to_string_lossy()]) {
            Some(device) => Some(Self { device: device.into(), folder }),
            None => skip("loop devices do not work here"),
        }
    }

    /// The source is the image file, or this device itself; the snapshot is this device.
    fn take(&self, source: &Path) -> Taken {
        let tree = self.folder.path().display();
        let spec = Spec {
            source: "web".parse().expect("a name"),
            device: source.to_owned(),
            tree: self.folder.path().to_owned(),
            driver: Driver::Command(CommandSpec {
                take: format!("printf 'device=%s\\ntree=%s\\n' {} {tree}", self.device.display()),
                release: "true".to_owned(),
                check: None,
                limit: Duration::from_secs(30),
                journal: self.folder.path().join("journal"),
            }),
        };
        take(&spec, Timestamp::default()).expect("the commands work")
    }

    fn is_read_only(&self) -> bool {
        says("blockdev", &["--getro", &self.device.to_string_lossy()]).expect("blockdev works") == "1"
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The flag would outlive the detach and meet whoever gets this loop device next.
        says("blockdev", &["--setrw", &self.device.to_string_lossy()]);
        says("losetup", &["--detach", &self.device.to_string_lossy()]);
    }
}

/// What a program printed, if it succeeded.
fn says(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn a_snapshot_device_is_read_only_until_the_release() {
    let Some(loop_device) = Loop::new() else { return };
    let image = loop_device.folder.path().join("disk.img");
    for release in [true, false] {
        let mut taken = loop_device.take(&image);
        assert!(taken.moment().is_device && loop_device.is_read_only());
        taken.still_valid().expect("nothing happened");
        if release {
            taken.release().expect("true succeeds");
        } else {
            drop(taken);
        }
        assert!(!loop_device.is_read_only());
    }
}

#[test]
fn a_device_that_was_read_only_before_stays_so() {
    let Some(loop_device) = Loop::new() else { return };
    says("blockdev", &["--setro", &loop_device.device.to_string_lossy()]).expect("blockdev works");
    let image = loop_device.folder.path().join("disk.img");
    loop_device.take(&image).release().expect("true succeeds");
    assert!(loop_device.is_read_only());
}

#[test]
fn the_source_itself_is_never_made_read_only() {
    let Some(loop_device) = Loop::new() else { return };
    let taken = loop_device.take(&loop_device.device.clone());
    assert!(!loop_device.is_read_only());
    taken.release().expect("true succeeds");
}
