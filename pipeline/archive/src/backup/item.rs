//! An entry on its way from the producer to the catalog.

use serde::{Deserialize, Serialize};

use crate::backup::place::Place;
use crate::catalog::entry::{Entry, Part};
use crate::digest::Digest;
use crate::spool::Spool;

/// An entry whose place may still be open.
pub struct Item {
    /// The entry. Its `at` is final where it is set; [`Item::place`] becomes its `at` otherwise.
    pub entry: Entry,
    /// Where its member is, for members and contents found by this run.
    pub place: Option<Place>,
    /// The parts of a big file.
    pub parts: Parts,
}

/// Parts of a file.
pub enum Parts {
    /// It has none.
    None,
    /// Those of the parent's catalog.
    Old(Spool<Part>),
    /// Those that this run found when it read the file.
    New(Spool<NewPart>),
}

/// A part whose place may still be open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPart {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many they are.
    pub bytes: u64,
    /// Where its member is.
    pub place: Place,
}

impl Parts {
    /// How many.
    pub fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Old(parts) => parts.len(),
            Self::New(parts) => parts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
