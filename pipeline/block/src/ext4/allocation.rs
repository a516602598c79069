//! The answer: one bit for each piece of the device, set where anything may be in use.
//!
//! A piece (the granule, which is the copy's block) is free only when every file-system block in
//! it is. Memory is one bit a granule, whatever the size of the device: 64 KiB for 64 GiB in
//! pieces of 128 KiB.

use std::ops::Range;

use super::group::Group;
use super::superblock::{BYTES, OFFSET, Superblock};
use super::{Doubt, Window};
use crate::device::Source;

/// Which parts of a source are certainly free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    used: Vec<u64>,
    granule_bytes: u64,
    /// End of the file system; what lies behind it belongs to nobody known.
    end: u64,
    free_bytes: u64,
    /// BLAKE3 over every record that this answer was made from.
    seen: blake3::Hash,
}

impl Allocation {
    /// Reads superblock, descriptors and bitmaps of `source`. `granule_bytes`, a power of two, is
    /// the smallest piece that will be asked for.
    ///
    /// # Errors
    /// A [`Doubt`]: nothing may be taken for free.
    pub fn read(source: &Source, granule_bytes: u64) -> Result<Self, Doubt> {
        let mut reader = Reader::new(source, granule_bytes)?;
        reader.read_groups()?;
        let found = reader.finish();
        // Looked at again: a file system that is written to while its bitmaps are read shows
        // neither one state nor the other.
        if read_superblock(&mut Window::new(source))?.1 == found.1 { Ok(found.0) } else { Err(Doubt::Changed) }
    }

    /// Asked after the last read of the data: that all records are still what they were. After an
    /// `Err`, what was left out as free has to be read after all.
    pub fn confirm(&self, source: &Source) -> Result<(), Doubt> {
        if Self::read(source, self.granule_bytes)?.seen == self.seen { Ok(()) } else { Err(Doubt::Changed) }
    }

    /// Whether every byte of `range` is certainly free. Never true for a range that reaches
    /// beyond the file system, nor for an empty one.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        if range.is_empty() || range.end > self.end {
            return false;
        }
        let granules = range.start / self.granule_bytes..range.end.div_ceil(self.granule_bytes);
        granules.into_iter().all(|granule| !bit(&self.used, granule))
    }

    /// Bytes of all granules that are free.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }
}

fn bit(words: &[u64], index: u64) -> bool {
    let word = usize::try_from(index / 64).ok().and_then(|word| words.get(word));
    word.is_none_or(|word| word >> (index % 64) & 1 == 1)
}

fn read_superblock(window: &mut Window) -> Result<(Superblock, [u8; BYTES]), Doubt> {
    let device_bytes = window.source.size_bytes();
    if device_bytes < OFFSET + BYTES as u64 {
        return Err(Doubt::NotExt);
    }
    let bytes = window.get(OFFSET, BYTES)?;
    let mut copy = [0; BYTES];
    copy.copy_from_slice(bytes);
    Ok((Superblock::parse(bytes, device_bytes)?, copy))
}

struct Reader<'a> {
    window: Window<'a>,
    bitmaps: Window<'a>,
    superblock: Superblock,
    raw: [u8; BYTES],
    used: Vec<u64>,
    granule_bytes: u64,
    seen: blake3::Hasher,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source, granule_bytes: u64) -> Result<Self, Doubt> {
        let mut window = Window::new(source);
        let (superblock, raw) = read_superblock(&mut window)?;
        let granule_bytes = granule_bytes.max(superblock.block_bytes);
        if !granule_bytes.is_power_of_two() {
            return Err(Doubt::Nonsense { what: "granule", number: granule_bytes });
        }
        let granules = (superblock.blocks * superblock.block_bytes).div_ceil(granule_bytes);
        let words = usize::try_from(granules.div_ceil(64))
            .map_err(|_| Doubt::Nonsense { what: "the number of blocks", number: superblock.blocks })?;
        let mut seen = blake3::Hasher::new();
        seen.update(&raw);
        Ok(Self { window, bitmaps: Window::new(source), superblock, raw, used: vec![0; words], granule_bytes, seen })
    }

    fn read_groups(&mut self) -> Result<(), Doubt> {
        self.mark(0, self.superblock.first_data_block + 1);
        if self.superblock.mmp_block != 0 {
            self.mark(self.superblock.mmp_block, 1);
        }
        for number in 0..self.superblock.groups() {
            let at = descriptor_offset(&self.superblock, number);
            let bytes = self.window.get(at, self.superblock.descriptor_bytes)?;
            self.seen.update(bytes);
            let group = Group::parse(bytes, number, &self.superblock)?;
            self.mark_metadata(&group, number);
            if group.has_bitmap {
                self.read_bitmap(&group, number)?;
            }
        }
        Ok(())
    }

    /// Marks what a group's records occupy, wherever that is: with `flex_bg` it is in another
    /// group, whose own bitmap may never have been written. Marking more than the kernel would is
    /// harmless, so every group counts as having a superblock and all descriptors at its start.
    fn mark_metadata(&mut self, group: &Group, number: u64) {
        self.mark(group.block_bitmap, 1);
        self.mark(group.inode_bitmap, 1);
        self.mark(group.inode_table, self.superblock.inode_table_blocks);
        let start = self.superblock.group_start(number);
        let descriptors = match self.superblock.first_meta_block_group {
            Some(first) => first.min(self.superblock.descriptor_blocks()) + 1,
            None => self.superblock.descriptor_blocks(),
        };
        if !group.has_bitmap {
            self.mark(start, 2 + descriptors + self.superblock.reserved_gdt_blocks);
        }
    }

    fn read_bitmap(&mut self, group: &Group, number: u64) -> Result<(), Doubt> {
        let Self { superblock, used, granule_bytes, seen, bitmaps, .. } = self;
        let length = usize::try_from(superblock.block_bytes).unwrap_or(usize::MAX);
        let bitmap = bitmaps.get(group.block_bitmap * superblock.block_bytes, length)?;
        seen.update(bitmap);
        let clusters = superblock.group_blocks(number).div_ceil(superblock.cluster_blocks);
        group.check_bitmap(bitmap, number, clusters, superblock)?;
        let start = superblock.group_start(number);
        let cluster_blocks = superblock.cluster_blocks;
        for (index, byte) in (0_u64..).zip(bitmap).take_while(|(index, _)| index * 8 < clusters) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let first = start + (index * 8 + bit) * cluster_blocks;
                mark(used, *granule_bytes, superblock, first, cluster_blocks);
            }
        }
        Ok(())
    }

    fn mark(&mut self, first: u64, blocks: u64) {
        mark(&mut self.used, self.granule_bytes, &self.superblock, first, blocks);
    }

    fn finish(mut self) -> (Allocation, [u8; BYTES]) {
        let end = self.superblock.blocks * self.superblock.block_bytes;
        let granules = end.div_ceil(self.granule_bytes);
        if !end.is_multiple_of(self.granule_bytes) {
            // The last piece reaches beyond the file system.
            set(&mut self.used, granules - 1);
        }
        let free = (0..granules).filter(|granule| !bit(&self.used, *granule)).count() as u64;
        let allocation = Allocation {
            used: self.used,
            granule_bytes: self.granule_bytes,
            end,
            free_bytes: free * self.granule_bytes,
            seen: self.seen.finalize(),
        };
        (allocation, self.raw)
    }
}

/// Where a group's descriptor lies (fs/ext4/super.c, `descriptor_loc`).
fn descriptor_offset(superblock: &Superblock, group: u64) -> u64 {
    let per_block = superblock.descriptors_per_block();
    let (descriptor_block, within) = (group / per_block, group % per_block * superblock.descriptor_bytes as u64);
    // With 1 KiB blocks the superblock fills block 1, whether or not data begins there.
    let superblock_at = OFFSET / superblock.block_bytes;
    let block = match superblock.first_meta_block_group {
        Some(first) if descriptor_block >= first => {
            let home = descriptor_block * per_block;
            let shifted = u64::from(home == 0 && superblock.block_bytes == 1024 && superblock.first_data_block == 0);
            superblock.group_start(home) + u64::from(superblock.has_backup(home)) + shifted
        }
        _ => superblock_at + 1 + descriptor_block,
    };
    block * superblock.block_bytes + within
}

/// Marks `blocks` blocks from `first` on, as far as the file system reaches.
fn mark(used: &mut [u64], granule_bytes: u64, superblock: &Superblock, first: u64, blocks: u64) {
    let last = first.saturating_add(blocks).min(superblock.blocks);
    if first >= last {
        return;
    }
    let per_granule = granule_bytes / superblock.block_bytes;
    for granule in first / per_granule..last.div_ceil(per_granule) {
        set(used, granule);
    }
}

fn set(used: &mut [u64], index: u64) {
    if let Some(word) = usize::try_from(index / 64).ok().and_then(|word| used.get_mut(word)) {
        *word |= 1 << (index % 64);
    }
}
