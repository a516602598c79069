//! Where a sparse file has data.
//!
//! Extents may cover more than the data, never less: what lies outside is restored as a hole. A file
//! with more than [`EXTENTS_MAX`] of them keeps its largest holes; the others are stored as the zeros
//! they read as, so that a catalog line stays bounded.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::meta::Extent;
use crate::format::EXTENTS_MAX;

/// The extents of a file of `size` bytes; `None` when it has no hole or the file system tells of none.
pub(super) fn of(file: &OwnedFd, size: u64) -> io::Result<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    let mut position = 0;
    while position < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            // Nothing but a hole until the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            data => data?.max(position),
        };
        if data >= size {
            break;
        }
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            // Cut or filled since: what is not known to be a hole is data.
            Err(Errno::NXIO) => size,
            hole => hole?.min(size),
        };
        let end = if hole > data { hole } else { size };
        extents.push(Extent { offset: data, length: end - data });
        position = end;
        if extents.len() > EXTENTS_MAX * 2 {
            fill_small_holes(&mut extents, EXTENTS_MAX);
        }
    }
    fill_small_holes(&mut extents, EXTENTS_MAX);
    let whole = [Extent { offset: 0, length: size }];
    Ok((extents != whole).then_some(extents))
}

/// Joins extents across the smallest holes until at most `extents_max` are left.
fn fill_small_holes(extents: &mut Vec<Extent>, extents_max: usize) {
    if extents.len() <= extents_max {
        return;
    }
    let hole_before = |pair: &[Extent]| pair[1].offset - (pair[0].offset + pair[0].length);
    let mut holes: Vec<u64> = extents.windows(2).map(hole_before).collect();
    let (_, largest_filled, _) = holes.select_nth_unstable(extents.len() - extents_max - 1);
    let largest_filled = *largest_filled;
    extents.dedup_by(|next, previous| {
        let end = previous.offset + previous.length;
        let fill = next.offset - end <= largest_filled;
        if fill {
            previous.length = next.offset + next.length - previous.offset;
        }
        fill
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn extents(writes: &[(u64, u64)], size: u64) -> Option<Vec<(u64, u64)>> {
        let file = tempfile::tempfile().unwrap();
        for (offset, length) in writes {
            file.write_all_at(&vec![1; usize::try_from(*length).unwrap()], *offset).unwrap();
        }
        file.set_len(size).unwrap();
        let found = of(&OwnedFd::from(File::try_clone(&file).unwrap()), size).unwrap();
        found.map(|extents| extents.into_iter().map(Into::into).collect())
    }

    #[test]
    fn holes_are_found_at_both_ends_and_between() {
        const MIB: u64 = 1 << 20;
        assert_eq!(extents(&[(0, MIB)], MIB), None);
        assert_eq!(extents(&[], MIB), Some(vec![]));
        assert_eq!(extents(&[(MIB, MIB), (3 * MIB, 4096)], 8 * MIB), Some(vec![(MIB, MIB), (3 * MIB, 4096)]));
    }

    #[test]
    fn too_many_holes_keep_the_largest() {
        let mut list: Vec<Extent> = [(0, 1), (2, 1), (10, 1), (13, 1), (100, 1)].map(Extent::from).into();
        fill_small_holes(&mut list, 3);
        assert_eq!(list, [(0, 3), (10, 4), (100, 1)].map(Extent::from));
        let mut even: Vec<Extent> = (0..10).map(|n| Extent { offset: n * 2, length: 1 }).collect();
        fill_small_holes(&mut even, 4);
        assert_eq!(even, [Extent { offset: 0, length: 19 }], "equal holes go together");
    }
}
