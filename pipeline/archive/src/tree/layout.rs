//! Lays stored data over the extents of a file and hashes the whole file, holes as zeros.
//!
//! What is stored of a sparse file is its data without the holes; what is compared and promised is the
//! digest of all that a reader of the file sees. This is the one place where the two meet.

use sha2::{Digest as _, Sha256};

use super::meta::{Extent, Meta};
use crate::digest::Digest;

/// Zeros, hashed for holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file whose data comes in, piece by piece.
#[derive(Debug)]
pub struct Layout {
    size: u64,
    rest: std::vec::IntoIter<Extent>,
    current: Extent,
    hashed: u64,
    hash: Sha256,
}

/// The data and the extents do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Data after the last extent is full.
    #[error("more data is stored than the file has room for")]
    TooMuch,
    /// An extent is not full at the end.
    #[error("less data is stored than the file has")]
    TooLittle,
}

impl Layout {
    /// Begins the file that `meta` describes.
    pub fn new(meta: &Meta) -> Self {
        let rest = meta.data().into_iter();
        Self { size: meta.size, rest, current: Extent { offset: 0, length: 0 }, hashed: 0, hash: Sha256::new() }
    }

    /// Takes the next data and gives back the first stretch of it with its offset in the file; the caller
    /// comes again with the rest. `None` when there is nothing left of `data`.
    pub fn place<'d>(&mut self, data: &mut &'d [u8]) -> Result<Option<(u64, &'d [u8])>, LayoutError> {
        if data.is_empty() {
            return Ok(None);
        }
        while self.current.length == 0 {
            self.current = self.rest.next().ok_or(LayoutError::TooMuch)?;
        }
        let length = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(data.len());
        let (stretch, rest) = data.split_at(length);
        *data = rest;
        let offset = self.current.offset;
        self.hash_hole(offset);
        self.hash.update(stretch);
        self.hashed = offset + length as u64;
        self.current = Extent { offset: self.hashed, length: self.current.length - length as u64 };
        Ok(Some((offset, stretch)))
    }

    /// The digest of the whole file.
    pub fn finish(mut self) -> Result<Digest, LayoutError> {
        if self.current.length > 0 || self.rest.len() > 0 {
            return Err(LayoutError::TooLittle);
        }
        self.hash_hole(self.size);
        Ok(Digest::finish(self.hash))
    }

    fn hash_hole(&mut self, end: u64) {
        while self.hashed < end {
            let length = (end - self.hashed).min(ZEROS.len() as u64);
            self.hash.update(&ZEROS[..usize::try_from(length).unwrap_or(ZEROS.len())]);
            self.hashed += length;
        }
    }
}

/// The digest of a file all of whose data is at hand.
pub fn digest(meta: &Meta, mut data: &[u8]) -> Result<Digest, LayoutError> {
    let mut layout = Layout::new(meta);
    while layout.place(&mut data)?.is_some() {}
    layout.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry::tests::entry;

    fn meta(size: u64, extents: Option<&[(u64, u64)]>) -> Meta {
        let extents = extents.map(|extents| extents.iter().copied().map(Extent::from).collect());
        Meta { size, extents, ..entry("f").meta }
    }

    #[test]
    fn the_digest_is_that_of_the_whole_file() {
        let check = |meta: &Meta, data: &[u8], whole: &[u8]| {
            assert_eq!(digest(meta, data), Ok(Digest::of(whole)), "{meta:?}");
        };
        check(&meta(0, None), b"", b"");
        check(&meta(3, None), b"abc", b"abc");
        check(&meta(5, Some(&[])), b"", &[0; 5]);
        check(&meta(8, Some(&[(2, 2), (5, 1)])), b"abc", b"\0\0ab\0c\0\0");
        let big = vec![0; 200_000];
        check(&meta(200_001, Some(&[(200_000, 1)])), b"x", &[&big[..], b"x"].concat());
    }

    #[test]
    fn pieces_are_placed_wherever_they_are_cut() {
        let meta = meta(8, Some(&[(2, 2), (5, 1)]));
        for cut in 0..=3 {
            let (mut layout, mut file) = (Layout::new(&meta), [0; 8]);
            for mut piece in [&b"abc"[..cut], &b"abc"[cut..]] {
                while let Some((offset, stretch)) = layout.place(&mut piece).unwrap() {
                    let offset = usize::try_from(offset).unwrap();
                    file[offset..offset + stretch.len()].copy_from_slice(stretch);
                }
            }
            assert_eq!((&file, layout.finish()), (b"\0\0ab\0c\0\0", Ok(Digest::of(b"\0\0ab\0c\0\0"))));
        }
    }

    #[test]
    fn data_that_does_not_fit_is_refused() {
        assert_eq!(digest(&meta(3, None), b"abcd"), Err(LayoutError::TooMuch));
        assert_eq!(digest(&meta(3, None), b"ab"), Err(LayoutError::TooLittle));
        assert_eq!(digest(&meta(3, Some(&[])), b"a"), Err(LayoutError::TooMuch));
    }
}
