//! Recognises what file system a source begins with, by its magic number. For people and for
//! whoever mounts the image; nothing in a backup depends on it.

use crate::device::{ALIGNMENT, AlignedBuf, Source};

/// Where a magic number stands, and what it means.
const MAGICS: [(u64, &[u8], &str); 4] =
    [(0x438, &[0x53, 0xef], "ext4"), (0, b"XFSB", "xfs"), (0x1_0040, b"_BHRfS_M", "btrfs"), (3, b"NTFS    ", "ntfs")];

/// The file system's name; `None` when it is not known or cannot be read.
pub fn recognise(source: &Source) -> Option<String> {
    let mut buffer = AlignedBuf::new(ALIGNMENT);
    MAGICS
        .iter()
        .find(|(offset, magic, _)| holds(source, &mut buffer, *offset, magic))
        .map(|(_, _, name)| (*name).to_owned())
}

fn holds(source: &Source, buffer: &mut AlignedBuf, offset: u64, magic: &[u8]) -> bool {
    let start = offset - offset % ALIGNMENT as u64;
    let within = usize::try_from(offset - start).unwrap_or(0);
    source.size_bytes() >= start + ALIGNMENT as u64
        && source.read_at(start, buffer).is_ok()
        && buffer.get(within..within + magic.len()) == Some(magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn magics_are_found_where_they_stand() {
        for (offset, magic, name) in MAGICS {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let mut bytes = vec![0; 1 << 20];
            let at = usize::try_from(offset).unwrap();
            bytes[at..at + magic.len()].copy_from_slice(magic);
            file.write_all(&bytes).unwrap();
            let source = Source::open(file.path(), false).unwrap();
            assert_eq!(recognise(&source).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_short_or_strange_source_is_nothing() {
        for bytes in [0, 100, 5000] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&vec![1; bytes]).unwrap();
            assert_eq!(recognise(&Source::open(file.path(), false).unwrap()), None);
        }
    }
}
