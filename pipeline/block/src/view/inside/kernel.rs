//! Mounts by the kernel that are attached nowhere: no path leads to them, and they end with their
//! last descriptor (fsopen(2), fsmount(2)).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::attach::LoopDevice;
use super::mount::{FileSystem, MountError};
use crate::view::IMAGE_NAME;

/// Mounts the image in the view; returns its root folder.
pub(super) fn mount(view: BorrowedFd, file_system: &FileSystem) -> Result<OwnedFd, MountError> {
    if let FileSystem::Btrfs { id } = file_system {
        refuse_live_twin(id)?;
    }
    // A dirty file system writes while it recovers; the view keeps that to itself.
    let read_only = !file_system.needs_replay();
    let flags = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let image = openat(view, IMAGE_NAME, flags | OFlags::CLOEXEC, Mode::empty()).map_err(MountError::image)?;
    let device = LoopDevice::attach(image.as_fd(), read_only).map_err(|source| MountError::Loop { source })?;
    let root = match mount_device(device.path(), file_system, true) {
        // Kernels before 5.9 do not know the option that spares reading every bitmap.
        Err(Refused { errno: Errno::INVAL, .. }) => mount_device(device.path(), file_system, false),
        other => other,
    };
    let root = root.map_err(|Refused { errno, log }| MountError::Kernel {
        file_system: file_system.name(),
        log,
        source: errno.into(),
    })?;
    if matches!(file_system, FileSystem::Btrfs { .. }) {
        expect_own_device(device.path())?;
    }
    Ok(root)
}

struct Refused {
    errno: Errno,
    log: String,
}

fn mount_device(device: &Path, file_system: &FileSystem, sparing: bool) -> Result<OwnedFd, Refused> {
    let context = fsopen(file_system.name(), FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Refused { errno, log: String::new() })?;
    configure(&context, device, file_system, sparing).map_err(|errno| Refused { errno, log: messages(context.as_fd()) })
}

fn configure(context: &OwnedFd, device: &Path, file_system: &FileSystem, sparing: bool) -> Result<OwnedFd, Errno> {
    fsconfig_set_string(context, "source", device)?;
    fsconfig_set_flag(context, "ro")?;
    match file_system {
        FileSystem::Ext { needs_replay } => {
            // The superblock of a stranger may ask for a panic.
            fsconfig_set_string(context, "errors", "continue")?;
            if !needs_replay {
                fsconfig_set_flag(context, "noload")?;
            }
            if sparing {
                fsconfig_set_flag(context, "no_prefetch_block_bitmaps")?;
            }
        }
        FileSystem::Xfs => fsconfig_set_flag(context, "nouuid")?,
        FileSystem::Btrfs { .. } => {}
    }
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What the kernel says about a mount that it refused.
fn messages(context: BorrowedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = rustix::io::read(context, &mut buffer) {
        if count == 0 || lines.len() >= 16 {
            break;
        }
        lines.push(String::from_utf8_lossy(&buffer[..count]).trim().to_owned());
    }
    lines.join("; ")
}

fn btrfs_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/fs/btrfs").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// btrfs tells file systems apart by their id alone. A kernel that cannot give a copy another id
/// for the time of a mount (`temp_fsid`, Linux 6.7) would mix it up with the original.
fn refuse_live_twin(id: &str) -> Result<(), MountError> {
    let twin = btrfs_folders().iter().any(|folder| folder.ends_with(id));
    if twin && !Path::new("/sys/fs/btrfs/features/temp_fsid").exists() {
        return Err(MountError::LiveTwin { id: id.to_owned() });
    }
    Ok(())
}

/// That what was mounted is the loop device, and not a live file system with the same id.
fn expect_own_device(device: &Path) -> Result<(), MountError> {
    let name = device.file_name().unwrap_or_default();
    if btrfs_folders().iter().any(|folder| folder.join("devices").join(name).exists()) {
        return Ok(());
    }
    Err(MountError::LiveTwin { id: device.display().to_string() })
}

/// Opens a folder that may be looked at and not walked through symbolic links.
pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path)?;
    Ok(file.into())
}
