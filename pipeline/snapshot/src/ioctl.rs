//! The five system calls that have no safe wrapper: freeze, thaw, the read-only flag of a block
//! device, and ignoring a signal.
//!
//! Each function here is safe to call with any descriptor: the kernel refuses what does not fit.
#![expect(unsafe_code, reason = "ioctl(2) and signal(2) have no safe wrapper")]

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Getter, Setter, Updater, ioctl, opcode};

/// linux/fs.h: `_IOWR('X', 119, int)`.
const FIFREEZE: rustix::ioctl::Opcode = opcode::read_write::<c_int>(b'X', 119);
/// linux/fs.h: `_IOWR('X', 120, int)`.
const FITHAW: rustix::ioctl::Opcode = opcode::read_write::<c_int>(b'X', 120);
/// linux/fs.h: `_IO(0x12, 93)`, which takes a pointer to an int all the same.
const BLKROSET: rustix::ioctl::Opcode = opcode::none(0x12, 93);
/// linux/fs.h: `_IO(0x12, 94)`, which fills an int.
const BLKROGET: rustix::ioctl::Opcode = opcode::none(0x12, 94);

/// Freezes the file system that `dir` lies on; `EBUSY` when it is frozen already.
pub(crate) fn freeze(dir: impl AsFd) -> Result<()> {
    let mut unused: c_int = 0;
    // SAFETY: the kernel ignores the argument of FIFREEZE; a pointer to an int is what it declares.
    unsafe { ioctl(dir, Updater::<FIFREEZE, c_int>::new(&mut unused)) }
}

/// Thaws the file system that `dir` lies on; `EINVAL` when it is not frozen.
pub(crate) fn thaw(dir: impl AsFd) -> Result<()> {
    let mut unused: c_int = 0;
    // SAFETY: the kernel ignores the argument of FITHAW; a pointer to an int is what it declares.
    unsafe { ioctl(dir, Updater::<FITHAW, c_int>::new(&mut unused)) }
}

/// Whether the kernel refuses writes to this block device.
pub(crate) fn is_read_only(device: impl AsFd) -> Result<bool> {
    // SAFETY: BLKROGET writes one int through the pointer.
    let flag = unsafe { ioctl(device, Getter::<BLKROGET, c_int>::new()) }?;
    Ok(flag != 0)
}

/// Makes the kernel refuse writes to this block device, or allow them again.
pub(crate) fn set_read_only(device: impl AsFd, read_only: bool) -> Result<()> {
    // SAFETY: BLKROSET reads one int through the pointer.
    unsafe { ioctl(device, Setter::<BLKROSET, c_int>::new(c_int::from(read_only))) }
}

/// From now on this process passes over `signal`.
pub(crate) fn ignore_signal(signal: c_int) -> Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours can run in signal context.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(Errno::INVAL) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        assert_eq!([FIFREEZE, FITHAW, BLKROSET, BLKROGET], [0xc004_5877, 0xc004_5878, 0x125d, 0x125e]);
    }

    #[test]
    fn a_descriptor_of_another_kind_is_refused_not_misread() {
        let file = tempfile::tempfile().expect("a temporary file");
        assert!(is_read_only(&file).is_err());
        assert!(set_read_only(&file, true).is_err());
    }
}
