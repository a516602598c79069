//! Every constant of format 1 of the block repository, and nothing else.
//!
//! `docs/format-block.md` is the master and says why each field is there; this file is the same
//! page for the compiler. Offsets are chains, sizes are asserted at compile time, all numbers are
//! little-endian. A change here is a new format version, never an edit.

/// First eight bytes of every binary object.
pub const MAGIC: [u8; 8] = *b"DSBLOCK\x01";
/// The format version this program writes, and the only one it reads.
pub const VERSION: u16 = 1;
/// AES-256-GCM with keys from HKDF-SHA-256.
pub const SUITE_AES256GCM_HKDF_SHA256: u8 = 1;
/// The content keys come from the repository key; other epochs are reserved for wrapped keys.
pub const EPOCH_REPOSITORY: u32 = 0;

/// Bytes of a key, an object's salt, a SHA-256 or BLAKE3 digest.
pub const KEY_BYTES: usize = 32;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;
/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// Bytes of a repository id and of a key id.
pub const ID_BYTES: usize = 16;
/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of an AES-GCM nonce: the record number, then zeros.
pub const NONCE_BYTES: usize = 12;

/// The header that begins every binary object.
pub mod header {
    use super::{ID_BYTES, MAGIC, SALT_BYTES};

    /// Offset of the version, u16.
    pub const VERSION_AT: usize = MAGIC.len();
    /// Offset of the suite, u8.
    pub const SUITE_AT: usize = VERSION_AT + 2;
    /// Offset of the object kind, u8.
    pub const KIND_AT: usize = SUITE_AT + 1;
    /// Offset of the key epoch, u32.
    pub const EPOCH_AT: usize = KIND_AT + 1;
    /// Offset of the key id.
    pub const KEY_ID_AT: usize = EPOCH_AT + 4;
    /// Offset of the repository id.
    pub const REPOSITORY_AT: usize = KEY_ID_AT + ID_BYTES;
    /// Offset of the salt; everything before it is associated data of every record.
    pub const SALT_AT: usize = REPOSITORY_AT + ID_BYTES;
    /// Bytes of the header.
    pub const BYTES: usize = SALT_AT + SALT_BYTES;
}

/// The clear header before each sealed record; all of it is associated data.
pub mod record {
    use super::TAG_BYTES;

    /// Offset of the record number, u32, from 0.
    pub const NUMBER_AT: usize = 0;
    /// Offset of the length after opening and inflating, u32.
    pub const PLAIN_AT: usize = NUMBER_AT + 4;
    /// Offset of the length of the sealed body without its tag, u32.
    pub const BODY_AT: usize = PLAIN_AT + 4;
    /// Offset of the codec, u8.
    pub const CODEC_AT: usize = BODY_AT + 4;
    /// Offset of the last-record flag, u8, 0 or 1.
    pub const LAST_AT: usize = CODEC_AT + 1;
    /// Offset of two bytes that are zero.
    pub const RESERVED_AT: usize = LAST_AT + 1;
    /// Bytes of the record header.
    pub const HEADER_BYTES: usize = RESERVED_AT + 2;
    /// What sealing adds to a body.
    pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
}

/// The end of a pack.
pub mod pack {
    use super::{DIGEST_BYTES, record};

    /// Bytes of one table entry: BLAKE3 of the block, offset u32, length u32, plain length u32, zero u32.
    pub const ENTRY_BYTES: usize = DIGEST_BYTES + 16;
    /// Last eight bytes of a pack.
    pub const FOOTER_MAGIC: [u8; 8] = *b"DSBPACKE";
    /// Offset in the footer of the table record's offset, u32.
    pub const FOOTER_TABLE_AT: usize = 0;
    /// Offset in the footer of the table record's length, u32.
    pub const FOOTER_LENGTH_AT: usize = FOOTER_TABLE_AT + 4;
    /// Offset in the footer of the number of blocks, u32.
    pub const FOOTER_COUNT_AT: usize = FOOTER_LENGTH_AT + 4;
    /// Offset in the footer of four zero bytes.
    pub const FOOTER_RESERVED_AT: usize = FOOTER_COUNT_AT + 4;
    /// Offset in the footer of [`FOOTER_MAGIC`].
    pub const FOOTER_MAGIC_AT: usize = FOOTER_RESERVED_AT + 4;
    /// Bytes of the footer.
    pub const FOOTER_BYTES: usize = FOOTER_MAGIC_AT + FOOTER_MAGIC.len();
    /// No pack is longer, header and footer included.
    pub const BYTES_MAX: usize = 32 << 20;
    /// No pack holds more blocks: it bounds the table to 192 KiB.
    pub const BLOCKS_MAX: usize = 4096;
    /// Room that a pack under construction keeps for its end.
    pub const END_BYTES_MAX: usize = BLOCKS_MAX * ENTRY_BYTES + record::OVERHEAD_BYTES + FOOTER_BYTES;
}

/// A map page: 1,024 blocks.
pub mod page {
    use super::{DIGEST_BYTES, SALT_BYTES};

    /// Blocks of one page.
    pub const BLOCKS: usize = 1024;
    /// Kind of a page that stands alone.
    pub const KIND_FULL: u16 = 1;
    /// Kind of a page that changes a full page.
    pub const KIND_DELTA: u16 = 2;
    /// Bytes before the arrays: kind u16, blocks u16, entries u16, packs u16, page index u64.
    pub const HEAD_BYTES: usize = 16;
    /// One bit a block, set where the block is stored (full pages).
    pub const BITMAP_BYTES: usize = BLOCKS / 8;
    /// A page-local pack: its SHA-256 and its salt, so that one record can be opened alone.
    pub const PACK_BYTES: usize = DIGEST_BYTES + SALT_BYTES;
    /// What an entry takes in the arrays: BLAKE3, pack u16, offset u32, length u32.
    pub const ENTRY_BYTES: usize = DIGEST_BYTES + 2 + 4 + 4;
    /// Pack number of a block that became zero (delta pages).
    pub const PACK_ZERO: u16 = 0xffff;
    /// A delta page changes at most this many blocks.
    pub const DELTA_MAX: usize = 128;
    /// No encoded page is longer.
    pub const BYTES_MAX: usize = HEAD_BYTES + BITMAP_BYTES + BLOCKS * (PACK_BYTES + ENTRY_BYTES);
}

/// A map object: sealed pages one after the other.
pub mod map {
    /// No map object is longer.
    pub const BYTES_MAX: usize = 32 << 20;
    /// A writer closes one at about this size, to bound its memory.
    pub const BYTES_TARGET: usize = 8 << 20;
}

/// A manifest.
pub mod manifest {
    use super::DIGEST_BYTES;

    /// The clear section's head: sequence u64, predecessor, maps u32, packs u32.
    pub const CLEAR_HEAD_BYTES: usize = 8 + DIGEST_BYTES + 4 + 4;
    /// One reference in the clear section: SHA-256, size u32, live bytes u32.
    pub const REFERENCE_BYTES: usize = DIGEST_BYTES + 8;
    /// One sealed page reference: page digest, object u32, offset u32, length u32, kind u32.
    pub const PAGE_REF_BYTES: usize = DIGEST_BYTES + 16;
    /// Page references in one sealed record.
    pub const PAGE_REFS_PER_RECORD: usize = 4096;
    /// Pages of one point: 128 TiB at 128 KiB a block.
    pub const PAGES_MAX: u64 = 1 << 20;
    /// References of one kind in one manifest.
    pub const REFERENCES_MAX: u32 = 1 << 23;
    /// The sealed description (JSON) is not longer.
    pub const BODY_BYTES_MAX: usize = 4 << 20;
    /// No manifest is longer: the store client takes no longer object.
    pub const BYTES_MAX: u64 = 128 << 20;
}

/// Marks of a deleter, and how long what was seen of them may be believed. Days.
pub mod marks {
    /// A mark whose deletion did not begin in this time announces nothing any more: whoever wants to
    /// delete marks anew, so that nothing goes by a mark that everybody has forgotten.
    pub const LIFE_DAYS: u32 = 60;
    /// Marks stay for this long after they ended, and run records after they were written.
    pub const KEPT_DAYS: u32 = 30;
    /// No run commits later than this after it began: what was marked since is still to be seen.
    pub const RUN_DAYS_MAX: u32 = 28;
    /// Nothing is deleted later than this after the listing of the marks that say so.
    pub const LISTING_DAYS_MAX: u32 = 7;
    /// The longest grace.
    pub const GRACE_DAYS_MAX: u32 = 30;
}

/// A report of `verify`.
pub mod evidence {
    /// No file of a report is longer.
    pub const FILE_BYTES_MAX: u64 = 16 << 20;
}

/// Seconds of a day.
pub const DAY_S: u32 = 86_400;

/// Block size when `init` is not told another.
pub const BLOCK_BYTES_DEFAULT: u32 = 128 << 10;
/// Smallest block size.
pub const BLOCK_BYTES_MIN: u32 = 64 << 10;
/// Largest block size.
pub const BLOCK_BYTES_MAX: u32 = 4 << 20;
/// No JSON document (`repo.json`, key slots, heartbeats) is longer.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 10;

const _: () = {
    assert!(header::SALT_AT == 48 && header::BYTES == 80);
    assert!(record::HEADER_BYTES == 16 && record::OVERHEAD_BYTES == 32);
    assert!(pack::ENTRY_BYTES == 48 && pack::FOOTER_BYTES == 24);
    assert!(page::BITMAP_BYTES == 128 && page::PACK_BYTES == 64 && page::ENTRY_BYTES == 42);
    assert!(page::BYTES_MAX == 108_688);
    assert!(manifest::CLEAR_HEAD_BYTES == 48 && manifest::REFERENCE_BYTES == 40 && manifest::PAGE_REF_BYTES == 48);
    assert!(pack::BYTES_MAX > header::BYTES + pack::END_BYTES_MAX + 2 * (BLOCK_BYTES_MAX as usize));
    assert!(marks::RUN_DAYS_MAX < marks::KEPT_DAYS && marks::LISTING_DAYS_MAX < marks::KEPT_DAYS);
    assert!(marks::GRACE_DAYS_MAX < marks::LIFE_DAYS);
    assert!(map::BYTES_TARGET + page::BYTES_MAX < map::BYTES_MAX);
};

/// What a binary object is; part of its header and of the choice of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// `points/<source>/<time>-<random>-<sha256>`.
    Manifest = 1,
    /// `maps/<aa>/<sha256>`.
    Map = 2,
    /// `packs/<aa>/<sha256>`.
    Pack = 3,
    /// `runs/<source>/<run>/checkpoint-<n>`.
    Checkpoint = 4,
}

/// How a record's body was made from its plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Raw = 0,
    /// DEFLATE (RFC 1951), no wrapper.
    Deflate = 1,
}

impl Codec {
    /// The codec of a number; `None` for one this program does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Deflate),
            _ => None,
        }
    }
}
