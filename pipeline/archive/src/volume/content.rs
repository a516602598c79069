//! The data of one member, out of its tar, read by another implementation than the one that wrote it.
//!
//! What the tar says about names, owners and times is passed over: the signed catalog says it. A
//! sparse member (GNU.sparse 1.0) carries a map before its data; the map is passed over too, and the
//! data is what lies in the extents that the catalog lists, one after the other.

use std::io;
use std::ops::Range;

use futures::StreamExt as _;

use crate::volume::reader::VolumeError;

const BLOCK_BYTES: usize = 512;

/// The data of the member whose tar is `tar`, as [`crate::volume::reader::Volumes::member`] gives it.
pub fn data<'t>(key: &str, tar: &'t [u8]) -> Result<&'t [u8], VolumeError> {
    Ok(&tar[place(key, tar)?])
}

/// Where in `tar` the data lies.
pub fn place(key: &str, tar: &[u8]) -> Result<Range<usize>, VolumeError> {
    // The reader's other end is memory, so it never waits.
    futures::executor::block_on(read(tar)).map_err(|source| VolumeError::Content { key: key.to_owned(), source })
}

async fn read(tar: &[u8]) -> io::Result<Range<usize>> {
    let mut archive = tokio_tar::ArchiveBuilder::new(tar).set_pax_only(true).build();
    let mut entries = archive.entries()?;
    let mut entry = entries.next().await.ok_or_else(|| wrong("no member where the catalog says"))??;
    if !entry.header().entry_type().is_file() {
        return Err(wrong("a member that is no file"));
    }
    let sparse = match entry.pax_extensions().await? {
        Some(records) => is_sparse(records)?,
        None => false,
    };
    // Taken from where the reader says that it lies, without a copy.
    let place = || {
        let start = usize::try_from(entry.raw_file_position()).ok()?;
        let end = start.checked_add(usize::try_from(entry.effective_size()).ok()?)?;
        (end <= tar.len()).then_some(start..end)
    };
    let mut place = place().ok_or_else(|| wrong("a member that ends early"))?;
    if sparse {
        place.start += map_bytes(&tar[place.clone()]).ok_or_else(|| wrong("a sparse map that is not readable"))?;
    }
    Ok(place)
}

fn is_sparse(records: tokio_tar::PaxExtensions<'_>) -> io::Result<bool> {
    for record in records {
        if record?.key_bytes() == b"GNU.sparse.major" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Length of the map: a count, then as many pairs, each number on a line; padded to a block.
fn map_bytes(data: &[u8]) -> Option<usize> {
    let mut position = 0;
    let mut number = || -> Option<u64> {
        let length = data.get(position..)?.iter().position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&data[position..position + length]).ok()?;
        position += length + 1;
        text.parse().ok()
    };
    let pairs = number()?;
    for _ in 0..pairs.checked_mul(2)? {
        number()?;
    }
    let padded = position.next_multiple_of(BLOCK_BYTES);
    (padded <= data.len()).then_some(padded)
}

fn wrong(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, "f", content).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_data_of_a_plain_member_comes_back() {
        assert_eq!(data("v", &file(b"content")).unwrap(), b"content");
        assert_eq!(data("v", &file(b"")).unwrap(), b"");
    }

    #[test]
    fn a_cut_or_foreign_member_is_an_error() {
        let tar = file(&[7; 2000]);
        for end in [0, 100, 512, 1500] {
            assert!(data("v", &tar[..end]).is_err(), "{end}");
        }
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Directory);
        builder.append_data(&mut header, "d", io::empty()).unwrap();
        assert!(data("v", &builder.into_inner().unwrap()).is_err());
    }

    #[test]
    fn a_map_that_lies_is_an_error() {
        let check = |map: &str, wanted| {
            let mut block = map.as_bytes().to_vec();
            block.resize(1024, 0);
            assert_eq!(map_bytes(&block), wanted, "{map:?}");
        };
        check("1\n0\n4096\n", Some(512));
        check("0\n", Some(512));
        check("2\n0\n4096\n", None);
        check("18446744073709551615\n", None);
        check("x\n", None);
    }
}
