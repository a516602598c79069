//! Which point a person means: `SOURCE@TIME`, a unique beginning of it, or `SOURCE@latest`.

use dualsync_model::id::{PointId, SourceName};

/// Words that name no point, or more than one.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// Not even the form of a point.
    #[error("'{text}' is not a point")]
    Malformed {
        /// What was typed.
        text: String,
    },
    /// There is none like it.
    #[error("there is no point '{text}'")]
    Unknown {
        /// What was typed.
        text: String,
    },
    /// There is more than one.
    #[error("'{text}' could be any of {}", list(candidates))]
    Ambiguous {
        /// What was typed.
        text: String,
        /// All that begin like it.
        candidates: Vec<PointId>,
    },
}

/// The point of `known` that `text` names.
pub fn resolve(text: &str, known: &[PointId]) -> Result<PointId, PointError> {
    let own = || text.to_owned();
    let Some((source, _)) = text.split_once('@') else {
        return resolve_source(text, known);
    };
    let source: SourceName = source.parse().map_err(|_| PointError::Malformed { text: own() })?;
    if text.ends_with("@latest") {
        let newest = known.iter().filter(|point| *point.source() == source).max_by_key(|point| point.time());
        return newest.cloned().ok_or_else(|| PointError::Unknown { text: own() });
    }
    unique(text, known.iter().filter(|point| point.to_string().starts_with(text)))
}

/// The source that `text` certainly speaks of: what is asked of the stores can be limited to it.
pub fn source_of(text: &str) -> Option<SourceName> {
    text.split_once('@').and_then(|(source, _)| source.parse().ok())
}

/// A beginning that ends inside the name: unique only when there is one point like it.
fn resolve_source(text: &str, known: &[PointId]) -> Result<PointId, PointError> {
    if text.is_empty() {
        return Err(PointError::Malformed { text: String::new() });
    }
    unique(text, known.iter().filter(|point| point.source().as_str().starts_with(text)))
}

fn unique<'a>(text: &str, matching: impl Iterator<Item = &'a PointId>) -> Result<PointId, PointError> {
    let mut candidates: Vec<_> = matching.cloned().collect();
    candidates.sort();
    candidates.dedup();
    match candidates.len() {
        0 => Err(PointError::Unknown { text: text.to_owned() }),
        1 => Ok(candidates.remove(0)),
        _ => Err(PointError::Ambiguous { text: text.to_owned(), candidates }),
    }
}

fn list(candidates: &[PointId]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<_> = candidates.iter().take(SHOWN).map(ToString::to_string).collect();
    if candidates.len() > SHOWN {
        text.push(format!("{} more", candidates.len() - SHOWN));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<PointId> {
        ["web@20261119T020000Z", "web@20261120T020000Z", "web-2@20261121T020000Z", "db@20261118T020000Z"]
            .map(|point| point.parse().unwrap())
            .into()
    }

    #[test]
    fn a_point_is_named_in_full_by_a_unique_beginning_or_as_the_latest() {
        let check = |text: &str, expected: &str| assert_eq!(resolve(text, &known()).unwrap().to_string(), expected);
        check("web@20261119T020000Z", "web@20261119T020000Z");
        check("web@20261120", "web@20261120T020000Z");
        check("web@latest", "web@20261120T020000Z");
        check("web-2@", "web-2@20261121T020000Z");
        check("db", "db@20261118T020000Z");
        check("d", "db@20261118T020000Z");
    }

    #[test]
    fn an_ambiguous_beginning_lists_the_candidates() {
        let error = resolve("web@202611", &known()).unwrap_err();
        assert_eq!(error.to_string(), "'web@202611' could be any of web@20261119T020000Z, web@20261120T020000Z");
        assert!(
            matches!(resolve("web", &known()).unwrap_err(), PointError::Ambiguous { candidates, .. } if candidates.len() == 3)
        );
    }

    #[test]
    fn what_is_not_there_or_no_point_is_refused() {
        for text in ["web@2025", "mail@latest", "mail"] {
            assert!(matches!(resolve(text, &known()).unwrap_err(), PointError::Unknown { .. }), "{text}");
        }
        for text in ["", "@latest", "We b@2026"] {
            assert!(matches!(resolve(text, &known()).unwrap_err(), PointError::Malformed { .. }), "{text}");
        }
    }

    #[test]
    fn the_source_is_known_once_the_at_is_typed() {
        assert_eq!(source_of("web@2026").unwrap().as_str(), "web");
        assert_eq!(source_of("web"), None);
    }
}
