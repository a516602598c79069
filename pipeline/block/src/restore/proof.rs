//! What stands on a target: each block read from the medium and compared with its hash.

use crate::device::{AlignedBuf, DeviceError, Source};
use crate::digest::Blake3;
use crate::image::BlockIndex;

/// What a block on the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The block that the map names.
    Right,
    /// Anything else.
    Other,
}

/// A block and the hash of what it should be; `None` means zeros.
pub type Expected = (BlockIndex, Option<Blake3>);

/// Reads blocks of a target.
#[derive(Debug)]
pub struct Proof {
    source: Source,
    size_bytes: u64,
    block_bytes: u64,
    buffer: AlignedBuf,
    /// The range that holds data around the last look; what lies before it is a hole.
    data: std::ops::Range<u64>,
}

impl Proof {
    /// Proves the first `size_bytes` of `source`.
    pub fn new(source: Source, size_bytes: u64, block_bytes: u64) -> Self {
        let buffer = AlignedBuf::new(usize::try_from(block_bytes).unwrap_or(usize::MAX));
        Self { source, size_bytes, block_bytes, buffer, data: 0..0 }
    }

    /// Compares `block` with `hash`; `None` means zeros. Blocks are looked at in rising order.
    pub fn look(&mut self, block: BlockIndex, hash: Option<Blake3>) -> Result<Standing, DeviceError> {
        let start = block.0 * self.block_bytes;
        let end = (start + self.block_bytes).min(self.size_bytes).min(self.source.size_bytes());
        if self.data.end <= start {
            self.data = self.source.next_data(start)?.unwrap_or(u64::MAX..u64::MAX);
        }
        let is_hole = end <= self.data.start;
        if is_hole && hash.is_none() {
            return Ok(Standing::Right);
        }
        self.buffer.set_len(usize::try_from(end.saturating_sub(start)).unwrap_or(0));
        self.source.read_at(start, &mut self.buffer)?;
        let is_right = match hash {
            Some(hash) => Blake3::of(&self.buffer) == hash,
            None => self.buffer.iter().all(|byte| *byte == 0),
        };
        Ok(if is_right { Standing::Right } else { Standing::Other })
    }

    /// The first of `blocks`, in rising order, that is not what it should be.
    pub fn first_wrong(&mut self, blocks: &[Expected]) -> Result<Option<BlockIndex>, DeviceError> {
        for (block, hash) in blocks {
            if self.look(*block, *hash)? != Standing::Right {
                return Ok(Some(*block));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn blocks_are_told_right_from_wrong_in_data_and_holes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; 65_536]).unwrap();
        file.as_file().set_len(4 * 65_536 + 100).unwrap();
        let mut proof = Proof::new(Source::open(file.path(), false).unwrap(), 4 * 65_536 + 100, 65_536);
        let sevens = Some(Blake3::of(&vec![7; 65_536]));
        let mut check = |block, hash, standing| assert_eq!(proof.look(BlockIndex(block), hash).unwrap(), standing);
        check(0, sevens, Standing::Right);
        check(0, None, Standing::Other);
        check(1, None, Standing::Right);
        check(2, sevens, Standing::Other);
        check(4, None, Standing::Right);
        check(4, Some(Blake3::of(&[0; 100])), Standing::Right);
    }
}
