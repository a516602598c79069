//! The one request to a block device that no safe wrapper offers.
#![expect(unsafe_code, reason = "BLKFLSBUF has no safe wrapper; it takes no argument and touches no memory of ours")]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, ioctl, opcode};

/// `BLKFLSBUF` of linux/fs.h: write back and drop the device's page cache.
const BLKFLSBUF: Opcode = opcode::none(0x12, 97);

/// Writes back and drops what the page cache holds of the device. Needs `CAP_SYS_ADMIN`.
pub(super) fn flush_buffers(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the opcode is linux/fs.h's _IO(0x12, 97), which has no argument.
    unsafe { ioctl(device, NoArg::<BLKFLSBUF>::new()) }
}
