//! How many bytes of each pack the point being made uses.
//!
//! Counted page by page as pages are settled, so that it is exact and needs no second look at the
//! map. It becomes the clear list of the manifest, and tells which packs have become sparse.

use std::collections::HashMap;

use crate::digest::Sha256;
use crate::manifest::Reference;
use crate::page::Page;

/// Bytes in use by pack, and the size of every pack that is known.
#[derive(Debug, Default)]
pub struct PackUses {
    sizes: HashMap<Sha256, u32>,
    live: HashMap<Sha256, u64>,
    blocks: u64,
}

impl PackUses {
    /// A pack of this size exists.
    pub fn know(&mut self, pack: Sha256, size: u32) {
        self.sizes.insert(pack, size);
    }

    /// The point has this page.
    pub fn add(&mut self, page: &Page) {
        for block in page.iter().flatten() {
            *self.live.entry(block.pack.sha256).or_default() += u64::from(block.place.length);
            self.blocks += 1;
        }
    }

    /// The point does not have this page any more.
    pub fn remove(&mut self, page: &Page) {
        for block in page.iter().flatten() {
            self.blocks = self.blocks.saturating_sub(1);
            if let Some(live) = self.live.get_mut(&block.pack.sha256) {
                *live = live.saturating_sub(u64::from(block.place.length));
            }
        }
    }

    /// How many blocks are stored.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The packs in use, in order of their names; a pack of unknown size is named with the bytes in use.
    pub fn references(&self) -> Vec<Reference> {
        let mut references: Vec<_> = self
            .live
            .iter()
            .filter(|(_, live)| **live > 0)
            .map(|(sha256, live)| {
                let live = u32::try_from(*live).unwrap_or(u32::MAX);
                Reference { sha256: *sha256, size: self.sizes.get(sha256).copied().unwrap_or(live), live }
            })
            .collect();
        references.sort_unstable_by_key(|reference| reference.sha256);
        references
    }

    /// Packs of which less than `share_percent` is in use, the emptiest first, until their live
    /// bytes reach `bytes_max`.
    pub fn sparse(&self, share_percent: u64, bytes_max: u64) -> Vec<Reference> {
        let is_sparse =
            |reference: &Reference| u64::from(reference.live) * 100 < u64::from(reference.size) * share_percent;
        let mut sparse: Vec<_> = self.references().into_iter().filter(is_sparse).collect();
        sparse.sort_by_key(|reference| u64::from(reference.live) * 10_000 / u64::from(reference.size).max(1));
        let mut bytes = 0;
        sparse.retain(|reference| {
            bytes += u64::from(reference.live);
            bytes <= bytes_max
        });
        sparse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PageIndex;
    use crate::page::tests::block;

    fn page(blocks: &[u32]) -> Page {
        let mut page = Page::zero(PageIndex(0), 1024);
        for (position, n) in blocks.iter().enumerate() {
            page.set(position, Some(block(*n)));
        }
        page
    }

    #[test]
    fn bytes_are_counted_by_pack_and_taken_back() {
        let mut uses = PackUses::default();
        uses.add(&page(&[0, 7, 1]));
        uses.add(&page(&[14]));
        uses.remove(&page(&[7]));
        let pack = block(0).pack.sha256;
        uses.know(pack, 1000);
        let reference = uses.references().into_iter().find(|reference| reference.sha256 == pack).unwrap();
        assert_eq!(reference, Reference { sha256: pack, size: 1000, live: 100 + 114 });
        uses.remove(&page(&[0, 14, 1]));
        assert!(uses.references().is_empty() && uses.blocks() == 0);
    }

    #[test]
    fn the_emptiest_packs_come_first_and_only_as_many_as_allowed() {
        let mut uses = PackUses::default();
        uses.add(&page(&[0, 1, 2, 3]));
        for (n, size) in [(0, 1000), (1, 250), (2, 10_000), (3, 120)] {
            uses.know(block(n).pack.sha256, size);
        }
        let names = |sparse: Vec<Reference>| sparse.iter().map(|reference| reference.sha256).collect::<Vec<_>>();
        let [zero, one, two] = [0, 1, 2].map(|n| block(n).pack.sha256);
        assert_eq!(names(uses.sparse(50, u64::MAX)), [two, zero, one]);
        assert_eq!(names(uses.sparse(50, 210)), [two, zero]);
        assert_eq!(names(uses.sparse(0, u64::MAX)), []);
    }
}
