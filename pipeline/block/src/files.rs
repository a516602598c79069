//! Restores files out of a stored image: a few of them, or the tree. Nothing else is fetched.
//!
//! What a damaged object spoils is told as a finding with the files it hits, and the rest is
//! restored all the same. What stands in the way at the target is told as a warning.

use dualsync_model::event::{Event, Status, Warning};
use dualsync_model::id::PointId;

use crate::facts::{Blame, SIGN_OF_LIFE, Verdict};
use crate::view::inside::{Extract, Line, Work};
use crate::view::{BlockSource, DamagedRange, Reader, ReaderError, Seen, Setup, Unavailable};

/// Why nothing, or not everything, could be restored.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The image cannot be mounted or read.
    #[error("cannot restore files of {point}")]
    Reader {
        /// The point.
        point: PointId,
        /// Why.
        source: ReaderError,
    },
    /// The image cannot be mounted or read, and some of what is stored of it is damaged.
    #[error("cannot restore files of {point}: {objects} damaged objects spoil its file system")]
    Damaged {
        /// The point.
        point: PointId,
        /// How many findings were told.
        objects: usize,
        /// What the reader says.
        source: ReaderError,
    },
    /// The store does not answer.
    #[error("cannot read {point}")]
    Store {
        /// The point.
        point: PointId,
        /// Why.
        source: Unavailable,
    },
    /// The globs match nothing.
    #[error("{point} holds nothing that matches {globs}")]
    NothingMatches {
        /// The point.
        point: PointId,
        /// What was asked for.
        globs: String,
    },
}

impl FilesError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Reader { source: ReaderError::Failed { hint, .. }, .. } => hint.as_deref(),
            Self::NothingMatches { .. } => {
                Some("paths are relative to the tree; '*' stays within a name, '**' does not")
            }
            _ => None,
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries made; in a dry run, entries that would be.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Entries that a damaged object spoils.
    pub damaged: u64,
    /// Entries that were not made for another reason: a warning tells each.
    pub not_restored: u64,
    /// Damaged objects.
    pub findings: u64,
}

/// Restores what `extract` takes of `image`. Blocks; to be called on a thread of its own.
pub fn restore_files<S: BlockSource>(
    image: S,
    point: &PointId,
    target: &str,
    extract: Extract,
    setup: &Setup,
    tell: &mut dyn FnMut(Event),
) -> Result<Restored, FilesError> {
    let failed = |source| FilesError::Reader { point: point.clone(), source };
    let globs = extract.paths.join(", ");
    let mut reader = Reader::start(image, setup, Work::Extract(extract)).map_err(failed)?;
    let mut blame = Blame::default();
    let mut restored = Restored::default();
    let mut status = Status { phase: "restoring".to_owned(), ..Status::default() };
    loop {
        let next = reader.next(SIGN_OF_LIFE);
        if let Some(source) = reader.image().unavailable() {
            return Err(FilesError::Store { point: point.clone(), source });
        }
        let seen = match next {
            Ok(seen) => seen,
            Err(source) => return Err(gave_up(point, target, source, &reader.image().damages(), tell)),
        };
        match seen {
            Seen::Nothing => tell(Event::Status(status.clone())),
            Seen::Line(Line::Progress { entries, bytes, total }) => {
                (status.items_done, status.bytes_done, status.bytes_total) = (entries, bytes, total);
                tell(Event::Status(status.clone()));
            }
            Seen::Line(Line::Broken { fact, at, problem }) => {
                match blame.judge(&fact.path, at, &problem, &reader.image().damages()) {
                    Verdict::Damaged(_) => restored.damaged += 1,
                    Verdict::Unreadable(message) => {
                        restored.not_restored += 1;
                        let path = Some(fact.path);
                        tell(Event::Warning(Warning { code: "unreadable".to_owned(), message, path }));
                    }
                }
            }
            Seen::Line(Line::NotRestored { path, problem }) => {
                restored.not_restored += 1;
                let code = "not_restored".to_owned();
                tell(Event::Warning(Warning { code, message: problem, path: Some(path) }));
            }
            Seen::Line(Line::Done { entries, bytes }) => {
                (restored.entries, restored.bytes) = (entries, bytes);
                break;
            }
            Seen::Line(Line::Mounted { .. } | Line::Fact { .. } | Line::Failed { .. }) => {}
        }
    }
    let findings = blame.findings(target, point, &reader.image().damages());
    restored.findings = findings.len() as u64;
    for finding in findings {
        tell(Event::Finding(finding));
    }
    let touched = restored.entries + restored.damaged + restored.not_restored;
    if touched == 0 && !globs.is_empty() {
        return Err(FilesError::NothingMatches { point: point.clone(), globs });
    }
    Ok(restored)
}

/// A reader that gives up on an image with holes is no surprise: the holes are told, as the cause.
fn gave_up(
    point: &PointId,
    target: &str,
    source: ReaderError,
    damages: &[DamagedRange],
    tell: &mut dyn FnMut(Event),
) -> FilesError {
    let findings = Blame::default().findings(target, point, damages);
    let (point, objects) = (point.clone(), findings.len());
    for finding in findings {
        tell(Event::Finding(finding));
    }
    if objects == 0 { FilesError::Reader { point, source } } else { FilesError::Damaged { point, objects, source } }
}
