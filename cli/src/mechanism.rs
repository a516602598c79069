//! The two mechanisms by name, and a pair of anything that both have.

pub use dualsync_rules::mechanism::Mechanism;
use serde::{Deserialize, Serialize};

/// One thing for each mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// The block path's.
    pub block: T,
    /// The archive path's.
    pub archive: T,
}

impl<T> Pair<T> {
    /// Makes one for each.
    pub fn new(mut make: impl FnMut(Mechanism) -> T) -> Self {
        Self { block: make(Mechanism::Block), archive: make(Mechanism::Archive) }
    }

    /// The one of `mechanism`.
    pub const fn get(&self, mechanism: Mechanism) -> &T {
        match mechanism {
            Mechanism::Block => &self.block,
            Mechanism::Archive => &self.archive,
        }
    }

    /// The one of `mechanism`, to be changed.
    pub const fn get_mut(&mut self, mechanism: Mechanism) -> &mut T {
        match mechanism {
            Mechanism::Block => &mut self.block,
            Mechanism::Archive => &mut self.archive,
        }
    }

    /// Both with their mechanism.
    pub fn iter(&self) -> impl Iterator<Item = (Mechanism, &T)> {
        Mechanism::BOTH.into_iter().map(|mechanism| (mechanism, self.get(mechanism)))
    }
}
