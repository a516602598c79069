//! The superblock: the shape of the file system, and whether its records can be believed at all.
//!
//! Offsets are those of `struct ext4_super_block` (fs/ext4/ext4.h). Only the fields that decide
//! where free space is are read; each is checked before it is computed with.

use super::checksum::crc32c;
use super::{Doubt, Fields};

/// Where the superblock lies, whatever the block size.
pub(super) const OFFSET: u64 = 1024;
/// Its size.
pub(super) const BYTES: usize = 1024;

const MAGIC: u16 = 0xef53;

/// Feature bits whose meaning for free space is known here. What is not listed may put data
/// where the bitmaps say there is none: snapshots (`exclude_bitmap`, `has_snapshot`, `replica`),
/// `lazy_bg`, `shared_blocks`, `dirdata`, `compression`, `journal_dev`.
mod known {
    pub const COMPAT: u32 = 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0200 | 0x0400 | 0x0800 | 0x1000;
    pub const INCOMPAT: u32 =
        0x0002 | 0x0010 | 0x0040 | 0x0080 | 0x0100 | 0x0200 | 0x0400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
    pub const RO_COMPAT: u32 = 0x0001
        | 0x0002
        | 0x0004
        | 0x0008
        | 0x0010
        | 0x0020
        | 0x0040
        | 0x0100
        | 0x0200
        | 0x0400
        | 0x1000
        | 0x2000
        | 0x8000
        | 0x1_0000;
}

const COMPAT_HAS_JOURNAL: u32 = 0x0004;
const COMPAT_SPARSE_SUPER2: u32 = 0x0200;
const INCOMPAT_RECOVER: u32 = 0x0004;
const INCOMPAT_META_BG: u32 = 0x0010;
const INCOMPAT_64BIT: u32 = 0x0080;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x0001;
const RO_COMPAT_GDT_CSUM: u32 = 0x0010;
const RO_COMPAT_BIGALLOC: u32 = 0x0200;
const RO_COMPAT_METADATA_CSUM: u32 = 0x0400;

/// Cleanly unmounted, or frozen; no other bit of the state may stand beside it.
const STATE_VALID: u16 = 1;

/// How descriptors and bitmaps are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Older than checksums: bitmaps are held against the counts of their descriptors only.
    None,
    /// CRC-16 of descriptors.
    Gdt,
    /// CRC-32C of everything, from this seed.
    Metadata { seed: u32 },
}

/// Which groups begin with a copy of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backups {
    /// Every group.
    All,
    /// Groups 0 and 1, and powers of 3, 5 and 7 (`sparse_super`).
    Sparse,
    /// Group 0 and at most two named ones (`sparse_super2`).
    Named([u64; 2]),
}

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub block_bytes: u64,
    pub blocks: u64,
    pub first_data_block: u64,
    /// Blocks that one bit of a bitmap stands for.
    pub cluster_blocks: u64,
    pub clusters_per_group: u64,
    pub blocks_per_group: u64,
    pub inode_table_blocks: u64,
    pub descriptor_bytes: usize,
    pub reserved_gdt_blocks: u64,
    /// From this descriptor block on, descriptors lie in their own groups.
    pub first_meta_block_group: Option<u64>,
    pub mmp_block: u64,
    pub backups: Backups,
    pub uuid: [u8; 16],
    pub protection: Protection,
}

impl Superblock {
    /// Reads the record and refuses what is unknown, unclean or impossible.
    pub fn parse(bytes: &[u8], device_bytes: u64) -> Result<Self, Doubt> {
        if bytes.len() < BYTES || bytes.u16_at(0x38) != MAGIC {
            return Err(Doubt::NotExt);
        }
        let features = Features::known(bytes)?;
        features.check_clean(bytes)?;
        let protection = features.protection(bytes)?;
        let superblock = features.shape(bytes, protection)?;
        superblock.check_shape(device_bytes)?;
        Ok(superblock)
    }

    /// Number of block groups.
    pub fn groups(&self) -> u64 {
        (self.blocks - self.first_data_block).div_ceil(self.blocks_per_group)
    }

    /// Descriptors that fit into one block.
    pub fn descriptors_per_block(&self) -> u64 {
        self.block_bytes / self.descriptor_bytes as u64
    }

    /// Blocks of descriptors, if they all lay together.
    pub fn descriptor_blocks(&self) -> u64 {
        self.groups().div_ceil(self.descriptors_per_block())
    }

    /// Whether a group begins with a superblock (fs/ext4/balloc.c, `ext4_bg_has_super`).
    pub fn has_backup(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            std::iter::successors(Some(base), |n| n.checked_mul(base)).take_while(|n| *n <= group).any(|n| n == group)
        };
        match self.backups {
            _ if group == 0 => true,
            Backups::All => true,
            Backups::Sparse => group == 1 || [3, 5, 7].into_iter().any(power_of),
            Backups::Named(groups) => groups.contains(&group),
        }
    }

    /// First block of a group.
    pub fn group_start(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// Blocks of a group: all but the last one have the same.
    pub fn group_blocks(&self, group: u64) -> u64 {
        self.blocks_per_group.min(self.blocks.saturating_sub(self.group_start(group)))
    }

    fn check_shape(&self, device_bytes: u64) -> Result<(), Doubt> {
        let nonsense = |what, number| Err(Doubt::Nonsense { what, number });
        let bitmap_bits = self.block_bytes * 8;
        if self.blocks <= self.first_data_block || self.first_data_block > 1 {
            return nonsense("the number of blocks", self.blocks);
        }
        if self.blocks.checked_mul(self.block_bytes).is_none_or(|bytes| bytes > device_bytes) {
            return nonsense("a file system larger than its device, blocks", self.blocks);
        }
        if self.clusters_per_group == 0
            || self.clusters_per_group > bitmap_bits
            || !self.clusters_per_group.is_multiple_of(8)
        {
            return nonsense("the clusters per group", self.clusters_per_group);
        }
        if self.blocks_per_group != self.clusters_per_group * self.cluster_blocks {
            return nonsense("the blocks per group", self.blocks_per_group);
        }
        if !self.descriptor_bytes.is_power_of_two() || !(32..=1024).contains(&self.descriptor_bytes) {
            return nonsense("the size of a group descriptor", self.descriptor_bytes as u64);
        }
        if self.inode_table_blocks == 0 || self.inode_table_blocks > self.blocks_per_group {
            return nonsense("the blocks of an inode table", self.inode_table_blocks);
        }
        Ok(())
    }
}

struct Features {
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Features {
    fn known(bytes: &[u8]) -> Result<Self, Doubt> {
        // Revision 0 has no feature words, and nobody has made one for decades.
        if bytes.u32_at(0x4c) != 1 {
            return Err(Doubt::Nonsense { what: "revision", number: bytes.u32_at(0x4c).into() });
        }
        let it = Self { compat: bytes.u32_at(0x5c), incompat: bytes.u32_at(0x60), ro_compat: bytes.u32_at(0x64) };
        let words = [
            ("compat", it.compat & !known::COMPAT),
            ("incompat", it.incompat & !known::INCOMPAT & !INCOMPAT_RECOVER),
            ("ro_compat", it.ro_compat & !known::RO_COMPAT),
        ];
        match words.into_iter().find(|(_, unknown)| *unknown != 0) {
            Some((field, bits)) => Err(Doubt::Feature { field, bits }),
            None => Ok(it),
        }
    }

    /// The kernel sets `needs_recovery` while a journalled file system is mounted for writing and
    /// takes it away at a freeze, when the journal is empty. Without a journal it takes the valid
    /// state away instead.
    fn check_clean(&self, bytes: &[u8]) -> Result<(), Doubt> {
        if self.incompat & INCOMPAT_RECOVER != 0 {
            return Err(Doubt::NotClean("its journal needs recovery"));
        }
        if bytes.u16_at(0x3a) != STATE_VALID {
            return Err(Doubt::NotClean("its state is not 'clean'"));
        }
        if self.compat & COMPAT_HAS_JOURNAL != 0 && bytes.u32_at(0xe0) == 0 {
            return Err(Doubt::NotClean("its journal lies on another device"));
        }
        Ok(())
    }

    fn protection(&self, bytes: &[u8]) -> Result<Protection, Doubt> {
        match (self.ro_compat & RO_COMPAT_METADATA_CSUM != 0, self.ro_compat & RO_COMPAT_GDT_CSUM != 0) {
            (true, true) => Err(Doubt::Nonsense { what: "two kinds of checksum at once, ro_compat", number: 0x410 }),
            (false, true) => Ok(Protection::Gdt),
            (false, false) => Ok(Protection::None),
            (true, false) => {
                if bytes[0x175] != 1 {
                    return Err(Doubt::Nonsense { what: "checksum type", number: bytes[0x175].into() });
                }
                if crc32c(!0, &bytes[..0x3fc]) != bytes.u32_at(0x3fc) {
                    return Err(Doubt::Checksum { what: "superblock", number: 0 });
                }
                let own_seed = self.incompat & INCOMPAT_CSUM_SEED != 0;
                let seed = if own_seed { bytes.u32_at(0x270) } else { crc32c(!0, &bytes[0x68..0x78]) };
                Ok(Protection::Metadata { seed })
            }
        }
    }

    fn shape(&self, bytes: &[u8], protection: Protection) -> Result<Superblock, Doubt> {
        let wide = self.incompat & INCOMPAT_64BIT != 0;
        let bigalloc = self.ro_compat & RO_COMPAT_BIGALLOC != 0;
        let (block_log, cluster_log) = (bytes.u32_at(0x18), bytes.u32_at(0x1c));
        if block_log > 6 || cluster_log < block_log || cluster_log > 20 {
            return Err(Doubt::Nonsense { what: "the logarithm of the block size", number: block_log.into() });
        }
        let blocks_high = if wide { bytes.u32_at(0x150) } else { 0 };
        let inode_bytes = u64::from(bytes.u16_at(0x58));
        let block_bytes = 1024 << block_log;
        let blocks_per_group = u64::from(bytes.u32_at(0x20));
        let cluster_blocks = if bigalloc { 1 << (cluster_log - block_log) } else { 1 };
        let clusters_per_group = if bigalloc { bytes.u32_at(0x24).into() } else { blocks_per_group };
        let backups = if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            Backups::Named([bytes.u32_at(0x24c).into(), bytes.u32_at(0x250).into()])
        } else if self.ro_compat & RO_COMPAT_SPARSE_SUPER != 0 {
            Backups::Sparse
        } else {
            Backups::All
        };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[0x68..0x78]);
        Ok(Superblock {
            block_bytes,
            blocks: u64::from(bytes.u32_at(0x04)) | u64::from(blocks_high) << 32,
            first_data_block: bytes.u32_at(0x14).into(),
            cluster_blocks,
            clusters_per_group,
            blocks_per_group,
            inode_table_blocks: (u64::from(bytes.u32_at(0x28)) * inode_bytes).div_ceil(block_bytes),
            descriptor_bytes: if wide { bytes.u16_at(0xfe).into() } else { 32 },
            reserved_gdt_blocks: bytes.u16_at(0xce).into(),
            first_meta_block_group: (self.incompat & INCOMPAT_META_BG != 0).then(|| bytes.u32_at(0x104).into()),
            mmp_block: u64::from(bytes.u32_at(0x168)) | u64::from(bytes.u32_at(0x16c)) << 32,
            backups,
            uuid,
            protection,
        })
    }
}
