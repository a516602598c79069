//! Reading stored objects, and saying what is wrong with one that does not read.
//!
//! An [`ObjectError`] names the object and the problem; [`ObjectError::is_damage`] parts what belongs
//! in a finding (the store answered, the object is wrong) from a store that does not answer, which
//! proves nothing about the object and ends the work.

use dualsync_block_store::contract::{ErrorKind, Key, StoreError};
use dualsync_model::event::Finding;
use dualsync_model::id::PointId;

use crate::document::DocumentError;
use crate::seal::OpenError;

/// A stored object that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("stored object '{object}'")]
pub struct ObjectError {
    /// Its key.
    pub object: Key,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a stored object.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The store did not give it.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// Its bytes are not the ones its name tells.
    #[error("its bytes do not have the digest they should have")]
    Digest,
    /// It does not open.
    #[error("it {0}")]
    Open(OpenError),
    /// It is no document.
    #[error("it {0}")]
    Document(#[source] DocumentError),
    /// It is longer than its kind may be.
    #[error("it is longer than an object of its kind may be")]
    TooLong,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        Self::Document(error)
    }
}

impl ObjectError {
    /// `object` has this problem.
    pub fn new(object: Key, problem: impl Into<Problem>) -> Self {
        Self { object, problem: problem.into() }
    }

    /// The fixed word of a finding.
    pub fn kind(&self) -> &'static str {
        match &self.problem {
            Problem::Store(error) => match error.kind() {
                ErrorKind::NotFound => "missing",
                ErrorKind::Truncated => "truncated",
                _ => "unreadable",
            },
            Problem::Digest => "digest",
            Problem::Open(error) => error.kind(),
            Problem::Document(_) | Problem::TooLong => "forged",
        }
    }

    /// Whether the object is wrong, as opposed to a store that does not answer.
    pub fn is_damage(&self) -> bool {
        match &self.problem {
            Problem::Store(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Truncated),
            _ => true,
        }
    }

    /// Whether the store answered: with the object, or with a refusal that may be of this object alone. What a key of somebody
    /// else seals, or what lies in an archive, is refused in many words.
    pub fn is_answer(&self) -> bool {
        let is_answer =
            |kind| matches!(kind, ErrorKind::Denied | ErrorKind::TooLarge | ErrorKind::Unsupported | ErrorKind::Other);
        self.is_damage() || matches!(&self.problem, Problem::Store(error) if is_answer(error.kind()))
    }

    /// The finding that tells it.
    pub fn finding(&self, target: &str, points: Vec<PointId>) -> Finding {
        Finding {
            target: target.to_owned(),
            object: self.object.to_string(),
            kind: self.kind().to_owned(),
            problem: sentence(&self.problem),
            points,
            paths: Vec::new(),
        }
    }
}

/// An error and its causes in one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
