//! The two ways a copy is made.

use std::fmt;

/// Which of the two ways a copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// Fixed blocks of the device.
    Block,
    /// Tar members of the tree.
    Archive,
}

impl Mechanism {
    /// Both, in the order in which they are shown.
    pub const BOTH: [Self; 2] = [Self::Block, Self::Archive];

    /// The word in configuration, messages and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Archive => "archive",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Block => Self::Archive,
            Self::Archive => Self::Block,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_of_the_other_is_the_one() {
        for mechanism in Mechanism::BOTH {
            assert_ne!(mechanism.other(), mechanism);
            assert_eq!(mechanism.other().other(), mechanism);
        }
        assert_eq!(Mechanism::BOTH.map(|m| m.to_string()), ["block", "archive"]);
    }
}
