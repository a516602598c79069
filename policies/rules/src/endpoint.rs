//! The address of an S3 service, and patterns over its host name.
//!
//! Only what a policy needs is read: whether it is TLS, the host, whether that is this machine.
//! No name is resolved.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `https://host[:port]`, or `http://` for a server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: String,
    port: Option<u16>,
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct EndpointError {
    expected: &'static str,
}

impl EndpointError {
    const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

impl Endpoint {
    /// Whether the connection is TLS.
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, in lower case, without the final dot of a full name and without the brackets of an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// The text is not repeated in the error: somebody may have typed a password into it.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (secure, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(EndpointError::new("a URL like \"https://s3.example.eu\""));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(EndpointError::new("a URL without user name and password: they belong into `credentials`"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(EndpointError::new(
                "a URL without a path: bucket and folder belong into `bucket` and `prefix`",
            ));
        }
        let (host, port) = split_port(rest)?;
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if !is_host(&host) {
            return Err(EndpointError::new("a URL with a host name or address"));
        }
        Ok(Self { secure, host, port })
    }
}

fn split_port(rest: &str) -> Result<(&str, Option<u16>), EndpointError> {
    let wrong = || EndpointError::new("a port from 1 to 65535 after the colon");
    let number = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0).ok_or_else(wrong);
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, after) =
            bracketed.split_once(']').ok_or(EndpointError::new("a closing bracket after the address"))?;
        let port = if after.is_empty() { None } else { Some(number(after.strip_prefix(':').ok_or_else(wrong)?)?) };
        return Ok((host, port));
    }
    match rest.rsplit_once(':') {
        Some((host, port)) => Ok((host, Some(number(port)?))),
        None => Ok((rest, None)),
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A host name in which a label may be `*`, which stands for exactly one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no host pattern: labels of a-z 0-9 - or a single *, at least two of them without *")]
pub struct HostPatternError(String);

impl HostPattern {
    /// Whether `host` (lower case) is one of those meant.
    pub fn matches(&self, host: &str) -> bool {
        let (mut pattern, mut host) = (self.0.split('.'), host.split('.'));
        loop {
            match (pattern.next(), host.next()) {
                (None, None) => return true,
                (Some(want), Some(have)) if want == have || (want == "*" && !have.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let plain = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let fixed = text.split('.').filter(|label| plain(label)).count();
        if fixed >= 2 && text.split('.').all(|label| label == "*" || plain(label)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostPatternError(text.to_owned()))
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_back_normalised() {
        let check = |text: &str, expected: &str, loopback: bool| {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), expected);
            assert_eq!(endpoint.is_loopback(), loopback, "{text}");
        };
        check("https://fsn1.your-objectstorage.com", "https://fsn1.your-objectstorage.com", false);
        check("https://FSN1.Your-ObjectStorage.com./", "https://fsn1.your-objectstorage.com", false);
        check("http://127.0.0.1:3900", "http://127.0.0.1:3900", true);
        check("http://localhost:3900/", "http://localhost:3900", true);
        check("http://[::1]:3900", "http://[::1]:3900", true);
        check("https://192.0.2.7", "https://192.0.2.7", false);
        check("http://localhost.example.com", "http://localhost.example.com", false);
        check("http://127.0.0.1.example.com", "http://127.0.0.1.example.com", false);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_never_repeated() {
        for text in [
            "",
            "fsn1.your-objectstorage.com",
            "ftp://host",
            "https://",
            "https://.",
            "https://a..b",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://[::1",
            "https://[::1]x",
            "https://host/bucket",
            "https://host?x=1",
            "https://user:hunter2@host",
            "https://ho st",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with("expected ") && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_star_is_exactly_one_label() {
        let check = |pattern: &str, host: &str, expected| {
            assert_eq!(pattern.parse::<HostPattern>().unwrap().matches(host), expected, "{pattern} {host}");
        };
        check("s3.fr-par.scw.cloud", "s3.fr-par.scw.cloud", true);
        check("s3.fr-par.scw.cloud", "s3.nl-ams.scw.cloud", false);
        check("*.eu.r2.cloudflarestorage.com", "abc.eu.r2.cloudflarestorage.com", true);
        check("*.eu.r2.cloudflarestorage.com", "eu.r2.cloudflarestorage.com", false);
        check("*.eu.r2.cloudflarestorage.com", "a.b.eu.r2.cloudflarestorage.com", false);
        check("*.eu.r2.cloudflarestorage.com", "abc.eu.r2.cloudflarestorage.com.evil.example", false);
    }

    #[test]
    fn a_pattern_that_would_match_anybody_is_refused() {
        for text in ["*", "*.com", "*.*", "", "a", "A.com", "a..com", "s3*.example.com"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
