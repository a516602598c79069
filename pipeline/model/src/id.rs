//! Names that appear in keys, jobs and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

/// The name of a source, safe in a key and in a file name: 1 to 64 of `a-z 0-9 . _ -`,
/// beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

impl SourceName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good =
            (1..=64).contains(&bytes.len()) && plain(bytes[0]) && bytes.iter().all(|b| plain(*b) || b"._-".contains(b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError {
                text: text.to_owned(),
                expected: "a source name (1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit)",
            })
        }
    }
}

/// A restore point: one source at one moment, to the second, `web@20261120T020000Z`.
///
/// Both copies of a point carry the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointId {
    source: SourceName,
    time: Timestamp,
}

impl PointId {
    /// The point of `source` at `time`, whose fraction of a second is dropped.
    pub fn new(source: SourceName, time: Timestamp) -> Self {
        Self { source, time: time.whole_second() }
    }

    /// The source.
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// The moment, on a whole second.
    pub fn time(&self) -> Timestamp {
        self.time
    }
}

impl FromStr for PointId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { text: text.to_owned(), expected: "a point like web@20261120T020000Z" };
        let (source, time) = text.rsplit_once('@').ok_or_else(wrong)?;
        Ok(Self {
            source: source.parse().map_err(|_| wrong())?,
            time: Timestamp::from_compact(time).map_err(|_| wrong())?,
        })
    }
}

/// One execution of a job: 16 lower-case hex digits, drawn at random by `dualsync`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// The id of eight random bytes.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(bytes)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError { text: text.to_owned(), expected: "a run id (16 hex digits)" })
        }
    }
}

/// Text in both directions for ids that wrap or render one.
macro_rules! text_id {
    ($($id:ty => |$it:ident, $f:ident| $write:expr;)*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $it = self;
                $write
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $id {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    )*};
}

text_id! {
    SourceName => |it, f| f.write_str(&it.0);
    PointId => |it, f| write!(f, "{}@{}", it.source, it.time.compact());
    RunId => |it, f| f.write_str(&it.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_id_reads_back() {
        let point: PointId = "web-1.eu@20261120T020000Z".parse().unwrap();
        assert_eq!(point.source().as_str(), "web-1.eu");
        assert_eq!(point.to_string(), "web-1.eu@20261120T020000Z");
        assert_eq!(serde_json::to_string(&point).unwrap(), "\"web-1.eu@20261120T020000Z\"");
    }

    #[test]
    fn names_that_could_escape_a_key_are_refused() {
        for text in ["", ".", "..", "a/b", "A", "a b", "-a", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<SourceName>().is_err(), "{text:?}");
        }
        for text in ["web", "web@", "web@latest", "@20261120T020000Z", "web@20261120T020000"] {
            assert!(text.parse::<PointId>().is_err(), "{text:?}");
        }
        assert!("0123456789ABCDEF".parse::<RunId>().is_err());
        assert_eq!(RunId::from_random([0, 255, 1, 2, 3, 4, 5, 6]).as_str(), "00ff010203040506");
    }
}
