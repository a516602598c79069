//! Sorts what the SDK and the server say into the kinds of the contract.
//!
//! The servers' codes come first (Amazon's "Error responses", and what Garage, Ceph and MinIO
//! were seen to send), then the status, then the words of the network below, since DNS and TLS
//! failures have no code. It decides nothing about retries: the kind does.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::contract::ErrorKind;

/// What a server said when it refused: the innermost cause of a store error.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    status: u16,
    code: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        Ok(())
    }
}

impl Error for Refusal {}

/// The kind of an SDK error, and its cause in the server's or the network's words.
pub(crate) fn sort<E>(error: SdkError<E, HttpResponse>) -> (ErrorKind, Box<dyn Error + Send + Sync>)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(refused) => {
            let status = refused.raw().status().as_u16();
            let code = refused.err().code().unwrap_or_default().to_owned();
            let message = refused.err().message().unwrap_or_default().to_owned();
            (kind_of_refusal(status, &code, &message), Box::new(Refusal { status, code, message }))
        }
        SdkError::TimeoutError(_) => (ErrorKind::Timeout, error.into()),
        SdkError::ConstructionFailure(_) => (ErrorKind::Misconfigured, error.into()),
        _ => (kind_of_network_error(&error), error.into()),
    }
}

/// The kind of a refusal.
fn kind_of_refusal(status: u16, code: &str, message: &str) -> ErrorKind {
    kind_of_code(code).or_else(|| kind_of_message(message)).unwrap_or_else(|| kind_of_status(status))
}

fn kind_of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" => ErrorKind::NotFound,
        "NoSuchBucket" => ErrorKind::MissingBucket,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidSecurity"
        | "InvalidToken"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "NotSignedUp" => ErrorKind::BadCredentials,
        "AuthorizationHeaderMalformed"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "IllegalLocationConstraintException" => ErrorKind::Misconfigured,
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => ErrorKind::ClockSkew,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "ContentSHA256Mismatch" => ErrorKind::Checksum,
        "SlowDown"
        | "TooManyRequests"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => ErrorKind::Throttled,
        "RequestTimeout" => ErrorKind::Timeout,
        "InternalError" | "ServiceUnavailable" | "OperationAborted" => ErrorKind::Unavailable,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
            ErrorKind::Full
        }
        "PreconditionFailed" | "ConditionalRequestConflict" => ErrorKind::AlreadyExists,
        "InvalidRange" => ErrorKind::Truncated,
        "NotImplemented" | "MethodNotAllowed" => ErrorKind::Unsupported,
        _ => return None,
    })
}

/// Garage sends `AccessDenied` and `InvalidRequest` for most things and tells them apart in words.
fn kind_of_message(message: &str) -> Option<ErrorKind> {
    let has = |words: &str| message.contains(words);
    if has("No such key") || has("nvalid signature") {
        Some(ErrorKind::BadCredentials)
    } else if has("Date is too old") || has("date is too old") {
        Some(ErrorKind::ClockSkew)
    } else if has("WORM protected") {
        // MinIO refuses to delete what is locked by an `InvalidRequest`.
        Some(ErrorKind::Denied)
    } else if has("checksum") || has("Checksum") {
        Some(ErrorKind::Checksum)
    } else {
        None
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        404 => ErrorKind::NotFound,
        401 | 403 => ErrorKind::Denied,
        405 | 501 => ErrorKind::Unsupported,
        408 => ErrorKind::Timeout,
        409 | 412 => ErrorKind::AlreadyExists,
        416 => ErrorKind::Truncated,
        429 => ErrorKind::Throttled,
        507 => ErrorKind::Full,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// The kind of an error without an answer, by the words of its chain: hyper and rustls tell no code.
pub(crate) fn kind_of_network_error(error: &(dyn Error + 'static)) -> ErrorKind {
    let mut chain = String::new();
    let mut next = Some(error);
    while let Some(link) = next {
        chain.push_str(&link.to_string());
        chain.push('\n');
        next = link.source();
    }
    let chain = chain.to_ascii_lowercase();
    let has = |words: &str| chain.contains(words);
    if has("dns error") || has("failed to lookup address") {
        // "Temporary failure in name resolution" (EAI_AGAIN) passes; an unknown name does not.
        if has("temporary failure") || has("try again") { ErrorKind::Unavailable } else { ErrorKind::UnknownHost }
    } else if has("certificate") || has("invalidcertificate") {
        ErrorKind::BadCertificate
    } else if has("timed out") || has("timeout") {
        ErrorKind::Timeout
    } else {
        ErrorKind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn codes_win_over_words_and_words_over_the_status() {
        let check = |status, code, message, expected| {
            assert_eq!(kind_of_refusal(status, code, message), expected, "{status} {code} {message}");
        };
        check(403, "InvalidAccessKeyId", "", ErrorKind::BadCredentials);
        check(403, "SignatureDoesNotMatch", "", ErrorKind::BadCredentials);
        check(403, "AccessDenied", "Forbidden: No such key: GK00", ErrorKind::BadCredentials);
        check(403, "AccessDenied", "", ErrorKind::Denied);
        check(403, "RequestTimeTooSkewed", "", ErrorKind::ClockSkew);
        check(404, "NoSuchBucket", "", ErrorKind::MissingBucket);
        check(404, "", "", ErrorKind::NotFound);
        check(400, "BadDigest", "", ErrorKind::Checksum);
        check(503, "SlowDown", "", ErrorKind::Throttled);
        check(503, "", "", ErrorKind::Unavailable);
        check(507, "", "", ErrorKind::Full);
        check(418, "Teapot", "", ErrorKind::Other);
    }

    #[test]
    fn network_errors_are_told_apart_by_their_words() {
        let check =
            |text: &str, expected| assert_eq!(kind_of_network_error(&io::Error::other(text)), expected, "{text}");
        check("dns error: failed to lookup address information: Name or service not known", ErrorKind::UnknownHost);
        check("dns error: Temporary failure in name resolution", ErrorKind::Unavailable);
        check("invalid peer certificate: UnknownIssuer", ErrorKind::BadCertificate);
        check("Connection refused (os error 111)", ErrorKind::Unavailable);
        check("operation timed out", ErrorKind::Timeout);
    }
}
