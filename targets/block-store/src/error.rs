//! Why a store did not do as it was asked: what kind, may it be tried again, which operation on
//! which object, and what a person can do about it.
//!
//! The kind is the classification, `source` keeps the words of the library or kernel below.

use std::error::Error;
use std::fmt;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Connecting a target, before any request.
    Open,
    /// A write.
    Put,
    /// A read, whole or in part.
    Get,
    /// A look-up.
    Head,
    /// A listing.
    List,
    /// A deletion.
    Delete,
    /// A look at the properties of the place.
    Setting,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Put => "write",
            Self::Get => "read",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Setting => "read the settings of",
        })
    }
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// The credentials are good and may not do this.
    Denied,
    /// The store does not know the access key, or the secret does not fit it.
    BadCredentials,
    /// The bucket or the directory is not there.
    MissingBucket,
    /// The host name cannot be resolved.
    UnknownHost,
    /// The server's certificate does not prove that it is the server.
    BadCertificate,
    /// This host's clock is further from the store's than a signature allows.
    ClockSkew,
    /// The bytes do not fit their digest.
    Checksum,
    /// The object ends before the bytes that were asked for.
    Truncated,
    /// The object is larger than any that dualsync makes.
    TooLarge,
    /// The store asks to slow down.
    Throttled,
    /// No answer within the time limit: the operation may have been done.
    Timeout,
    /// The connection broke or the server failed: the operation may have been done.
    Unavailable,
    /// No space or quota left.
    Full,
    /// The key is taken by an object with other bytes.
    AlreadyExists,
    /// The store cannot do this.
    Unsupported,
    /// The target's settings or secrets are wrong, told before any request.
    Misconfigured,
    /// Anything else; see the source.
    Other,
}

impl ErrorKind {
    /// Whether the same call may succeed a little later.
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout | Self::Unavailable)
    }

    /// Whether the call may have been carried out in spite of the error.
    pub const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "there is no such object",
            Self::Denied => "these credentials may not do that",
            Self::BadCredentials => "the store does not accept the access key or its secret",
            Self::MissingBucket => "the bucket or directory does not exist",
            Self::UnknownHost => "the host name cannot be resolved",
            Self::BadCertificate => "the server's certificate cannot be trusted",
            Self::ClockSkew => "the clock of this host is too far from the store's",
            Self::Checksum => "the bytes do not fit their digest",
            Self::Truncated => "the object is shorter than expected",
            Self::TooLarge => "the object is larger than any that dualsync writes",
            Self::Throttled => "the store asks to slow down",
            Self::Timeout => "no answer within the time limit",
            Self::Unavailable => "the store cannot be reached or failed",
            Self::Full => "there is no space left",
            Self::AlreadyExists => "the key is taken by an object with other bytes",
            Self::Unsupported => "the store cannot do that",
            Self::Misconfigured => "the target's settings are wrong",
            Self::Other => "it failed in an unexpected way",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::NotFound => "run `dualsync check` to learn which objects are missing and which points need them",
            Self::Denied => "grant put, get and list on the bucket and prefix to this access key",
            Self::BadCredentials => {
                "compare the target's credentials with the provider's console, and the region with the bucket's"
            }
            Self::MissingBucket => "create the bucket, mount or create the directory, or correct the target's settings",
            Self::UnknownHost => "correct the target's endpoint, or the name resolution of this host",
            Self::BadCertificate => {
                "check that the endpoint is the right one and that this host's root certificates are up to date"
            }
            Self::ClockSkew => "set the clock of this host (`timedatectl set-ntp true`)",
            Self::Checksum => "run it again; if it comes back, test the memory and network of this host",
            Self::Truncated => "run `dualsync check --objects`: the stored object is damaged",
            Self::TooLarge => "something else writes to this prefix: run `dualsync check --objects`",
            Self::Throttled => "run it later, or set a lower bandwidth",
            Self::Timeout | Self::Unavailable => "check the network and the provider's status page, then run it again",
            Self::Full => "free space or raise the quota at the target",
            Self::AlreadyExists => {
                "something else writes to this prefix, or the object is damaged: run `dualsync check --objects`"
            }
            Self::Unsupported => "use another target for this, or turn the feature off",
            Self::Misconfigured => "correct the target in the configuration",
            Self::Other => "read the cause; `dualsync check` tries the target step by step",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A store did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {subject}: {kind}", subject = subject(place, object))]
pub struct StoreError {
    kind: ErrorKind,
    operation: Operation,
    place: String,
    object: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

fn subject(place: &str, object: &str) -> String {
    if object.is_empty() { place.to_owned() } else { format!("'{object}' in {place}") }
}

impl StoreError {
    /// An error of `operation` on `object` (a key, a prefix, or empty for the place itself) of `place`.
    pub fn new(kind: ErrorKind, operation: Operation, place: impl Into<String>, object: impl Into<String>) -> Self {
        Self { kind, operation, place: place.into(), object: object.into(), source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was asked.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The key or prefix it was asked of; empty for the place itself.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Whether the same call may succeed a little later.
    pub const fn may_retry(&self) -> bool {
        self.kind.may_retry()
    }

    /// One sentence: what a person can do about it.
    pub const fn hint(&self) -> &'static str {
        self.kind.hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_operation_object_place_and_kind() {
        let error = StoreError::new(ErrorKind::Full, Operation::Put, "directory /mnt/nas", "packs/ab");
        assert_eq!(error.to_string(), "cannot write 'packs/ab' in directory /mnt/nas: there is no space left");
        let error = StoreError::new(ErrorKind::MissingBucket, Operation::Open, "bucket b", "").because("gone");
        assert_eq!(error.to_string(), "cannot open bucket b: the bucket or directory does not exist");
        assert_eq!(error.source().unwrap().to_string(), "gone");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_retried() {
        use ErrorKind::{BadCredentials, Checksum, ClockSkew, Denied, Full, NotFound, Throttled, Timeout, Unavailable};
        for kind in [Throttled, Timeout, Unavailable] {
            assert!(kind.may_retry(), "{kind}");
        }
        for kind in [NotFound, Denied, BadCredentials, ClockSkew, Checksum, Full] {
            assert!(!kind.may_retry() && !kind.is_ambiguous(), "{kind}");
        }
        assert!(!Throttled.is_ambiguous(), "a request that was turned away was not carried out");
    }
}
