//! What is mounted in this mount name space, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Major and minor number.
pub(crate) type Device = (u32, u32);

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number that statx(2) gives as `stx_mnt_id`.
    pub(crate) id: u64,
    /// The file system's device; major 0 where it has none of its own (overlay, btrfs).
    pub(crate) device: Device,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Whether the file system takes writes through any mount: a read-only bind mount of a
    /// writable one does not make it stand still.
    pub(crate) writable: bool,
    /// What was mounted, for most types a device node.
    pub(crate) source: PathBuf,
    /// Where an overlay keeps its changes.
    pub(crate) upper: Option<PathBuf>,
}

/// Every mount this process can see.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The mounts of a mountinfo text; a line that does not read as one is passed over.
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let super_options = fields.get(separator + 3)?;
    let options = || super_options.split(|byte| *byte == b',');
    Some(Mount {
        id: number(fields.first()?)?,
        device: parse_device(fields.get(2)?)?,
        point: path(fields.get(4)?),
        writable: options().any(|option| option == b"rw"),
        source: path(fields.get(separator + 2)?),
        upper: options().find_map(|option| option.strip_prefix(b"upperdir=")).map(path),
    })
}

/// Reads `MAJOR:MINOR`.
pub(crate) fn parse_device(text: &[u8]) -> Option<Device> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((number(&text[..colon])?, number(&text[colon + 1..])?))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` escapes of space, tab, newline and backslash.
fn path(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    Path::new(OsStr::from_bytes(&bytes)).to_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_optional_fields_and_escapes() {
        let text =
            b"36 35 98:0 /root /mnt/a\\040b\\134c rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=continue\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].id, mounts[0].device, mounts[0].writable), (36, (98, 0), true));
        assert_eq!(mounts[0].point, Path::new("/mnt/a b\\c"));
        assert_eq!(mounts[0].source, Path::new("/dev/sda1"));
    }

    #[test]
    fn a_read_only_bind_of_a_writable_file_system_still_counts_as_writable() {
        assert!(parse(b"1 2 8:1 / /ro ro - ext4 /dev/sda1 rw")[0].writable);
        assert!(!parse(b"1 2 8:1 / /ro rw - ext4 /dev/sda1 ro,norw")[0].writable);
    }

    #[test]
    fn the_upper_layer_of_an_overlay_is_seen() {
        let mounts = parse(b"1 2 0:30 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/var/up,workdir=/w");
        assert_eq!(mounts[0].upper.as_deref(), Some(Path::new("/var/up")));
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for line in ["", "1 2", "1 2 8:x / / rw - ext4 a rw", "1 2 8:1 / / rw ext4 a rw", "1 2 8:1 / / rw - ext4 a"] {
            assert_eq!(parse(line.as_bytes()), [], "{line}");
        }
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
