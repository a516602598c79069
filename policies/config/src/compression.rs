//! Which compression each mechanism has: the two share none.

use dualsync_rules::mechanism::Mechanism;

/// The word of a mechanism that no configuration gave.
pub const fn default_of(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Block => "deflate:1",
        Mechanism::Archive => "zstd:3",
    }
}

/// A word that names no compression of its mechanism.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found \"{text}\"")]
pub struct CompressionError {
    text: String,
    expected: &'static str,
}

/// The word for the writer, as [`dualsync_model::job::BackupTask::compression`] wants it.
pub fn parse(mechanism: Mechanism, text: &str) -> Result<String, CompressionError> {
    let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, level.parse::<u8>().ok()));
    let good = match (mechanism, name, level) {
        (_, "off", None) => text == "off",
        // The levels ISA-L has: fast and better.
        (Mechanism::Block, "deflate", Some(1 | 3)) => true,
        (Mechanism::Archive, "zstd", Some(level)) => (1..=19).contains(&level),
        (Mechanism::Archive, "gzip" | "bzip2", Some(level)) => (1..=9).contains(&level),
        (Mechanism::Archive, "xz", Some(level)) => level <= 9,
        _ => false,
    };
    // One spelling each: `zstd:03` and `zstd:+3` would be other words for the same thing.
    let plain = level.is_none_or(|level| text == format!("{name}:{level}"));
    if good && plain {
        return Ok(text.to_owned());
    }
    let expected = match mechanism {
        Mechanism::Block => "deflate:1, deflate:3 or off",
        Mechanism::Archive => "zstd:1 to zstd:19, gzip:1 to gzip:9, bzip2:1 to bzip2:9, xz:0 to xz:9 or off",
    };
    Err(CompressionError { text: text.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_takes_its_own_words_only() {
        let check = |text: &str, block: bool, archive: bool| {
            assert_eq!(parse(Mechanism::Block, text).is_ok(), block, "block {text}");
            assert_eq!(parse(Mechanism::Archive, text).is_ok(), archive, "archive {text}");
        };
        check("off", true, true);
        check("deflate:1", true, false);
        check("deflate:3", true, false);
        check("deflate:2", false, false);
        check("zstd:3", false, true);
        check("zstd:0", false, false);
        check("zstd:20", false, false);
        check("gzip:9", false, true);
        check("bzip2:0", false, false);
        check("xz:6", false, true);
        for text in ["", "off:1", "zstd", "deflate", "deflate:", "zstd:x", "zstd:03", "zstd:+3", "lz4:1", "zstd:3:3"] {
            check(text, false, false);
        }
    }

    #[test]
    fn the_defaults_are_valid_words() {
        for mechanism in Mechanism::BOTH {
            assert_eq!(parse(mechanism, default_of(mechanism)).unwrap(), default_of(mechanism));
        }
    }
}
