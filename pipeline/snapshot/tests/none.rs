//! Driver `none`: a source that can change while it is read is refused, or noticed.

mod image;
mod skip;

use std::fs;

use dualsync_model::time::Timestamp;
use dualsync_snapshot::{Driver, Invalid, SnapshotError, Spec, take};
use image::{Image, ends_within};

fn spec(image: &Image, idle: bool) -> Spec {
    Spec {
        source: "web".parse().expect("a name"),
        device: image.file(),
        tree: image.tree(),
        driver: Driver::None { idle },
    }
}

#[test]
fn an_image_file_that_is_mounted_read_write_is_refused_unless_it_is_idle() {
    let Some(image) = Image::mounted() else { return };
    let refusal = take(&spec(&image, false), Timestamp::default()).err().expect("it can change");
    let SnapshotError::MountedReadWrite { device, mount } = &refusal else { panic!("{refusal}") };
    assert_eq!((device, mount), (&image.file(), &image.tree()));
    let mut taken = take(&spec(&image, true), Timestamp::default()).expect("the user says so");
    assert!(!taken.moment().frozen);
    taken.still_valid().expect("the user's word is taken");
    taken.release().expect("there is nothing to release");
}

#[test]
fn a_copy_of_a_mounted_image_is_not_the_mounted_image() {
    let Some(image) = Image::mounted() else { return };
    let mut spec = spec(&image, false);
    spec.device = image.beside().join("copy.img");
    fs::copy(image.file(), &spec.device).expect("a copy");
    take(&spec, Timestamp::default()).expect("nothing writes to the copy").still_valid().expect("nothing has");
}

#[test]
fn a_loop_device_that_is_mounted_read_write_is_refused() {
    let Some(image) = Image::mounted() else { return };
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
    let tree = image.tree();
    let line = mounts.lines().find(|line| line.contains(&format!(" {} ", tree.display()))).expect("it is mounted");
    let device = line.split(' ').nth_back(1).expect("the mounted device");
    let mut spec = spec(&image, false);
    spec.device = device.into();
    assert!(matches!(take(&spec, Timestamp::default()), Err(SnapshotError::MountedReadWrite { .. })));
    image.remount("ro");
    let taken = take(&spec, Timestamp::default()).expect("nothing can write");
    assert!(taken.moment().is_device);
}

#[test]
fn a_read_only_mount_is_accepted_and_a_remount_is_noticed() {
    let Some(image) = Image::mounted() else { return };
    image.remount("ro");
    let mut taken = take(&spec(&image, false), Timestamp::default()).expect("nothing can write");
    taken.still_valid().expect("nothing has");
    image.remount("rw");
    assert!(matches!(taken.still_valid(), Err(Invalid::MountedReadWrite { .. })));
    let mut write = image.start_write();
    assert!(ends_within(&write, std::time::Duration::from_secs(50)));
    assert!(write.wait().expect("it ended").success());
    image.remount("ro");
    assert!(matches!(taken.still_valid(), Err(Invalid::Changed { .. })), "the write reached the image file");
}

#[test]
fn an_image_file_beside_an_unpacked_folder_needs_no_mount() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (device, tree) = (folder.path().join("disk.img"), folder.path().join("tree"));
    fs::write(&device, "x").expect("an image");
    fs::create_dir(&tree).expect("a folder");
    let source = "web".parse().expect("a name");
    let now = Timestamp::from_seconds(7);
    let mut taken =
        take(&Spec { source, device, tree, driver: Driver::None { idle: false } }, now).expect("it is still");
    let moment = taken.moment().clone();
    assert_eq!((moment.method.as_str(), moment.frozen, moment.is_device), ("none", false, false));
    fs::write(&moment.device, "longer").expect("a write");
    assert!(matches!(taken.still_valid(), Err(Invalid::Changed { .. })));
}
