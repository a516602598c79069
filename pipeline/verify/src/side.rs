//! The two sides of a comparison, and a pair of anything that both have.

use std::fmt;

use serde::Serialize;

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The copy of the block path.
    Block,
    /// The copy of the archive path.
    Archive,
}

impl Side {
    /// Both, in the order in which they are shown.
    pub const BOTH: [Self; 2] = [Self::Block, Self::Archive];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Block => Self::Archive,
            Self::Archive => Self::Block,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::Archive => "archive",
        })
    }
}

/// One value a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Both<T> {
    /// The block side's.
    pub block: T,
    /// The archive side's.
    pub archive: T,
}

impl<T> Both<T> {
    /// The value of one side.
    pub fn get(&self, side: Side) -> &T {
        match side {
            Side::Block => &self.block,
            Side::Archive => &self.archive,
        }
    }

    /// The value of one side, to change it.
    pub fn get_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Block => &mut self.block,
            Side::Archive => &mut self.archive,
        }
    }

    /// Each side with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Side, &T)> {
        Side::BOTH.into_iter().map(|side| (side, self.get(side)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_value_and_word() {
        let mut both = Both { block: 1, archive: 2 };
        *both.get_mut(Side::Block) += 10;
        *both.get_mut(Side::Archive) += 20;
        let told: Vec<_> = both.iter().map(|(side, value)| format!("{side} {value}, not {}", side.other())).collect();
        assert_eq!(told, ["block 11, not archive", "archive 22, not block"]);
    }
}
