//! Failures of a store, told so that a program can decide and a person can act.
//!
//! Three questions have an answer without reading text: what kind ([`StoreError::kind`]), is a
//! second try sensible ([`StoreError::may_retry`]), what was attempted ([`StoreError::operation`],
//! [`StoreError::object`]). [`StoreError::hint`] is for the person; the library's own words are the source.

use std::error::Error as StdError;

type Cause = Box<dyn StdError + Send + Sync>;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    /// No object has this key.
    #[error("no such object")]
    NotFound,
    /// Known credentials without this right.
    #[error("the credentials do not allow it")]
    Denied,
    /// A lock on the object has not ended.
    #[error("a lock on it has not ended")]
    Locked,
    /// Unknown access key, or a secret that does not belong to it.
    #[error("the access key or its secret is wrong")]
    BadCredentials,
    /// No such bucket, no such directory.
    #[error("there is no such bucket or directory")]
    MissingBucket,
    /// DNS does not know the endpoint.
    #[error("the endpoint's host name is unknown")]
    UnknownHost,
    /// TLS: the peer could not prove its name.
    #[error("the server's certificate is not trusted")]
    BadCertificate,
    /// Signatures are refused since the two clocks disagree.
    #[error("this host's clock and the store's are too far apart")]
    ClockSkew,
    /// Bytes and digest disagree.
    #[error("the bytes do not have the digest they should have")]
    Checksum,
    /// Fewer bytes than there should be.
    #[error("the object ends too early")]
    Truncated,
    /// Larger than anything dualsync makes.
    #[error("the object is larger than any of dualsync's")]
    TooLarge,
    /// Too many requests.
    #[error("the store wants fewer requests")]
    Throttled,
    /// Silence; it may have been done all the same.
    #[error("the store did not answer in time")]
    Timeout,
    /// Network or server trouble; it may have been done all the same.
    #[error("the store is out of reach or has a failure of its own")]
    Unavailable,
    /// Disk or quota full.
    #[error("the store is full")]
    Full,
    /// Other bytes lie under this key.
    #[error("another object already has this key")]
    AlreadyExists,
    /// Unknown to this service or to this build.
    #[error("the store or this build does not support it")]
    Unsupported,
    /// Settings or secrets that cannot work, found before any request.
    #[error("the target is not set up correctly")]
    Misconfigured,
    /// None of these.
    #[error("it failed")]
    Other,
}

impl ErrorKind {
    /// True for troubles that pass.
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout | Self::Unavailable)
    }

    /// True when the operation may have been carried out although it failed.
    pub const fn leaves_doubt(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::NotFound => "find out with `dualsync check` what is missing and which points need it",
            Self::Denied => "allow this access key to put, get and list below the prefix",
            Self::Locked => "wait until the lock ends; nobody can end it before, in mode compliance",
            Self::BadCredentials => {
                "take the access key and secret from the provider's console again, and check the region"
            }
            Self::MissingBucket => "create the bucket or mount the directory first, or correct its name in the target",
            Self::UnknownHost => "check the spelling of the endpoint and this host's name servers",
            Self::BadCertificate => {
                "check the endpoint's name and update this host's root certificates (ca-certificates)"
            }
            Self::ClockSkew => "let this host's clock be set by NTP (`timedatectl set-ntp true`)",
            Self::Checksum => "try again; if it stays, suspect this host's memory or the store",
            Self::Truncated => "the stored object is damaged: `dualsync check --objects` shows what it hits",
            Self::TooLarge => "something else writes below this prefix; `dualsync check --objects` names it",
            Self::Throttled => "try later, or lower the bandwidth",
            Self::Timeout | Self::Unavailable => "look at the network and the provider's status page, then try again",
            Self::Full => "make room at the target or raise its quota",
            Self::AlreadyExists => {
                "find out with `dualsync check --objects` whether the object is damaged or someone else writes there"
            }
            Self::Unsupported => "choose another kind of target, or a build with this service",
            Self::Misconfigured => "correct this target in the configuration",
            Self::Other => "the cause says more; `dualsync check` tries the target step by step",
        }
    }
}

/// The operations that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Operation {
    /// Setting up a target.
    #[error("opening")]
    Open,
    /// Writing an object.
    #[error("writing")]
    Put,
    /// Reading an object or a part of it.
    #[error("reading")]
    Get,
    /// Asking about an object.
    #[error("looking up")]
    Head,
    /// Listing objects.
    #[error("listing")]
    List,
    /// Deleting an object.
    #[error("deleting")]
    Delete,
}

/// One failure: an operation, its object, its place, its kind and its cause.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}{place} failed: {kind}", quoted(object))]
pub struct StoreError {
    operation: Operation,
    object: String,
    place: String,
    kind: ErrorKind,
    source: Option<Cause>,
}

fn quoted(object: &str) -> String {
    if object.is_empty() { String::new() } else { format!("'{object}' at ") }
}

impl StoreError {
    /// A failure of `operation` on `object` (a key or prefix, empty for the whole place) at `place`.
    pub fn new(kind: ErrorKind, operation: Operation, place: impl Into<String>, object: impl Into<String>) -> Self {
        Self { operation, object: object.into(), place: place.into(), kind, source: None }
    }

    /// Adds what lies behind it.
    #[must_use]
    pub fn caused_by(self, cause: impl Into<Cause>) -> Self {
        Self { source: Some(cause.into()), ..self }
    }

    /// The kind of failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was attempted.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// On which key or prefix; empty for the place as a whole.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Whether a second try is sensible.
    pub const fn may_retry(&self) -> bool {
        self.kind.may_retry()
    }

    /// A sentence on what to do about it.
    pub const fn hint(&self) -> &'static str {
        self.kind.advice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_one_sentence_and_keeps_its_cause() {
        let error = StoreError::new(ErrorKind::Timeout, Operation::Get, "bucket b", "repo.json").caused_by("silence");
        assert_eq!(error.to_string(), "reading 'repo.json' at bucket b failed: the store did not answer in time");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("silence"));
        let error = StoreError::new(ErrorKind::MissingBucket, Operation::Open, "bucket b", "");
        assert_eq!(error.to_string(), "opening bucket b failed: there is no such bucket or directory");
    }

    #[test]
    fn what_a_second_try_cannot_mend_is_not_tried_twice() {
        let passing = [ErrorKind::Throttled, ErrorKind::Timeout, ErrorKind::Unavailable];
        assert!(passing.iter().all(|kind| kind.may_retry()));
        let lasting = [ErrorKind::BadCredentials, ErrorKind::UnknownHost, ErrorKind::ClockSkew, ErrorKind::Full];
        assert!(!lasting.iter().any(|kind| kind.may_retry() || kind.leaves_doubt()));
        assert!(!ErrorKind::Throttled.leaves_doubt());
    }
}
