//! What a file system stands on: its device, the disk of a partition, the members of a mapped
//! device, the file behind a loop device, and the file system that file lies on, all the way down.
//!
//! Two questions need it. Is anything mounted read-write that stands on this device or image
//! file? Would freezing this file system block a path? Both are answered from mountinfo and
//! sysfs, so a file system mounted only in another mount name space is not seen.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, StatxFlags, major, minor, statx};

use crate::mounts::{self, Device, Mount};

/// One thing that a file system stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ground {
    /// A device, by its number.
    Device(Device),
    /// A regular file: the device of its file system, and its inode.
    File(Device, u64),
}

impl Ground {
    /// The ground that a block device or image file is; `None` for anything else.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        if metadata.file_type().is_block_device() {
            Some(Self::Device((major(metadata.rdev()), minor(metadata.rdev()))))
        } else if metadata.is_file() {
            Some(Self::File((major(metadata.dev()), minor(metadata.dev())), metadata.ino()))
        } else {
            None
        }
    }
}

/// The mounts and block devices of this host, as seen at one time.
pub(crate) struct Host {
    mounts: Vec<Mount>,
    sys: PathBuf,
}

impl Host {
    /// Looks now.
    pub(crate) fn look() -> io::Result<Self> {
        Ok(Self { mounts: mounts::read()?, sys: PathBuf::from("/sys") })
    }

    /// The first mount that takes writes and stands on `ground`.
    pub(crate) fn writable_mount_on(&self, ground: Ground) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.writable && self.under_mount(mount).contains(&ground))
    }

    /// The mount that `path` lies in; of its nearest existing ancestor where it does not exist yet.
    pub(crate) fn mount_of(&self, path: &Path) -> io::Result<&Mount> {
        let id = mount_id(path)?;
        self.mounts.iter().find(|mount| mount.id == id).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Everything that `path` stands on.
    pub(crate) fn under_path(&self, path: &Path) -> io::Result<BTreeSet<Ground>> {
        Ok(self.under_mount(self.mount_of(path)?))
    }

    fn under_mount(&self, mount: &Mount) -> BTreeSet<Ground> {
        let mut found = BTreeSet::new();
        self.add_mount(mount, &mut found);
        found
    }

    fn add_mount(&self, mount: &Mount, found: &mut BTreeSet<Ground>) {
        self.add_device(mount.device, found);
        // btrfs and the like have an anonymous device number; the source names the real one.
        if let Some(ground @ Ground::Device(device)) = fs::metadata(&mount.source).ok().as_ref().and_then(Ground::of)
            && mount.device.0 == 0
            && !found.contains(&ground)
        {
            self.add_device(device, found);
        }
        if let Some(upper) = &mount.upper {
            self.add_path(upper, found);
        }
    }

    fn add_device(&self, device: Device, found: &mut BTreeSet<Ground>) {
        if !found.insert(Ground::Device(device)) {
            return;
        }
        let Ok(folder) = fs::canonicalize(self.sys.join(format!("dev/block/{}:{}", device.0, device.1))) else {
            return;
        };
        if folder.join("partition").exists()
            && let Some(disk) = folder.parent().and_then(device_number)
        {
            self.add_device(disk, found);
        }
        for member in fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten() {
            if let Some(member) = device_number(&member.path()) {
                self.add_device(member, found);
            }
        }
        if let Some(file) = backing_file(&folder) {
            self.add_path(&file, found);
        }
    }

    /// Adds the file and the mount that holds it; one that cannot be seen from here adds nothing.
    fn add_path(&self, path: &Path, found: &mut BTreeSet<Ground>) {
        if let Some(ground) = fs::metadata(path).ok().as_ref().and_then(Ground::of)
            && !found.insert(ground)
        {
            return;
        }
        if let Ok(mount) = self.mount_of(path)
            && !found.contains(&Ground::Device(mount.device))
        {
            self.add_mount(mount, found);
        }
    }
}

fn device_number(folder: &Path) -> Option<Device> {
    mounts::parse_device(fs::read(folder.join("dev")).ok()?.trim_ascii())
}

/// The file behind a loop device, or behind the disk of a partition of one.
fn backing_file(folder: &Path) -> Option<PathBuf> {
    let text = fs::read(folder.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(&text))))
}

fn mount_id(path: &Path) -> io::Result<u64> {
    for ancestor in path.ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match statx(CWD, ancestor, AtFlags::empty(), StatxFlags::MNT_ID) {
            Ok(facts) if facts.stx_mask & StatxFlags::MNT_ID.bits() != 0 => return Ok(facts.stx_mnt_id),
            Ok(_) => return Err(io::ErrorKind::Unsupported.into()),
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A host with `/sys` in a folder: `names` are devices as `(number, folder)`.
    fn host(mountinfo: &str, names: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        for (number, folder) in names {
            let folder = root.path().join("devices").join(folder);
            fs::create_dir_all(folder.join("slaves")).unwrap();
            fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
            symlink(&folder, root.path().join("dev/block").join(number)).unwrap();
        }
        let host = Host { mounts: mounts::parse(mountinfo.as_bytes()), sys: root.path().to_owned() };
        (root, host)
    }

    fn writable_on(host: &Host, device: Device) -> Option<PathBuf> {
        host.writable_mount_on(Ground::Device(device)).map(|mount| mount.point.clone())
    }

    const ROOT_AND_DATA: &str = "1 0 8:1 / / rw - ext4 none rw\n2 1 253:0 / /data rw - ext4 none rw\n";

    #[test]
    fn a_disk_is_in_use_through_its_mounted_partition() {
        let (root, host) = host(ROOT_AND_DATA, &[("8:0", "sda"), ("8:1", "sda/sda1")]);
        assert_eq!(writable_on(&host, (8, 0)), None);
        fs::write(root.path().join("devices/sda/sda1/partition"), "1\n").unwrap();
        assert_eq!(writable_on(&host, (8, 0)), Some("/".into()));
    }

    #[test]
    fn a_disk_is_in_use_through_a_mapped_device() {
        let (root, host) = host(ROOT_AND_DATA, &[("8:16", "sdb"), ("253:0", "dm-0")]);
        symlink(root.path().join("devices/sdb"), root.path().join("devices/dm-0/slaves/sdb")).unwrap();
        assert_eq!(writable_on(&host, (8, 16)), Some("/data".into()));
        assert_eq!(writable_on(&host, (253, 0)), Some("/data".into()));
        assert_eq!(writable_on(&host, (8, 32)), None);
    }

    #[test]
    fn an_image_file_is_in_use_through_its_loop_device() {
        let (root, host) = host("2 1 7:3 / /data rw - ext4 none rw\n", &[("7:3", "loop3")]);
        let image = root.path().join("an image");
        fs::write(&image, "x").unwrap();
        let ground = Ground::of(&fs::metadata(&image).unwrap()).unwrap();
        assert!(host.writable_mount_on(ground).is_none());
        fs::create_dir(root.path().join("devices/loop3/loop")).unwrap();
        fs::write(root.path().join("devices/loop3/loop/backing_file"), format!("{}\n", image.display())).unwrap();
        assert_eq!(host.writable_mount_on(ground).unwrap().point, Path::new("/data"));
    }

    #[test]
    fn a_read_only_mount_holds_still() {
        let (_root, host) = host("1 0 8:1 / / rw - ext4 none ro\n", &[]);
        assert_eq!(writable_on(&host, (8, 1)), None);
    }

    #[test]
    fn devices_that_name_each_other_end_the_search() {
        let (root, host) = host(ROOT_AND_DATA, &[("253:0", "dm-0"), ("253:1", "dm-1")]);
        symlink(root.path().join("devices/dm-0"), root.path().join("devices/dm-1/slaves/dm-0")).unwrap();
        symlink(root.path().join("devices/dm-1"), root.path().join("devices/dm-0/slaves/dm-1")).unwrap();
        assert_eq!(writable_on(&host, (253, 1)), Some("/data".into()));
    }

    #[test]
    fn a_path_that_does_not_exist_yet_lies_where_its_parent_lies() {
        let host = Host::look().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (here, there) =
            (host.mount_of(folder.path()).unwrap(), host.mount_of(&folder.path().join("a/b/c")).unwrap());
        assert_eq!(here, there);
    }

    #[test]
    fn only_block_devices_and_files_are_ground() {
        assert_eq!(Ground::of(&fs::metadata("/dev/null").unwrap()), None);
        assert_eq!(Ground::of(&fs::metadata("/").unwrap()), None);
    }
}
