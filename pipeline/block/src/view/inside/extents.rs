//! Where on the device the bytes of a file lie (FIEMAP, Documentation/filesystems/fiemap.rst).
#![expect(unsafe_code, reason = "FS_IOC_FIEMAP has no safe wrapper")]

use std::os::fd::AsFd;

use rustix::ioctl::{Direction, Opcode, Updater, ioctl, opcode};

/// Size of `struct fiemap` without its extents, which is what the number of the ioctl encodes.
const HEADER_BYTES: usize = 32;
const FS_IOC_FIEMAP: Opcode = opcode::from_components(Direction::ReadWrite, b'f', 11, HEADER_BYTES);

/// The place is not known, is not on the device yet, or is not that of the bytes themselves.
const NO_PLACE: u32 = 0x0002 | 0x0004 | 0x0008;

/// `struct fiemap` with room for one `struct fiemap_extent`.
#[repr(C)]
#[derive(Default)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    logical: u64,
    physical: u64,
    extent_length: u64,
    reserved64: [u64; 2],
    extent_flags: u32,
    reserved32: [u32; 3],
}

const _: () = assert!(size_of::<Fiemap>() == HEADER_BYTES + 56, "one struct fiemap_extent");

/// Where on the device the byte at `offset` lies, or the next one that lies anywhere. `None` for
/// files without data and file systems that do not tell.
pub(super) fn physical_at(file: impl AsFd, offset: u64) -> Option<u64> {
    let mut map = Fiemap { start: offset, length: u64::MAX - offset, extent_count: 1, ..Fiemap::default() };
    // SAFETY: FS_IOC_FIEMAP takes a `struct fiemap` that is followed by `extent_count` extents,
    // and writes no more of them than that.
    unsafe { ioctl(file, Updater::<FS_IOC_FIEMAP, Fiemap>::new(&mut map)) }.ok()?;
    if map.mapped_extents == 0 || map.extent_flags & NO_PLACE != 0 {
        return None;
    }
    map.physical.checked_add(offset.saturating_sub(map.logical))
}
