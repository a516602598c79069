//! Where the pages of one point are stored: a list of locations, shared with earlier points.
//!
//! In a manifest it is cut into records of 4,096 references; in memory a page costs at most 96
//! bytes, so that a volume of 16 TiB in blocks of 128 KiB takes 12 MiB. It reads no page.

use std::collections::HashMap;

use crate::cursor::Cursor;
use crate::digest::{Blake3, Sha256};
use crate::format::manifest;
use crate::page::PageIndex;
use crate::seal::OpenError;

/// Where one stored page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// BLAKE3 of the page's plain bytes.
    pub digest: Blake3,
    /// The map object.
    pub object: Sha256,
    /// From the beginning of the object.
    pub offset: u32,
    /// Bytes of the record.
    pub length: u32,
}

/// How to get one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageRef {
    /// All its blocks are zero.
    #[default]
    Zero,
    /// One record.
    Full(Location),
    /// A full page, and what changed since.
    Delta {
        /// The full page.
        full: Location,
        /// The delta.
        delta: Location,
    },
}

impl PageRef {
    /// Every stored page it needs.
    pub fn locations(&self) -> impl Iterator<Item = Location> {
        match *self {
            Self::Zero => [None, None],
            Self::Full(full) => [Some(full), None],
            Self::Delta { full, delta } => [Some(full), Some(delta)],
        }
        .into_iter()
        .flatten()
    }
}

const KIND_ZERO: u32 = 0;
const KIND_FULL: u32 = 1;
const KIND_BASE: u32 = 2;
const KIND_DELTA: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Compact {
    digest: Blake3,
    object: u32,
    offset: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Zero,
    Full(Compact),
    Delta { full: Compact, delta: Compact },
}

/// The pages of one point, in order.
#[derive(Clone, Debug, Default)]
pub struct PageTable {
    objects: Vec<Sha256>,
    numbers: HashMap<Sha256, u32>,
    slots: Vec<Slot>,
}

impl PartialEq for PageTable {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl PageTable {
    /// How many pages.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A page's reference; zero past the end.
    pub fn get(&self, index: PageIndex) -> PageRef {
        let slot = usize::try_from(index.0).ok().and_then(|index| self.slots.get(index));
        match slot {
            None | Some(Slot::Zero) => PageRef::Zero,
            Some(Slot::Full(full)) => PageRef::Full(self.expand(*full)),
            Some(Slot::Delta { full, delta }) => {
                PageRef::Delta { full: self.expand(*full), delta: self.expand(*delta) }
            }
        }
    }

    /// Every page, in order.
    pub fn iter(&self) -> impl Iterator<Item = PageRef> + '_ {
        (0..self.slots.len() as u64).map(|index| self.get(PageIndex(index)))
    }

    /// Appends a page.
    pub fn push(&mut self, page: PageRef) {
        let slot = self.compact(page);
        self.slots.push(slot);
    }

    /// Says where a page is now.
    ///
    /// # Panics
    /// Past the end.
    pub fn set(&mut self, index: PageIndex, page: PageRef) {
        let slot = self.compact(page);
        let index = usize::try_from(index.0).expect("pages are counted by a usize");
        self.slots[index] = slot;
    }

    fn expand(&self, compact: Compact) -> Location {
        let Compact { digest, object, offset, length } = compact;
        Location { digest, object: self.objects[object as usize], offset, length }
    }

    fn compact(&mut self, page: PageRef) -> Slot {
        match page {
            PageRef::Zero => Slot::Zero,
            PageRef::Full(full) => Slot::Full(self.intern(full)),
            PageRef::Delta { full, delta } => Slot::Delta { full: self.intern(full), delta: self.intern(delta) },
        }
    }

    fn intern(&mut self, location: Location) -> Compact {
        let Location { digest, object, offset, length } = location;
        let next = u32::try_from(self.objects.len()).expect("far fewer map objects than 2^32");
        let number = *self.numbers.entry(object).or_insert_with(|| {
            self.objects.push(object);
            next
        });
        Compact { digest, object: number, offset, length }
    }

    /// The map objects in use, in order of their names, with the bytes in use of each.
    pub fn live_objects(&self) -> Vec<(Sha256, u64)> {
        let mut live: HashMap<Sha256, u64> = HashMap::new();
        for location in self.iter().flat_map(|page| page.locations().collect::<Vec<_>>()) {
            *live.entry(location.object).or_default() += u64::from(location.length);
        }
        let mut live: Vec<_> = live.into_iter().collect();
        live.sort_unstable_by_key(|(object, _)| *object);
        live
    }

    /// Plain bytes of the records, 4,096 references each; object numbers are positions in
    /// [`Self::live_objects`].
    pub fn encode_records(&self) -> Vec<Vec<u8>> {
        let names: HashMap<Sha256, u32> =
            (0..).zip(self.live_objects()).map(|(number, (object, _))| (object, number)).collect();
        let mut items = Vec::new();
        for page in self.iter() {
            match page {
                PageRef::Zero => items.push((KIND_ZERO, None)),
                PageRef::Full(full) => items.push((KIND_FULL, Some(full))),
                PageRef::Delta { full, delta } => items.extend([(KIND_BASE, Some(full)), (KIND_DELTA, Some(delta))]),
            }
        }
        let encode =
            |items: &[(u32, Option<Location>)]| items.iter().flat_map(|item| encode_item(*item, &names)).collect();
        items.chunks(manifest::PAGE_REFS_PER_RECORD).map(encode).collect()
    }
}

fn encode_item(
    (kind, location): (u32, Option<Location>),
    names: &HashMap<Sha256, u32>,
) -> [u8; manifest::PAGE_REF_BYTES] {
    let mut out = [0; manifest::PAGE_REF_BYTES];
    if let Some(location) = location {
        out[..32].copy_from_slice(&location.digest.0);
        out[32..36].copy_from_slice(&names[&location.object].to_le_bytes());
        out[36..40].copy_from_slice(&location.offset.to_le_bytes());
        out[40..44].copy_from_slice(&location.length.to_le_bytes());
    }
    out[44..].copy_from_slice(&kind.to_le_bytes());
    out
}

/// Reads the records of a page table, one after the other.
pub struct TableReader {
    names: Vec<Sha256>,
    table: PageTable,
    base: Option<Location>,
}

impl TableReader {
    /// A reader; object numbers are positions in `names`.
    pub fn new(names: Vec<Sha256>) -> Self {
        Self { names, table: PageTable::default(), base: None }
    }

    /// Takes the plain bytes of one record.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let digest = Blake3(cursor.array()?);
            let (object, offset, length, kind) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
            self.item(kind, digest, object, offset, length)?;
        }
        Ok(())
    }

    fn item(&mut self, kind: u32, digest: Blake3, object: u32, offset: u32, length: u32) -> Result<(), OpenError> {
        let location = || {
            let object = *self.names.get(object as usize).ok_or(OpenError::Malformed("a page in an unnamed object"))?;
            Ok::<_, OpenError>(Location { digest, object, offset, length })
        };
        match (kind, self.base) {
            (KIND_ZERO, None) => self.table.push(PageRef::Zero),
            (KIND_FULL, None) => self.table.push(PageRef::Full(location()?)),
            (KIND_BASE, None) => self.base = Some(location()?),
            (KIND_DELTA, Some(full)) => {
                let delta = location()?;
                self.base = None;
                self.table.push(PageRef::Delta { full, delta });
            }
            _ => return Err(OpenError::Malformed("a page reference of an unknown kind")),
        }
        if self.table.len() as u64 > manifest::PAGES_MAX {
            return Err(OpenError::Malformed("a manifest with more pages than it may have"));
        }
        Ok(())
    }

    /// The table, once every record was taken.
    pub fn finish(self) -> Result<PageTable, OpenError> {
        match self.base {
            None => Ok(self.table),
            Some(_) => Err(OpenError::Truncated),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn location(n: u32) -> Location {
        Location {
            digest: Blake3::of(&n.to_le_bytes()),
            object: Sha256::of(&(n % 5).to_le_bytes()),
            offset: 80 + n,
            length: 1000 + n,
        }
    }

    fn page_ref() -> impl Strategy<Value = PageRef> {
        prop_oneof![
            Just(PageRef::Zero),
            (0_u32..1000).prop_map(|n| PageRef::Full(location(n))),
            (0_u32..1000, 0_u32..1000).prop_map(|(a, b)| PageRef::Delta { full: location(a), delta: location(b) }),
        ]
    }

    proptest! {
        #[test]
        fn a_table_reads_back(pages in proptest::collection::vec(page_ref(), 0..200)) {
            let mut table = PageTable::default();
            for page in &pages {
                table.push(*page);
            }
            prop_assert_eq!(table.iter().collect::<Vec<_>>(), pages);
            let mut reader = TableReader::new(table.live_objects().into_iter().map(|(object, _)| object).collect());
            for record in table.encode_records() {
                reader.record(&record).unwrap();
            }
            prop_assert_eq!(reader.finish().unwrap(), table);
        }

        #[test]
        fn foreign_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = TableReader::new(vec![Sha256::of(b"x")]);
            if reader.record(&bytes).is_ok() {
                let _ = reader.finish();
            }
        }
    }

    #[test]
    fn a_long_table_is_cut_into_records_even_inside_a_delta() {
        let mut table = PageTable::default();
        table.push(PageRef::Zero);
        for n in 0..5000 {
            table.push(PageRef::Delta { full: location(n), delta: location(n + 1) });
        }
        let records = table.encode_records();
        assert_eq!(records.len(), 3);
        let mut reader = TableReader::new(table.live_objects().into_iter().map(|(object, _)| object).collect());
        for record in &records {
            reader.record(record).unwrap();
        }
        assert_eq!(reader.finish().unwrap(), table);
    }

    #[test]
    fn live_bytes_are_counted_by_object() {
        let mut table = PageTable::default();
        table.push(PageRef::Full(location(1)));
        table.push(PageRef::Delta { full: location(6), delta: location(2) });
        table.set(PageIndex(0), PageRef::Full(location(11)));
        let live: HashMap<_, _> = table.live_objects().into_iter().collect();
        assert_eq!(live[&location(1).object], 1011 + 1006);
        assert_eq!(live[&location(2).object], 1002);
    }
}
