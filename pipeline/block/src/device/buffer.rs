//! Memory that `O_DIRECT` accepts: a buffer that begins on a 4 KiB border.
//!
//! Made once and used again for every read. It has a fixed capacity and a length within it; it
//! never grows, so that a pool of them is the whole of what reading a source may cost.

use std::ops::{Deref, DerefMut};

/// Border on which each buffer begins: the largest that the kernel's block layer asks for.
pub const ALIGNMENT: usize = 4096;

/// A byte buffer that begins on an [`ALIGNMENT`] border.
#[derive(Debug)]
pub struct AlignedBuf {
    /// Never resized after `new`: a reallocation would move the border.
    memory: Box<[u8]>,
    start: usize,
    capacity: usize,
    length: usize,
}

impl AlignedBuf {
    /// A zeroed buffer of `capacity` bytes, all of them in use.
    pub fn new(capacity: usize) -> Self {
        let memory = vec![0_u8; capacity + ALIGNMENT].into_boxed_slice();
        // `align_offset` may decline to answer (in const evaluation); then the border is where
        // the memory begins, and the kernel refuses the read instead of this code guessing.
        let offset = memory.as_ptr().align_offset(ALIGNMENT);
        let start = if offset < ALIGNMENT { offset } else { 0 };
        Self { memory, start, capacity, length: capacity }
    }

    /// Bytes that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Uses the first `length` bytes from now on, at most the capacity. The bytes keep whatever
    /// they held.
    pub fn set_len(&mut self, length: usize) {
        self.length = length.min(self.capacity);
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_on_its_border_and_keeps_its_capacity() {
        for capacity in [0, 1, 512, 4096, 131_072, 1_000_001] {
            let mut buffer = AlignedBuf::new(capacity);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!((buffer.len(), buffer.capacity()), (capacity, capacity));
            buffer.fill(7);
            buffer.set_len(capacity / 2);
            assert_eq!(buffer.len(), capacity / 2);
            buffer.set_len(capacity + 1);
            assert_eq!(buffer.len(), capacity);
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_moved_buffer_is_still_on_its_border() {
        let moved = Box::new(AlignedBuf::new(4096));
        assert_eq!(moved.as_ptr().align_offset(ALIGNMENT), 0);
    }
}
