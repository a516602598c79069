//! What a server says when it refuses, and what the network says when there is no server.
//!
//! The code in the body decides (Amazon's list of error codes; Ceph's, MinIO's and Garage's as
//! they were seen), then the message where a server has one code for everything, then the status.

use std::error::Error as StdError;

use opendal::{Error, ErrorKind as DalKind};

use crate::contract::ErrorKind;

/// A refusal that was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(crate) struct Refusal {
    kind: ErrorKind,
    status: u16,
    code: String,
    message: String,
}

impl Refusal {
    /// Reads an error document of S3, or whatever text there is.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let field = |name: &str| element(&text, name).map(unescape);
        let code = field("Code").unwrap_or_default();
        let message = field("Message").unwrap_or_else(|| text.trim().chars().take(300).collect());
        let by_words = || by_message(&message);
        let kind = by_code(&code).or_else(by_words).unwrap_or_else(|| by_status(status));
        Self { kind, status, code, message }
    }

    /// A refusal of ours: no server said anything.
    pub(crate) fn of_kind(kind: ErrorKind) -> Self {
        Self { kind, status: 0, code: String::new(), message: kind.to_string() }
    }

    /// The kind of the contract.
    pub(crate) const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<Refusal> for Error {
    /// For the journey through opendal; its retry layer looks at nothing but the temporary flag.
    fn from(refusal: Refusal) -> Self {
        let temporary = refusal.kind.may_retry();
        let error = Self::new(DalKind::Unexpected, "the server refused").set_source(refusal);
        if temporary { error.set_temporary() } else { error.set_permanent() }
    }
}

/// The text of the first element of this name; error documents are flat.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

fn by_code(code: &str) -> Option<ErrorKind> {
    let kind = match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "InvalidSecurity" => {
            ErrorKind::BadCredentials
        }
        "RequestTimeTooSkewed" | "RequestExpired" => ErrorKind::ClockSkew,
        "NoSuchBucket" => ErrorKind::MissingBucket,
        "NoSuchKey" => ErrorKind::NotFound,
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" => ErrorKind::Checksum,
        "SlowDown" | "TooManyRequests" | "Throttling" | "RequestLimitExceeded" | "BandwidthLimitExceeded" => {
            ErrorKind::Throttled
        }
        "RequestTimeout" => ErrorKind::Timeout,
        "InternalError" | "ServiceUnavailable" | "OperationAborted" => ErrorKind::Unavailable,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => ErrorKind::Full,
        "NotImplemented" | "MethodNotAllowed" => ErrorKind::Unsupported,
        "AuthorizationHeaderMalformed" | "InvalidBucketName" | "PermanentRedirect" => ErrorKind::Misconfigured,
        "ConditionalRequestConflict" => ErrorKind::AlreadyExists,
        _ => return None,
    };
    Some(kind)
}

/// Garage answers `AccessDenied` or `InvalidRequest` and says the rest in words.
fn by_message(message: &str) -> Option<ErrorKind> {
    let words = message.to_ascii_lowercase();
    if words.contains("no such key") || words.contains("invalid signature") {
        Some(ErrorKind::BadCredentials)
    } else if words.contains("object lock") || words.contains("worm protected") {
        // AWS and Ceph say so in an `AccessDenied`, MinIO in an `InvalidRequest`.
        Some(ErrorKind::Locked)
    } else if words.contains("date is too old") {
        Some(ErrorKind::ClockSkew)
    } else {
        None
    }
}

fn by_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        408 => ErrorKind::Timeout,
        409 => ErrorKind::AlreadyExists,
        429 => ErrorKind::Throttled,
        507 => ErrorKind::Full,
        499..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// The kind of an error from below HTTP, by the words of all its causes: resolver and TLS have no codes here.
pub(crate) fn network_kind(error: &(dyn StdError + 'static)) -> ErrorKind {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    let words: String = causes.map(|cause| cause.to_string().to_ascii_lowercase() + "\n").collect();
    let says = |words_of: &[&str]| words_of.iter().any(|text| words.contains(text));
    if says(&["dns error", "failed to lookup address"]) {
        // EAI_AGAIN is the resolver's own trouble and passes.
        if says(&["temporary failure"]) { ErrorKind::Unavailable } else { ErrorKind::UnknownHost }
    } else if says(&["certificate"]) {
        ErrorKind::BadCertificate
    } else if says(&["timed out", "time limit"]) {
        ErrorKind::Timeout
    } else {
        ErrorKind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_sorted_by_code_then_words_then_status() {
        let check = |status, body: &str, expected| {
            assert_eq!(Refusal::read(status, body.as_bytes()).kind(), expected, "{status} {body}");
        };
        let document =
            |code: &str, message: &str| format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        check(403, &document("InvalidAccessKeyId", ""), ErrorKind::BadCredentials);
        check(403, &document("AccessDenied", "Forbidden: No such key: GK"), ErrorKind::BadCredentials);
        check(403, &document("AccessDenied", "no"), ErrorKind::Denied);
        check(403, &document("AccessDenied", "forbidden by object lock"), ErrorKind::Locked);
        let aws = "Access Denied because object protected by object lock.";
        check(403, &document("AccessDenied", aws), ErrorKind::Locked);
        check(400, &document("RequestTimeTooSkewed", ""), ErrorKind::ClockSkew);
        check(400, &document("InvalidRequest", "Bad request: Date is too old"), ErrorKind::ClockSkew);
        check(503, &document("SlowDown", ""), ErrorKind::Throttled);
        check(503, "<html>busy</html>", ErrorKind::Unavailable);
        check(507, "", ErrorKind::Full);
        check(400, "\u{fffd}<Code>", ErrorKind::Other);
    }

    #[test]
    fn a_refusal_survives_the_journey_through_opendal() {
        let refusal = Refusal::read(403, b"<Code>SignatureDoesNotMatch</Code><Message>a &lt;b&gt; &amp;lt;</Message>");
        assert_eq!(refusal.to_string(), "403 SignatureDoesNotMatch: a <b> &lt;");
        let error = Error::from(refusal);
        assert_eq!(crate::dal::kind(&error), ErrorKind::BadCredentials);
        assert!(!error.is_temporary());
        assert!(Error::from(Refusal::read(500, b"")).is_temporary());
    }

    #[test]
    fn the_network_is_understood_by_its_words() {
        let check = |text: &str, expected| {
            let error = Error::new(DalKind::Unexpected, "send http request").set_source(std::io::Error::other(text));
            assert_eq!(network_kind(&error), expected, "{text}");
        };
        check("dns error: Name or service not known", ErrorKind::UnknownHost);
        check("dns error: Temporary failure in name resolution", ErrorKind::Unavailable);
        check(
            "error:0A000086:SSL routines::certificate verify failed: (self-signed certificate)",
            ErrorKind::BadCertificate,
        );
        check("connection timed out", ErrorKind::Timeout);
        check("connection reset by peer", ErrorKind::Unavailable);
    }
}
