//! A pack: up to 32 MiB of sealed blocks, their sealed table, and a footer.
//!
//! ```text
//! header ‖ block record* ‖ table record (last) ‖ footer
//! ```
//!
//! [`PackWriter`] fills one buffer and [`PackWriter::finish`] ends it; [`verify`] opens, inflates and
//! hashes every block of the finished bytes again and compares with what the writer meant, before
//! anything may name the pack. A block's record opens alone with its salt and place from the map.

use std::ops::{Deref, DerefMut};

use crate::codec::Compressor;
use crate::cursor::Cursor;
use crate::digest::{Blake3, Sha256};
use crate::format::{Codec, ObjectKind, SALT_BYTES, header, pack, record};
use crate::keys::KeyTree;
use crate::seal::{NoRandomness, ObjectOpener, ObjectSealer, OpenError, Scratch};

/// Where a block's record lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the beginning of the pack.
    pub offset: u32,
    /// Bytes of the record, head and tag included.
    pub length: u32,
}

/// One line of a pack's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Of the block's plain bytes.
    pub hash: Blake3,
    /// Where its record lies.
    pub place: Place,
    /// The block's size.
    pub plain_bytes: u32,
}

/// Fills one pack.
pub struct PackWriter<B> {
    sealer: ObjectSealer,
    buffer: B,
    entries: Vec<PackEntry>,
}

/// A finished pack that nothing names yet.
pub struct SealedPack<B> {
    /// The stored bytes.
    pub buffer: B,
    /// Their digest, the pack's name.
    pub sha256: Sha256,
    /// For opening one record alone.
    pub salt: [u8; SALT_BYTES],
    /// What is in it.
    pub entries: Vec<PackEntry>,
}

impl<B: DerefMut<Target = Vec<u8>>> PackWriter<B> {
    /// Begins a pack in `buffer`, which is emptied first.
    pub fn create(keys: &KeyTree, mut buffer: B) -> Result<Self, NoRandomness> {
        let sealer = ObjectSealer::create(keys, ObjectKind::Pack, Vec::new())?;
        let bytes = &mut *buffer;
        bytes.clear();
        bytes.extend_from_slice(sealer.header());
        Ok(Self { sealer, buffer, entries: Vec::new() })
    }

    /// Whether a block of `block_bytes` still fits, even one that does not shrink.
    pub fn has_room(&self, block_bytes: usize) -> bool {
        let end = self.buffer.len() + record::OVERHEAD_BYTES + block_bytes + pack::END_BYTES_MAX;
        end <= pack::BYTES_MAX && self.entries.len() < pack::BLOCKS_MAX
    }

    /// Compresses and seals `block`; its number among the pack's entries comes back.
    ///
    /// # Panics
    /// When there is no room: ask [`Self::has_room`] first.
    pub fn push(&mut self, hash: Blake3, block: &[u8], compressor: &mut Compressor) -> usize {
        assert!(self.has_room(block.len()), "a pack never grows past its buffer");
        let (codec, body) = compressor.compress(block);
        let bytes = &mut *self.buffer;
        let offset = number(bytes.len());
        self.sealer.record(codec, number(block.len()), body, bytes);
        let place = Place { offset, length: number(bytes.len()) - offset };
        self.entries.push(PackEntry { hash, place, plain_bytes: number(block.len()) });
        self.entries.len() - 1
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Seals the table, writes the footer and names the pack.
    pub fn finish(mut self) -> SealedPack<B> {
        let salt = self.sealer.salt();
        let bytes = &mut *self.buffer;
        let table_at = number(bytes.len());
        let table = encode_table(&self.entries);
        self.sealer.last(Codec::Raw, number(table.len()), &table, bytes);
        let table_bytes = number(bytes.len()) - table_at;
        for field in [table_at, table_bytes, number(self.entries.len()), 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&pack::FOOTER_MAGIC);
        let sha256 = Sha256::of(bytes);
        SealedPack { buffer: self.buffer, sha256, salt, entries: self.entries }
    }
}

/// A length inside a pack as the format's number.
fn number(length: usize) -> u32 {
    u32::try_from(length).expect("nothing in a pack is past its 32 MiB")
}

fn encode_table(entries: &[PackEntry]) -> Vec<u8> {
    let mut table = Vec::with_capacity(entries.len() * pack::ENTRY_BYTES);
    for entry in entries {
        table.extend_from_slice(&entry.hash.0);
        for field in [entry.place.offset, entry.place.length, entry.plain_bytes, 0] {
            table.extend_from_slice(&field.to_le_bytes());
        }
    }
    table
}

/// Reads the table of a whole pack.
pub fn read_table(keys: &KeyTree, bytes: &[u8]) -> Result<Vec<PackEntry>, OpenError> {
    let opener = ObjectOpener::new(keys, ObjectKind::Pack, bytes, Vec::new())?;
    let (body, footer) = bytes.split_last_chunk::<{ pack::FOOTER_BYTES }>().ok_or(OpenError::Truncated)?;
    if footer[pack::FOOTER_MAGIC_AT..] != pack::FOOTER_MAGIC {
        return Err(OpenError::Truncated);
    }
    let mut cursor = Cursor::new(footer);
    let (table_at, table_bytes, count, reserved) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let sealed = body.get(table_at as usize..).filter(|rest| rest.len() == table_bytes as usize);
    let sealed = sealed.filter(|_| count as usize <= pack::BLOCKS_MAX && reserved == 0);
    let sealed = sealed.ok_or(OpenError::Malformed("a pack whose footer does not fit it"))?;
    let mut table = Vec::new();
    let head = opener.open(sealed, pack::BLOCKS_MAX * pack::ENTRY_BYTES, &mut Scratch::default(), &mut table)?;
    if !head.last || head.number != count || table.len() != count as usize * pack::ENTRY_BYTES {
        return Err(OpenError::Malformed("a pack whose table does not fit its footer"));
    }
    let mut cursor = Cursor::new(&table);
    let mut entries = Vec::with_capacity(count as usize);
    while !cursor.is_empty() {
        let hash = Blake3(cursor.array()?);
        let place = Place { offset: cursor.u32()?, length: cursor.u32()? };
        let plain_bytes = cursor.u32()?;
        cursor.u32()?;
        entries.push(PackEntry { hash, place, plain_bytes });
    }
    Ok(entries)
}

/// Opens one block's record, which must become `block_bytes` that hash to `hash`.
pub fn open_block(
    opener: &ObjectOpener,
    sealed: &[u8],
    hash: Blake3,
    block_bytes_max: usize,
    scratch: &mut Scratch,
    plain: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let head = opener.open(sealed, block_bytes_max, scratch, plain)?;
    if head.record_bytes() != sealed.len() || head.last {
        return Err(OpenError::Malformed("a record that is no block's"));
    }
    if Blake3::of(plain) != hash {
        return Err(OpenError::Malformed("a block that is not the one the map names"));
    }
    Ok(())
}

/// Opens, inflates and hashes all of a finished pack again, and compares with what was meant.
pub fn verify<B: Deref<Target = Vec<u8>>>(
    keys: &KeyTree,
    sealed: &SealedPack<B>,
    scratch: &mut Scratch,
) -> Result<(), OpenError> {
    let bytes = sealed.buffer.as_slice();
    if read_table(keys, bytes)? != sealed.entries {
        return Err(OpenError::Malformed("a pack whose table is not the one that was written"));
    }
    let opener = ObjectOpener::new(keys, ObjectKind::Pack, bytes, Vec::new())?;
    let mut plain = Vec::new();
    let mut expected_at = header::BYTES;
    for entry in &sealed.entries {
        let Place { offset, length } = entry.place;
        if offset as usize != expected_at {
            return Err(OpenError::Malformed("a pack with a gap between its records"));
        }
        expected_at += length as usize;
        let record = bytes.get(offset as usize..expected_at).ok_or(OpenError::Truncated)?;
        open_block(&opener, record, entry.hash, entry.plain_bytes as usize, scratch, &mut plain)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Compression;
    use crate::codec::tests::{noise, text};
    use crate::keys::{RepositoryId, RepositoryKey};

    struct Buffer(Vec<u8>);

    impl Deref for Buffer {
        type Target = Vec<u8>;

        fn deref(&self) -> &Vec<u8> {
            &self.0
        }
    }

    impl DerefMut for Buffer {
        fn deref_mut(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }
    }

    fn keys() -> KeyTree {
        KeyTree::new(&RepositoryKey::new([3; 32]), RepositoryId([4; 16]))
    }

    fn sealed(blocks: &[Vec<u8>]) -> SealedPack<Buffer> {
        let mut writer = PackWriter::create(&keys(), Buffer(Vec::new())).unwrap();
        let mut compressor = Compressor::new(Compression::Fast);
        for block in blocks {
            writer.push(Blake3::of(block), block, &mut compressor);
        }
        writer.finish()
    }

    #[test]
    fn a_block_opens_alone_from_its_salt_and_place() {
        let blocks = [text(65_536, 1), noise(65_536, 2), text(65_536, 3)];
        let pack = sealed(&blocks);
        verify(&keys(), &pack, &mut Scratch::default()).unwrap();
        let opener = ObjectOpener::from_salt(&keys(), ObjectKind::Pack, pack.salt).pop().unwrap();
        for (entry, block) in pack.entries.iter().zip(&blocks) {
            let Place { offset, length } = entry.place;
            let record = &pack.buffer.0[offset as usize..][..length as usize];
            let mut plain = Vec::new();
            open_block(&opener, record, entry.hash, block.len(), &mut Scratch::default(), &mut plain).unwrap();
            assert_eq!(&plain, block);
        }
        assert_eq!(read_table(&keys(), &pack.buffer.0).unwrap(), pack.entries);
    }

    #[test]
    fn a_pack_never_passes_its_limits() {
        let mut compressor = Compressor::new(Compression::Fast);
        let fill = |block: &[u8], compressor: &mut Compressor| {
            let mut writer = PackWriter::create(&keys(), Buffer(Vec::new())).unwrap();
            while writer.has_room(block.len()) {
                writer.push(Blake3::of(block), block, compressor);
            }
            writer.finish()
        };
        let big = fill(&noise(1 << 20, 1), &mut compressor);
        assert!(big.buffer.0.len() <= pack::BYTES_MAX && big.buffer.0.len() > pack::BYTES_MAX - (2 << 20));
        let many = fill(&vec![7; 65_536], &mut compressor);
        assert_eq!(many.entries.len(), pack::BLOCKS_MAX);
        assert_eq!(read_table(&keys(), &many.buffer.0).unwrap().len(), pack::BLOCKS_MAX);
    }

    #[test]
    fn a_pack_that_differs_from_what_was_meant_is_not_let_through() {
        let mut wrong_block = sealed(&[text(65_536, 1)]);
        wrong_block.entries[0].hash = Blake3::of(b"another block");
        assert!(verify(&keys(), &wrong_block, &mut Scratch::default()).is_err());
        let good = sealed(&[text(65_536, 1), text(65_536, 2)]);
        let bytes = good.buffer.0.clone();
        for at in (0..bytes.len()).step_by(97).chain(bytes.len() - pack::FOOTER_BYTES..bytes.len()) {
            let mut bad = SealedPack {
                buffer: Buffer(bytes.clone()),
                sha256: good.sha256,
                salt: good.salt,
                entries: good.entries.clone(),
            };
            bad.buffer.0[at] ^= 1;
            assert!(verify(&keys(), &bad, &mut Scratch::default()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn foreign_bytes_in_the_place_of_a_pack_are_an_answer() {
        for length in [0, 10, 80, 104, 500] {
            assert!(read_table(&keys(), &noise(length, 1)).is_err());
            let mut long = sealed(&[text(65_536, 1)]).buffer.0;
            long.truncate(length);
            assert!(read_table(&keys(), &long).is_err());
        }
    }
}
