//! Loop devices: a file of the view as a block device that vanishes with its last user.
#![expect(unsafe_code, reason = "the ioctls of loop devices (linux/loop.h) have no safe wrapper")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};

const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

const LO_FLAGS_READ_ONLY: u32 = 1;
/// Detached by the kernel when the last descriptor and mount is gone.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Past the page cache of the view: the kernel would keep each block twice, and its buffered way
/// turned reads that failed half-way into zeros before Linux 6.15.
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// Tries before giving up: others take free devices too.
const TRIES: u32 = 32;

/// `struct loop_config` of linux/loop.h, with its `struct loop_info64` spelt out.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304, "struct loop_config of linux/loop.h");

/// `LOOP_CTL_GET_FREE`: no argument, the number is the return value.
struct GetFree;

// SAFETY: the opcode is linux/loop.h's, takes no pointer, and returns a device number.
unsafe impl Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// An attached device; once it is mounted this may be dropped.
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Attaches `image` to a free loop device.
    pub(super) fn attach(image: BorrowedFd, read_only: bool) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            // SAFETY: see `GetFree`.
            let number = unsafe { ioctl(&control, GetFree) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = OpenOptions::new().read(true).write(!read_only).open(&path)?;
            match configure(open.as_fd(), image, read_only) {
                Ok(()) => return Ok(Self { path, _open: open }),
                // Taken between asking and attaching.
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// The device node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: BorrowedFd, image: BorrowedFd, read_only: bool) -> Result<(), Errno> {
    let fd = u32::try_from(image.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let read_only = if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let mut file_name = [0; 64];
    file_name[..8].copy_from_slice(b"dualsync");
    let config = LoopConfig {
        fd,
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | read_only,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout `LoopConfig` has.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}
