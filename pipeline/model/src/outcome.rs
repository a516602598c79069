//! Exit codes: restic's meanings where they exist, one table for `dualsync` and both writers.

use std::fmt;

/// How a program ends. The order of the variants is the order of [`Exit::worst`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Stopped by a signal or by the user.
    Interrupted,
    /// Wrong usage, config or policy; nothing was touched.
    Usage,
    /// The key does not open this repository.
    WrongKey,
    /// There is no repository at the target.
    RepositoryMissing,
    /// Another run holds the lock.
    Locked,
    /// Failed.
    Failed,
    /// A copy is damaged or missing.
    Damaged,
    /// The copies differ.
    Differ,
    /// The evidence chain is broken.
    Evidence,
    /// A date the contract needs is not there.
    Contract,
    /// One copy was made, the other was not.
    Degraded,
    /// Done, but some entries could not be read.
    Incomplete,
    /// Done.
    Done,
}

impl Exit {
    /// Every exit, worst first.
    pub const ALL: [Self; 13] = [
        Self::Interrupted,
        Self::Usage,
        Self::WrongKey,
        Self::RepositoryMissing,
        Self::Locked,
        Self::Failed,
        Self::Damaged,
        Self::Differ,
        Self::Evidence,
        Self::Contract,
        Self::Degraded,
        Self::Incomplete,
        Self::Done,
    ];

    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Degraded => 4,
            Self::RepositoryMissing => 10,
            Self::Locked => 11,
            Self::WrongKey => 12,
            Self::Differ => 20,
            Self::Damaged => 21,
            Self::Contract => 22,
            Self::Evidence => 23,
            Self::Interrupted => 130,
        }
    }

    /// The exit of a number; an unknown one is a failure.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Failed)
    }

    /// The one that wins when several hold; [`Exit::Done`] of none.
    pub fn worst(exits: impl IntoIterator<Item = Self>) -> Self {
        exits.into_iter().min().unwrap_or(Self::Done)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "wrong usage or configuration",
            Self::Incomplete => "done, but some entries could not be read",
            Self::Degraded => "degraded: one copy was made, the other was not",
            Self::RepositoryMissing => "no repository at the target",
            Self::Locked => "locked by another run",
            Self::WrongKey => "the key does not open this repository",
            Self::Differ => "the copies differ",
            Self::Damaged => "a copy is damaged or missing",
            Self::Contract => "a date the contract needs is not there",
            Self::Evidence => "the evidence chain is broken",
            Self::Interrupted => "interrupted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_documented_one() {
        let codes: Vec<_> = Exit::ALL.map(Exit::code).into();
        assert_eq!(codes, [130, 2, 12, 10, 11, 1, 21, 20, 23, 22, 4, 3, 0]);
        assert!(Exit::ALL.is_sorted());
    }

    #[test]
    fn the_worst_wins_and_an_unknown_code_is_a_failure() {
        assert_eq!(Exit::worst([Exit::Degraded, Exit::Damaged, Exit::Done]), Exit::Damaged);
        assert_eq!(Exit::worst([]), Exit::Done);
        assert_eq!(Exit::from_code(99), Exit::Failed);
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), exit);
        }
    }
}
