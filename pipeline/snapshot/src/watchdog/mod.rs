//! The watchdog: a process of its own that freezes, and thaws whatever happens to the others.
//!
//! ```text
//!   dualsync                                watchdog TREE LIMIT_MS
//!   leash::Leash ──── order lines ────▶ stdin     child::watchdog_main
//!                ◀─── answer lines ──── stdout
//! ```
//!
//! It opens the tree *before* it freezes, locks its memory, leaves the session and the working
//! directory, ignores the signals that end a service, and then touches nothing but the
//! descriptors it holds: there is no step between freeze and thaw that could wait for the
//! frozen file system. It thaws when told, when its standard input closes (the other side died,
//! by SIGKILL too), when the limit is over on the boot-time clock, and when it panics.
//! What remains: SIGKILL to the watchdog itself leaves the file system frozen until the
//! other side, which notices, thaws it; SIGKILL to both at once leaves it frozen.

pub(crate) mod child;

pub(crate) mod leash;

use std::fmt;

/// What the leash asks of the watchdog, a word a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Is it still frozen?
    Check,
    /// Thaw and end.
    Thaw,
}

/// What the watchdog says, a word a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The file system stands still from here on.
    Frozen,
    /// It still does.
    Valid,
    /// It does not: somebody else thawed it.
    Lost,
    /// The limit was over; it is thawed now.
    Expired,
    /// Thawed as ordered.
    Thawed,
    /// An operation failed with this error number; after `freeze` nothing is frozen.
    Failed(Step, i32),
}

/// The watchdog's operations that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opening the tree.
    Open,
    /// Leaving session, memory swapping and signals behind.
    Prepare,
    /// Writing back what is dirty, so that the freeze itself is short.
    Flush,
    /// Freezing.
    Freeze,
    /// Looking whether it is still frozen.
    Check,
    /// Thawing.
    Thaw,
}

impl Step {
    const ALL: [Self; 6] = [Self::Open, Self::Prepare, Self::Flush, Self::Freeze, Self::Check, Self::Thaw];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Prepare => "prepare",
            Self::Flush => "flush",
            Self::Freeze => "freeze",
            Self::Check => "check",
            Self::Thaw => "thaw",
        })
    }
}

impl Order {
    const ALL: [Self; 2] = [Self::Check, Self::Thaw];

    fn line(self) -> &'static str {
        match self {
            Self::Check => "check\n",
            Self::Thaw => "thaw\n",
        }
    }
}

impl Answer {
    const PLAIN: [Self; 5] = [Self::Frozen, Self::Valid, Self::Lost, Self::Expired, Self::Thawed];

    fn line(self) -> String {
        match self {
            Self::Frozen => "frozen\n".to_owned(),
            Self::Valid => "valid\n".to_owned(),
            Self::Lost => "lost\n".to_owned(),
            Self::Expired => "expired\n".to_owned(),
            Self::Thawed => "thawed\n".to_owned(),
            Self::Failed(step, errno) => format!("failed {step} {errno}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        if let Some(plain) = Self::PLAIN.into_iter().find(|answer| answer.line() == line) {
            return Some(plain);
        }
        let (step, errno) = line.strip_prefix("failed ")?.strip_suffix('\n')?.split_once(' ')?;
        let step = Step::ALL.into_iter().find(|known| known.to_string() == step)?;
        Some(Self::Failed(step, errno.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_reads_back_and_nothing_else_does() {
        for answer in Answer::PLAIN.into_iter().chain(Step::ALL.map(|step| Answer::Failed(step, 16))) {
            assert_eq!(Answer::parse(&answer.line()), Some(answer));
        }
        for line in ["", "valid", "valid \n", "failed\n", "failed freeze\n", "failed melt 1\n", "failed freeze x\n"] {
            assert_eq!(Answer::parse(line), None, "{line:?}");
        }
    }
}
