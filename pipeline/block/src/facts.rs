//! The verb `facts`: what a stored image holds, entry by entry, read back and hashed anew.
//!
//! The reader tells entries as it meets them; here they are sorted outside memory and given out in
//! the common order, after the findings. A file that cannot be read is told with the object that
//! is missing or wrong, which only this side knows: the view noted which bytes of the image it spoiled.

mod blame;

use std::time::Duration;

use dualsync_model::event::{Event, Status};
use dualsync_model::fact::{Fact, FactState};
use dualsync_model::id::PointId;
use dualsync_model::path::RawPath;
use dualsync_model::slice::Slice;

pub use self::blame::{Blame, Verdict};
use crate::view::inside::{Line, MountedBy, Work};
use crate::view::sort::{SortError, Sorter};
use crate::view::{BlockSource, DamagedRange, Reader, ReaderError, Seen, Setup, Unavailable};

/// Why a point has no facts.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The image cannot be mounted or read.
    #[error("cannot read the file system of {point}")]
    Reader {
        /// The point.
        point: PointId,
        /// Why.
        source: ReaderError,
    },
    /// The same, after damaged objects were met: findings tell them.
    #[error("{objects} damaged objects keep the file system of {point} from being read")]
    Damaged {
        /// The point.
        point: PointId,
        /// How many.
        objects: usize,
        /// Where the reader gave up.
        source: ReaderError,
    },
    /// The store does not answer: that is no damage, and no facts either.
    #[error("cannot read {point}")]
    Store {
        /// The point.
        point: PointId,
        /// Why.
        source: Unavailable,
    },
    /// Spill files.
    #[error(transparent)]
    Sort(#[from] SortError),
    /// A record that was written a moment ago does not read back.
    #[error("a sorted fact does not read back")]
    Record(#[from] serde_json::Error),
}

impl FactsError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Reader { source: ReaderError::Failed { hint, .. }, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

/// What to read of which point.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The point.
    pub point: &'a PointId,
    /// Name of the target, for findings.
    pub target: &'a str,
    /// Content is read of these paths only.
    pub slice: Option<Slice>,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries told.
    pub entries: u64,
    /// Bytes of content read.
    pub bytes: u64,
    /// Entries that a damaged object spoils.
    pub damaged: u64,
    /// Entries that cannot be read though nothing stored is wrong: the source was like that.
    pub unreadable: u64,
    /// Damaged objects.
    pub findings: u64,
}

/// How long the reader may be silent before a sign of life is given for it.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Tells every entry of `image` to `tell`: signs of life first, then findings, then the facts in
/// the common order. Blocks; to be called on a thread of its own.
pub fn facts<S: BlockSource>(
    image: S,
    question: &Question,
    setup: &Setup,
    tell: &mut dyn FnMut(Event),
) -> Result<Outcome, FactsError> {
    let failed = |source| FactsError::Reader { point: question.point.clone(), source };
    let mut reader = Reader::start(image, setup, Work::Facts { slice: question.slice }).map_err(failed)?;
    let mut sorter = Sorter::new(&setup.state.join("tmp"));
    let mut blame = Blame::default();
    let mut whole_seconds = false;
    let mut outcome = Outcome::default();
    let mut status = Status { phase: "verifying".to_owned(), ..Status::default() };
    loop {
        let next = reader.next(SIGN_OF_LIFE);
        // A silent store makes the reader fail in any way; it is the cause to be told.
        if let Some(source) = reader.image().unavailable() {
            return Err(FactsError::Store { point: question.point.clone(), source });
        }
        let seen = match next {
            Ok(seen) => seen,
            Err(source) => return Err(gave_up(question, source, &reader.image().damages(), tell)),
        };
        match seen {
            Seen::Nothing => tell(Event::Status(status.clone())),
            Seen::Line(Line::Mounted { by, .. }) => whole_seconds = by == MountedBy::Fuse2fs,
            Seen::Line(Line::Progress { entries, bytes, total }) => {
                (status.items_done, status.bytes_done, status.bytes_total) = (entries, bytes, total);
                tell(Event::Status(status.clone()));
            }
            Seen::Line(Line::Fact { fact }) => keep(&mut sorter, &fact)?,
            Seen::Line(Line::Broken { mut fact, at, problem }) => {
                fact.state = blame.judge(&fact.path, at, &problem, &reader.image().damages()).state();
                fact.mtime_whole_seconds = whole_seconds;
                keep(&mut sorter, &fact)?;
            }
            Seen::Line(Line::Done { bytes, .. }) => {
                outcome.bytes = bytes;
                break;
            }
            Seen::Line(Line::NotRestored { .. } | Line::Failed { .. }) => {}
        }
    }
    let findings = blame.findings(question.target, question.point, &reader.image().damages());
    drop(reader);
    outcome.findings = findings.len() as u64;
    for finding in findings {
        tell(Event::Finding(finding));
    }
    give_out(sorter, &mut outcome, tell)?;
    Ok(outcome)
}

/// A reader that gives up on an image with holes is no surprise: the holes are told, as the cause.
fn gave_up(
    question: &Question,
    source: ReaderError,
    damages: &[DamagedRange],
    tell: &mut dyn FnMut(Event),
) -> FactsError {
    let findings = Blame::default().findings(question.target, question.point, damages);
    let (point, objects) = (question.point.clone(), findings.len());
    for finding in findings {
        tell(Event::Finding(finding));
    }
    if objects == 0 { FactsError::Reader { point, source } } else { FactsError::Damaged { point, objects, source } }
}

fn keep(sorter: &mut Sorter, fact: &Fact) -> Result<(), FactsError> {
    Ok(sorter.add(order(&fact.path), serde_json::to_vec(fact)?)?)
}

/// The common order as bytes: `/` before every other byte; no name holds a NUL.
fn order(path: &RawPath) -> Vec<u8> {
    path.as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn give_out(sorter: Sorter, outcome: &mut Outcome, tell: &mut dyn FnMut(Event)) -> Result<(), FactsError> {
    let mut last: Option<Fact> = None;
    for record in sorter.finish()? {
        let next: Fact = serde_json::from_slice(&record?.1)?;
        match last.take() {
            // A folder whose names could not all be read is told twice.
            Some(first) if first.path == next.path => last = Some(merged(first, next)),
            Some(first) => {
                give(first, outcome, tell);
                last = Some(next);
            }
            None => last = Some(next),
        }
    }
    if let Some(last) = last {
        give(last, outcome, tell);
    }
    Ok(())
}

/// The entry with what is known of it and the worse state.
fn merged(first: Fact, second: Fact) -> Fact {
    let (known, state) = match (first.state == FactState::Good, second.state == FactState::Good) {
        (true, _) => (first, second.state),
        (false, true) => (second, first.state),
        (false, false) => return first,
    };
    Fact { state, ..known }
}

fn give(fact: Fact, outcome: &mut Outcome, tell: &mut dyn FnMut(Event)) {
    outcome.entries += 1;
    match fact.state {
        FactState::Damaged { .. } => outcome.damaged += 1,
        FactState::Unreadable { .. } => outcome.unreadable += 1,
        FactState::Good | FactState::Skipped | FactState::Changed { .. } | FactState::MountPoint => {}
    }
    tell(Event::Fact(Box::new(fact)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_keys_is_that_of_paths(a in "[a-c./!-]{0,6}", b in "[a-c./!-]{0,6}") {
            let (a, b) = (RawPath::new(a), RawPath::new(b));
            prop_assert_eq!(order(&a).cmp(&order(&b)), a.cmp(&b));
        }
    }
}
