//! Group descriptors: where each group's bitmap is, whether it counts, and whether it is intact.

use super::checksum::{crc16, crc32c};
use super::superblock::{Protection, Superblock};
use super::{Doubt, Fields};

/// The group's block bitmap was never written: all is free but the metadata that lies in it.
const BLOCK_UNINIT: u16 = 0x0002;

/// Where the checksum of a descriptor stands in it.
const CHECKSUM_AT: usize = 0x1e;
/// Length of the part that old file systems have.
const SHORT_BYTES: usize = 32;

/// One descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_clusters: u64,
    pub bitmap_checksum: u32,
    pub has_bitmap: bool,
}

impl Group {
    /// Reads the descriptor of group `number` and checks it and every place that it names.
    pub fn parse(bytes: &[u8], number: u64, superblock: &Superblock) -> Result<Self, Doubt> {
        check_descriptor(bytes, number, superblock)?;
        let wide = bytes.len() > SHORT_BYTES;
        let high = |offset| if wide { u64::from(bytes.u32_at(offset)) << 32 } else { 0 };
        let half = |offset| if wide { u32::from(bytes.u16_at(offset)) << 16 } else { 0 };
        let may_be_uninitialised = superblock.protection != Protection::None;
        let it = Self {
            block_bitmap: u64::from(bytes.u32_at(0x00)) | high(0x20),
            inode_bitmap: u64::from(bytes.u32_at(0x04)) | high(0x24),
            inode_table: u64::from(bytes.u32_at(0x08)) | high(0x28),
            free_clusters: (u32::from(bytes.u16_at(0x0c)) | half(0x2c)).into(),
            bitmap_checksum: u32::from(bytes.u16_at(0x18)) | half(0x38),
            has_bitmap: !(may_be_uninitialised && bytes.u16_at(0x12) & BLOCK_UNINIT != 0),
        };
        let table_end = it.inode_table.checked_add(superblock.inode_table_blocks);
        let inside = |block: u64| block > superblock.first_data_block && block < superblock.blocks;
        let sane = inside(it.block_bitmap)
            && inside(it.inode_bitmap)
            && inside(it.inode_table)
            && table_end.is_some_and(|end| end <= superblock.blocks);
        if sane { Ok(it) } else { Err(Doubt::Nonsense { what: "a place in the descriptor of group", number }) }
    }

    /// Holds the bitmap against its checksum and against the number of free clusters that the
    /// descriptor counts. `clusters` is the number of clusters in this group.
    pub fn check_bitmap(
        &self,
        bitmap: &[u8],
        number: u64,
        clusters: u64,
        superblock: &Superblock,
    ) -> Result<(), Doubt> {
        if let Protection::Metadata { seed } = superblock.protection {
            let covered = usize::try_from(superblock.clusters_per_group / 8).unwrap_or(usize::MAX);
            let computed = crc32c(seed, bitmap.get(..covered).unwrap_or(bitmap));
            // A short descriptor has room for the lower half only.
            let mask = if superblock.descriptor_bytes > SHORT_BYTES { u32::MAX } else { 0xffff };
            if computed & mask != self.bitmap_checksum {
                return Err(Doubt::Checksum { what: "the bitmap of group", number });
            }
        }
        let used: u64 = used_clusters(bitmap, clusters);
        if clusters - used == self.free_clusters {
            Ok(())
        } else {
            Err(Doubt::Nonsense { what: "the free blocks counted in group", number })
        }
    }
}

/// Set bits among the first `clusters` of a bitmap.
fn used_clusters(bitmap: &[u8], clusters: u64) -> u64 {
    let whole = usize::try_from(clusters / 8).unwrap_or(usize::MAX).min(bitmap.len());
    let rest = bitmap.get(whole).map_or(0, |byte| (byte & ((1 << (clusters % 8)) - 1)).count_ones());
    bitmap[..whole].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>() + u64::from(rest)
}

fn check_descriptor(bytes: &[u8], number: u64, superblock: &Superblock) -> Result<(), Doubt> {
    let group = u32::try_from(number).map_err(|_| Doubt::Nonsense { what: "group number", number })?.to_le_bytes();
    let rest = bytes.get(CHECKSUM_AT + 2..).unwrap_or_default();
    let computed = match superblock.protection {
        Protection::None => return Ok(()),
        Protection::Gdt => {
            let head = crc16(crc16(crc16(!0, &superblock.uuid), &group), &bytes[..CHECKSUM_AT]);
            crc16(head, rest)
        }
        Protection::Metadata { seed } => {
            let head = crc32c(crc32c(crc32c(seed, &group), &bytes[..CHECKSUM_AT]), &[0, 0]);
            let [low, high, ..] = crc32c(head, rest).to_le_bytes();
            u16::from_le_bytes([low, high])
        }
    };
    if computed == bytes.u16_at(CHECKSUM_AT) {
        Ok(())
    } else {
        Err(Doubt::Checksum { what: "the descriptor of group", number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clusters_of_the_group_are_counted() {
        assert_eq!(used_clusters(&[0xff, 0xff], 16), 16);
        assert_eq!(used_clusters(&[0b101, 0xff], 8), 2);
        assert_eq!(used_clusters(&[0b101, 0b110], 10), 3);
        assert_eq!(used_clusters(&[0xff], 0), 0);
    }
}
