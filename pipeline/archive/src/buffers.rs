//! Buffers that are used again instead of given back.
//!
//! A big buffer is a mapping of its own ([`crate::heap`]): each new one costs a page fault for every 4 KiB of it, a fifth
//! of the CPU time of a backup and a quarter of a restore's. A few of each size are kept, which bounds what is kept.

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::{FRAME_BYTES_ALONE, FRAME_BYTES_TARGET, PART_BYTES_MAX, VOLUME_BYTES_TARGET};

/// What a frame grows by when it does not shrink, and what stands around its data.
const AROUND_BYTES: usize = 64 << 10;

/// Bytes of a buffer, and how many of them are kept: for frames of small members, for parts, for volumes.
const SIZES: [(usize, usize); 3] = [
    (FRAME_BYTES_TARGET + FRAME_BYTES_ALONE + AROUND_BYTES, 8),
    (PART_BYTES_MAX + AROUND_BYTES, 4),
    (VOLUME_BYTES_TARGET + (1 << 20), 3),
];

/// Where buffers come from and go back to; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<[Vec<Vec<u8>>; SIZES.len()]>>);

impl Buffers {
    /// An empty buffer with room for `bytes`; it grows when more is written.
    pub fn take(&self, bytes: usize) -> Buffer {
        let home = self.clone();
        let Some(size) = SIZES.iter().position(|(size, _)| bytes <= *size) else {
            return Buffer { bytes: Vec::with_capacity(bytes), home };
        };
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner)[size].pop();
        Buffer { bytes: kept.unwrap_or_else(|| Vec::with_capacity(SIZES[size].0)), home }
    }

    fn keep(&self, mut bytes: Vec<u8>) {
        let Some(size) = SIZES.iter().position(|(size, _)| bytes.capacity() == *size) else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept[size].len() < SIZES[size].1 {
            bytes.clear();
            kept[size].push(bytes);
        }
    }
}

/// A buffer; what it holds is gone when it is dropped, its memory may be used again.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_one_that_grew_does_not() {
        let buffers = Buffers::default();
        let kept = || buffers.0.lock().unwrap().iter().map(Vec::len).sum::<usize>();
        for (size, _) in SIZES {
            let before = kept();
            let mut one = buffers.take(size);
            one.extend_from_slice(b"secret");
            let place = one.as_ptr();
            drop(one);
            assert_eq!(kept(), before + 1);
            let mut again = buffers.take(size);
            assert!(again.as_ptr() == place && again.is_empty(), "the same memory, without what it held");
            again.resize(size + 1, 0);
            drop(again);
            assert_eq!(kept(), before, "it grew");
        }
    }

    #[test]
    fn only_a_few_of_each_size_are_kept() {
        let buffers = Buffers::default();
        for (size, most) in SIZES {
            drop((0..2 * most).map(|_| buffers.take(size)).collect::<Vec<_>>());
        }
        drop(buffers.take(SIZES[2].0 + 1));
        assert_eq!(buffers.0.lock().unwrap().each_ref().map(Vec::len), SIZES.map(|(_, most)| most));
    }
}
