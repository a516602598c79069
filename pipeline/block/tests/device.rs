//! A real block device under a real, mounted file system: reads must show the medium.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "machine/frozen.rs"]
mod frozen;
mod machine;

use std::os::unix::fs::FileExt;
use std::path::Path;

use dualsync_block::device::{ALIGNMENT, AlignedBuf, DeviceError, Source};

use self::frozen::Frozen;
use self::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image, text};

/// Where on the device the first block of `file` lies.
fn first_block_offset(file: &Path) -> u64 {
    let listing = machine::run("filefrag", &["-b4096", "-e", text(file)]);
    let line = listing.lines().find(|line| line.trim_start().starts_with("0:")).expect("an extent");
    let physical = line.split(':').nth(2).and_then(|part| part.split("..").next()).expect("a physical offset");
    physical.trim().parse::<u64>().expect("a number") * 4096
}

fn overwrite(file: &Path, byte: u8) {
    let file = std::fs::File::options().write(true).create(true).truncate(false).open(file).unwrap();
    file.write_all_at(&vec![byte; 64 * 1024], 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn an_overwrite_in_place_between_two_reads_of_a_mounted_frozen_device_is_seen() {
    if !has_loop_devices() || !has_programs(&["filefrag", "fsfreeze"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let device =
        LoopDevice::attach(&image(folder.path(), "disk", 64, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"]));
    let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
    let file = mounted.path().join("data");
    overwrite(&file, b'a');
    let offset = first_block_offset(&file);
    let mut buffer = AlignedBuf::new(64 * 1024);
    for (night, byte) in [b'a', b'b', b'c'].into_iter().enumerate() {
        overwrite(&file, byte);
        let _frozen = Frozen::new(&mounted);
        assert_eq!(first_block_offset(&file), offset, "night {night}: the overwrite was not in place");
        let source = Source::open(device.path(), true).unwrap();
        source.read_at(offset, &mut buffer).unwrap();
        assert!(buffer.iter().all(|seen| *seen == byte), "night {night}: stale bytes");
        source.check_size().unwrap();
    }
}

#[test]
fn a_device_is_read_to_its_last_sector_and_no_further() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd");
    let size_bytes = (1 << 20) + 512;
    let bytes: Vec<u8> = (0..size_bytes).map(|n: u32| (n / 512 % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let device = LoopDevice::attach(&path);
    let source = Source::open(device.path(), true).unwrap();
    assert_eq!(source.size_bytes(), u64::from(size_bytes));
    let mut buffer = AlignedBuf::new(ALIGNMENT);
    buffer.set_len(512);
    source.read_at(1 << 20, &mut buffer).unwrap();
    assert_eq!(&buffer[..], &bytes[1 << 20..]);
    assert_eq!(source.next_data(4096).unwrap(), Some(4096..u64::from(size_bytes)));
    buffer.set_len(1024);
    assert!(matches!(source.read_at(1 << 20, &mut buffer), Err(DeviceError::Range { .. })));
    buffer.set_len(512);
    assert!(matches!(source.read_at(100, &mut buffer), Err(DeviceError::Range { .. })), "off the sectors");
}

#[test]
fn a_device_whose_backing_vanishes_gives_an_error_with_the_offset() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![3; 4 << 20]).unwrap();
    let device = LoopDevice::attach(&path);
    let source = Source::open(device.path(), true).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let mut buffer = AlignedBuf::new(128 * 1024);
    source.read_at(0, &mut buffer).unwrap();
    match source.read_at(2 << 20, &mut buffer) {
        Err(DeviceError::Read { offset, .. } | DeviceError::Short { offset, .. }) => assert_eq!(offset, 2 << 20),
        Ok(()) => assert!(buffer.iter().all(|byte| *byte == 0), "a loop device over a shorter file reads zeros"),
        Err(other) => panic!("{other}"),
    }
}
