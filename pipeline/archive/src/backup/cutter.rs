//! Cuts big files at borders that their content chooses, in memory that is used again for each.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use crate::format::{PART_BYTES_AVERAGE, PART_BYTES_MAX, PART_BYTES_MIN};

/// Twice what a border may need to see: what is left of the buffer is moved to its beginning once for several parts.
const BUFFER_BYTES: usize = 2 * PART_BYTES_MAX;

/// Cuts one file after the other.
#[derive(Default)]
pub struct Cutter {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
}

impl Cutter {
    /// Forgets the file before.
    pub fn begin(&mut self) {
        self.buffer.resize(BUFFER_BYTES, 0);
        (self.start, self.end, self.at_end) = (0, 0, false);
    }

    /// The next part of `source`, which is the file that was begun; `None` at its end.
    pub fn next(&mut self, source: &mut impl Read) -> io::Result<Option<&[u8]>> {
        if !self.at_end && self.end - self.start < PART_BYTES_MAX {
            self.fill(source)?;
        }
        let held = (self.end - self.start).min(PART_BYTES_MAX);
        if held == 0 {
            return Ok(None);
        }
        let (begin, held) = (self.start, &self.buffer[self.start..self.start + held]);
        let (_, length) = FastCDC::new(held, PART_BYTES_MIN, PART_BYTES_AVERAGE, PART_BYTES_MAX).cut(0, held.len());
        self.start += length;
        Ok(Some(&self.buffer[begin..begin + length]))
    }

    fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::StreamCDC;

    use super::*;
    use crate::digest::Digest;

    /// The bytes of a xorshift generator: the same on every machine.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(length)
        .collect()
    }

    /// What is read comes in pieces of at most `most` bytes.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    fn parts(cutter: &mut Cutter, data: &[u8], most: usize) -> Vec<Vec<u8>> {
        let mut source = Slow(data, most);
        let mut parts = Vec::new();
        cutter.begin();
        while let Some(part) = cutter.next(&mut source).unwrap() {
            parts.push(part.to_vec());
        }
        parts
    }

    fn lengths(data: &[u8]) -> Vec<usize> {
        parts(&mut Cutter::default(), data, usize::MAX).iter().map(Vec::len).collect()
    }

    #[test]
    fn borders_are_part_of_the_format() {
        assert_eq!(lengths(&noise(20 << 20)), BORDERS);
        assert_eq!(lengths(&vec![0; 20 << 20]), [PART_BYTES_MAX, PART_BYTES_MAX, 4 << 20]);
    }

    /// Written down when format 1 was fixed: other borders would store every big file once more.
    const BORDERS: [usize; 7] = [2_484_973, 2_422_716, 2_709_287, 2_095_288, 3_657_036, 1_156_341, 6_445_879];

    #[test]
    fn the_borders_are_those_of_the_library_whatever_came_before_and_however_it_is_read() {
        let mut cutter = Cutter::default();
        for (length, most) in
            [(40 << 20, 1 << 20), (3, 1), (0, 1), (PART_BYTES_MAX + 1, 77_777), (17 << 20, usize::MAX)]
        {
            let data = noise(length);
            let ours = parts(&mut cutter, &data, most);
            let theirs: Vec<_> = StreamCDC::new(&data[..], PART_BYTES_MIN, PART_BYTES_AVERAGE, PART_BYTES_MAX)
                .map(|part| part.unwrap().data)
                .collect();
            assert!(ours == theirs, "{length} bytes in pieces of {most}");
        }
    }

    #[test]
    fn an_insertion_moves_no_border_behind_it() {
        let data = noise(20 << 20);
        let moved = [b"inserted", &data[..]].concat();
        let digests = |data: &[u8]| {
            parts(&mut Cutter::default(), data, usize::MAX).iter().map(|part| Digest::of(part)).collect::<Vec<_>>()
        };
        let (before, after) = (digests(&data), digests(&moved));
        let shared = after.iter().filter(|digest| before.contains(digest)).count();
        assert!(shared + 2 >= before.len() && before.len() > 4, "{shared} of {}", before.len());
    }
}
