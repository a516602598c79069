//! A map page: where each of 1,024 blocks is stored, and its BLAKE3.
//!
//! A page is stored *full*, or as a *delta*: the digest of a full page and at most 128 changed
//! blocks, so that scattered writes do not rewrite whole pages. A delta never stands on a delta.
//! Zero blocks take one bit. Packs are named in a table of the page, with the salt that opens one
//! record of theirs alone. Encoding is canonical: equal pages have equal bytes and one digest.

use crate::cursor::Cursor;
use crate::digest::{Blake3, Sha256};
use crate::format::{SALT_BYTES, page};
use crate::pack::Place;
use crate::seal::OpenError;

/// Number of a page inside a point: it covers blocks `1024 * index ..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u64);

/// A pack, and what opens its records one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackRef {
    /// Its name.
    pub sha256: Sha256,
    /// Its salt.
    pub salt: [u8; SALT_BYTES],
}

/// A stored block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Of its plain bytes.
    pub hash: Blake3,
    /// The pack that holds it.
    pub pack: PackRef,
    /// Where in the pack.
    pub place: Place,
}

/// An entry as it lies in memory: the pack is an index into the page's table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: Blake3,
    pack: u16,
    place: Place,
}

/// What one page says of its blocks; `None` is a block of zeros.
#[derive(Clone, Debug)]
pub struct Page {
    index: PageIndex,
    slots: Vec<Option<Slot>>,
    packs: Vec<PackRef>,
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.iter().eq(other.iter())
    }
}

impl Page {
    /// A page of `blocks` zero blocks, at most 1,024.
    pub fn zero(index: PageIndex, blocks: usize) -> Self {
        Self { index, slots: vec![None; blocks.min(page::BLOCKS)], packs: Vec::new() }
    }

    /// Which page it is.
    pub fn index(&self) -> PageIndex {
        self.index
    }

    /// How many blocks it covers.
    pub fn blocks(&self) -> usize {
        self.slots.len()
    }

    /// The block at `position`; `None` for zeros and past the end.
    pub fn get(&self, position: usize) -> Option<StoredBlock> {
        let slot = self.slots.get(position).copied().flatten()?;
        Some(StoredBlock { hash: slot.hash, pack: *self.packs.get(usize::from(slot.pack))?, place: slot.place })
    }

    /// Every block, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<StoredBlock>> + '_ {
        (0..self.slots.len()).map(|position| self.get(position))
    }

    /// Whether no block is stored.
    pub fn is_zero(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Says what the block at `position` is now.
    ///
    /// # Panics
    /// Past the end of the page.
    pub fn set(&mut self, position: usize, block: Option<StoredBlock>) {
        let slot = block.map(|block| Slot { hash: block.hash, pack: self.intern(block.pack), place: block.place });
        self.slots[position] = slot;
    }

    /// The same page with `blocks` blocks: cut off, or longer by zeros. A source that grew keeps its last page.
    #[must_use]
    pub fn resized(mut self, blocks: usize) -> Self {
        self.slots.resize(blocks.min(page::BLOCKS), None);
        self
    }

    fn intern(&mut self, pack: PackRef) -> u16 {
        let known = self.packs.iter().position(|known| known.sha256 == pack.sha256);
        let index = known.unwrap_or_else(|| {
            if self.packs.len() >= 2 * page::BLOCKS {
                self.forget_unused_packs();
            }
            self.packs.push(pack);
            self.packs.len() - 1
        });
        u16::try_from(index).expect("the table is swept before it has more than 2,048 packs")
    }

    /// Packs in the order of their first use, unused ones gone.
    fn forget_unused_packs(&mut self) {
        let mut packs = Vec::new();
        let mut renamed = vec![None; self.packs.len()];
        for slot in self.slots.iter_mut().flatten() {
            let new = *renamed[usize::from(slot.pack)].get_or_insert_with(|| {
                packs.push(self.packs[usize::from(slot.pack)]);
                packs.len() - 1
            });
            slot.pack = u16::try_from(new).expect("at most 1,024 packs are in use");
        }
        self.packs = packs;
    }

    /// The bytes of a full page.
    pub fn encode(&self) -> Vec<u8> {
        let mut canonical = self.clone();
        canonical.forget_unused_packs();
        let stored: Vec<Slot> = canonical.slots.iter().copied().flatten().collect();
        let mut out = Vec::with_capacity(page::HEAD_BYTES + page::BITMAP_BYTES + stored.len() * page::ENTRY_BYTES);
        encode_head(page::KIND_FULL, &canonical, stored.len(), &mut out);
        let mut bitmap = [0_u8; page::BITMAP_BYTES];
        for (position, _) in canonical.slots.iter().enumerate().filter(|(_, slot)| slot.is_some()) {
            bitmap[position / 8] |= 1 << (position % 8);
        }
        out.extend_from_slice(&bitmap);
        encode_arrays(&canonical.packs, stored.iter().copied().map(Some), &mut out);
        out
    }

    /// What changed from `base` to `self`; `None` when it is too much for a delta.
    pub fn delta_from(&self, base: &Self, base_digest: Blake3) -> Option<Delta> {
        if self.blocks() != base.blocks() || self.index != base.index {
            return None;
        }
        let mut changed = Self { index: self.index, slots: vec![None; page::BLOCKS], packs: Vec::new() };
        let mut positions = Vec::new();
        for (position, (old, new)) in base.iter().zip(self.iter()).enumerate() {
            if old != new {
                if positions.len() == page::DELTA_MAX {
                    return None;
                }
                changed.set(position, new);
                positions.push(position);
            }
        }
        changed.slots.truncate(self.blocks());
        Some(Delta { base: base_digest, positions, changed })
    }
}

/// A page told as the difference from a full page.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    base: Blake3,
    /// Ascending.
    positions: Vec<usize>,
    /// Only `positions` of it mean anything.
    changed: Page,
}

impl Delta {
    /// The digest of the full page it stands on.
    pub fn base(&self) -> Blake3 {
        self.base
    }

    /// The page it tells, given the full page, which must be the right one.
    pub fn apply(&self, base: &Page) -> Result<Page, OpenError> {
        if base.index != self.changed.index || base.blocks() != self.changed.blocks() {
            return Err(OpenError::Malformed("a delta page that stands on another page"));
        }
        let mut page = base.clone();
        for position in &self.positions {
            page.set(*position, self.changed.get(*position));
        }
        Ok(page)
    }

    /// The bytes of a delta page.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode_head(page::KIND_DELTA, &self.changed, self.positions.len(), &mut out);
        out.extend_from_slice(&self.base.0);
        for position in &self.positions {
            out.extend_from_slice(&small(*position).to_le_bytes());
        }
        let slots = self.positions.iter().map(|position| self.changed.slots[*position]);
        encode_arrays(&self.changed.packs, slots, &mut out);
        out
    }
}

/// What a stored page was.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// It stands alone.
    Full(Page),
    /// It needs its base.
    Delta(Delta),
}

/// A count or position inside a page as the format's number.
fn small(number: usize) -> u16 {
    u16::try_from(number).expect("a page counts to 1,024")
}

fn encode_head(kind: u16, page: &Page, entries: usize, out: &mut Vec<u8>) {
    for field in [kind, small(page.blocks()), small(entries), small(page.packs.len())] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&page.index.0.to_le_bytes());
}

fn encode_arrays(packs: &[PackRef], slots: impl Iterator<Item = Option<Slot>> + Clone, out: &mut Vec<u8>) {
    for pack in packs {
        out.extend_from_slice(&pack.sha256.0);
        out.extend_from_slice(&pack.salt);
    }
    for slot in slots.clone() {
        out.extend_from_slice(&slot.map_or([0; 32], |slot| slot.hash.0));
    }
    for slot in slots.clone() {
        out.extend_from_slice(&slot.map_or(page::PACK_ZERO, |slot| slot.pack).to_le_bytes());
    }
    for slot in slots.clone() {
        out.extend_from_slice(&slot.map_or(0, |slot| slot.place.offset).to_le_bytes());
    }
    for slot in slots {
        out.extend_from_slice(&slot.map_or(0, |slot| slot.place.length).to_le_bytes());
    }
}

/// Reads the plain bytes of a page.
pub fn decode(bytes: &[u8]) -> Result<Decoded, OpenError> {
    let mut cursor = Cursor::new(bytes);
    let (kind, blocks, entries, packs) = (cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?);
    let head =
        Head { index: PageIndex(cursor.u64()?), blocks: blocks.into(), entries: entries.into(), packs: packs.into() };
    if head.blocks > page::BLOCKS || head.entries > head.blocks || head.packs > head.entries {
        return Err(OpenError::Malformed("a page that counts more than it may"));
    }
    let decoded = match kind {
        page::KIND_FULL => Decoded::Full(decode_full(&head, &mut cursor)?),
        page::KIND_DELTA => Decoded::Delta(decode_delta(&head, &mut cursor)?),
        _ => return Err(OpenError::Malformed("a page of an unknown kind")),
    };
    if !cursor.is_empty() {
        return Err(OpenError::Malformed("a page with bytes behind its end"));
    }
    Ok(decoded)
}

struct Head {
    index: PageIndex,
    blocks: usize,
    entries: usize,
    packs: usize,
}

fn decode_full(head: &Head, cursor: &mut Cursor<'_>) -> Result<Page, OpenError> {
    let bitmap: [u8; page::BITMAP_BYTES] = cursor.array()?;
    let stored = |position: &usize| bitmap[*position / 8] >> (*position % 8) & 1 == 1;
    let positions: Vec<usize> = (0..page::BLOCKS).filter(stored).collect();
    if positions.len() != head.entries || positions.last().is_some_and(|last| *last >= head.blocks) {
        return Err(OpenError::Malformed("a page whose bitmap does not fit its counts"));
    }
    let decoded = decode_arrays(head, &positions, cursor)?;
    if positions.iter().any(|position| decoded.slots[*position].is_none()) {
        return Err(OpenError::Malformed("a full page with a zero among its stored blocks"));
    }
    Ok(decoded)
}

fn decode_delta(head: &Head, cursor: &mut Cursor<'_>) -> Result<Delta, OpenError> {
    let base = Blake3(cursor.array()?);
    let positions = (0..head.entries).map(|_| cursor.u16().map(usize::from)).collect::<Result<Vec<_>, _>>()?;
    let in_order = positions.is_sorted_by(|a, b| a < b) && positions.last().is_none_or(|last| *last < head.blocks);
    if head.entries > page::DELTA_MAX || !in_order {
        return Err(OpenError::Malformed("a delta page whose positions are not in order"));
    }
    let changed = decode_arrays(head, &positions, cursor)?;
    Ok(Delta { base, positions, changed })
}

fn decode_arrays(head: &Head, positions: &[usize], cursor: &mut Cursor<'_>) -> Result<Page, OpenError> {
    let mut packs = Vec::with_capacity(head.packs);
    for _ in 0..head.packs {
        packs.push(PackRef { sha256: Sha256(cursor.array()?), salt: cursor.array()? });
    }
    let count = positions.len();
    let mut hashes = Cursor::new(cursor.bytes(count * 32)?);
    let mut numbers = Cursor::new(cursor.bytes(count * 2)?);
    let mut offsets = Cursor::new(cursor.bytes(count * 4)?);
    let mut lengths = Cursor::new(cursor.bytes(count * 4)?);
    let mut slots = vec![None; head.blocks];
    for position in positions {
        let (hash, pack) = (Blake3(hashes.array()?), numbers.u16()?);
        let place = Place { offset: offsets.u32()?, length: lengths.u32()? };
        if pack == page::PACK_ZERO {
            continue;
        }
        if usize::from(pack) >= head.packs {
            return Err(OpenError::Malformed("a page that names a pack it does not have"));
        }
        slots[*position] = Some(Slot { hash, pack, place });
    }
    Ok(Page { index: head.index, slots, packs })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block that is told from others by `n`.
    pub fn block(n: u32) -> StoredBlock {
        StoredBlock {
            hash: Blake3::of(&n.to_le_bytes()),
            pack: PackRef { sha256: Sha256::of(&(n % 7).to_le_bytes()), salt: [u8::try_from(n % 7).unwrap(); 32] },
            place: Place { offset: n * 100, length: 100 + n },
        }
    }

    fn page_of(blocks: &[Option<u32>]) -> Page {
        let mut page = Page::zero(PageIndex(9), blocks.len());
        for (position, n) in blocks.iter().enumerate() {
            page.set(position, n.map(block));
        }
        page
    }

    fn blocks() -> impl Strategy<Value = Vec<Option<u32>>> {
        proptest::collection::vec(proptest::option::weighted(0.7, 0_u32..5000), 0..=page::BLOCKS)
    }

    proptest! {
        #[test]
        fn a_full_page_reads_back_and_its_encoding_is_canonical(blocks in blocks(), detour in 0_u32..100) {
            let page = page_of(&blocks);
            let bytes = page.encode();
            prop_assert!(bytes.len() <= page::BYTES_MAX);
            prop_assert_eq!(decode(&bytes).unwrap(), Decoded::Full(page.clone()));
            // The same page reached on another way has the same bytes.
            let mut other = page_of(&blocks.iter().map(|n| n.map(|n| n + detour)).collect::<Vec<_>>());
            for (position, n) in blocks.iter().enumerate() {
                other.set(position, n.map(block));
            }
            prop_assert_eq!(other.encode(), bytes);
        }

        #[test]
        fn a_delta_tells_the_page_or_is_refused(
            blocks in proptest::collection::vec(proptest::option::weighted(0.7, 0_u32..5000), 200..300),
            changes in proptest::collection::vec((0_usize..200, proptest::option::weighted(0.7, 5000_u32..9000)), 0..200),
        ) {
            let base = page_of(&blocks);
            let mut new = base.clone();
            for (position, n) in &changes {
                new.set(*position, n.map(block));
            }
            let differing = base.iter().zip(new.iter()).filter(|(old, new)| old != new).count();
            let digest = Blake3::of(&base.encode());
            match new.delta_from(&base, digest) {
                None => prop_assert!(differing > page::DELTA_MAX),
                Some(delta) => {
                    prop_assert!(differing <= page::DELTA_MAX);
                    let Decoded::Delta(read) = decode(&delta.encode()).unwrap() else { panic!("a delta reads as one") };
                    prop_assert_eq!(read.base(), digest);
                    prop_assert_eq!(read.apply(&base).unwrap(), new);
                }
            }
        }

        #[test]
        fn foreign_bytes_are_an_answer(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            kind in 0_u8..4,
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_page_is_an_answer(blocks in blocks(), at in any::<proptest::sample::Index>(), value in any::<u8>()) {
            let mut bytes = page_of(&blocks).encode();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(Decoded::Full(page)) = decode(&bytes) {
                prop_assert!(page.iter().count() <= page::BLOCKS);
            }
            bytes.truncate(at);
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn zero_blocks_cost_a_bit() {
        let bytes = Page::zero(PageIndex(0), page::BLOCKS).encode();
        assert_eq!(bytes.len(), page::HEAD_BYTES + page::BITMAP_BYTES);
    }

    #[test]
    fn a_delta_on_the_wrong_page_is_refused() {
        let base = page_of(&[Some(1), Some(2)]);
        let delta = page_of(&[Some(1), None]).delta_from(&base, Blake3::of(b"")).unwrap();
        let mut elsewhere = base.clone();
        elsewhere.index = PageIndex(1);
        assert!(delta.apply(&elsewhere).is_err());
        assert!(delta.apply(&base.clone().resized(1)).is_err());
        assert_eq!(delta.apply(&base).unwrap().get(1), None);
    }

    #[test]
    fn a_table_of_packs_stays_small_under_many_changes() {
        let mut page = Page::zero(PageIndex(0), 2);
        for n in 0..5000_u32 {
            let mut block = block(n);
            block.pack.sha256 = Sha256::of(&n.to_le_bytes());
            page.set(0, Some(block));
        }
        assert!(page.packs.len() <= 2 * page::BLOCKS);
        assert_eq!(page.get(0).unwrap().place.offset, 499_900);
        let Decoded::Full(read) = decode(&page.encode()).unwrap() else { panic!("a full page reads as one") };
        assert_eq!(read.packs.len(), 1);
    }
}
