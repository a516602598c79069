//! What both sides witnessed, and what only one of them could.

use serde::Serialize;

use crate::side::Side;

/// How many entries one side alone could witness in some respect, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OneSided {
    /// Only the block copy.
    pub block_only: u64,
    /// Only the archive copy.
    pub archive_only: u64,
    /// Neither, this time.
    pub neither: u64,
}

impl OneSided {
    /// Counts one entry that not both sides witnessed.
    pub(crate) fn add(&mut self, witness: Option<Side>) {
        match witness {
            Some(Side::Block) => self.block_only += 1,
            Some(Side::Archive) => self.archive_only += 1,
            None => self.neither += 1,
        }
    }

    /// All of them.
    pub const fn total(self) -> u64 {
        self.block_only + self.archive_only + self.neither
    }
}

/// The weight of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Entries that both sides list and that agree in everything both can see.
    pub entries: u64,
    /// Files whose content both sides hashed, with the same digest.
    pub content_files: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Entries whose times were compared to the second, since a side knows no more.
    pub times_to_the_second: u64,
    /// Files whose content not both sides read: another slice, or unreadable.
    pub content: OneSided,
    /// Entries whose extended attributes not both sides could see.
    pub xattrs: OneSided,
    /// Links whose target, or nodes whose numbers, not both sides could see.
    pub targets: OneSided,
    /// Hard links beyond what memory holds.
    pub links_unchecked: u64,
    /// Entries that only one side lists because the other ended early.
    pub unheard: OneSided,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_counts_add_up() {
        let mut count = OneSided::default();
        for witness in [Some(Side::Block), Some(Side::Archive), Some(Side::Archive), None] {
            count.add(witness);
        }
        assert_eq!((count.block_only, count.archive_only, count.neither, count.total()), (1, 2, 1, 4));
    }
}
