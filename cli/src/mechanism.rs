//! The two mechanisms by name, and a pair of anything that both have.

pub use dualsync_rules::mechanism::Mechanism;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One thing for each mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// The block path's.
    pub block: T,
    /// The archive path's.
    pub archive: T,
}

impl<T> Pair<T> {
    /// Makes one for each.
    pub fn new(mut make: impl FnMut(Mechanism) -> T) -> Self {
        Self { block: make(Mechanism::Block), archive: make(Mechanism::Archive) }
    }

    /// The one of `mechanism`.
    pub const fn get(&self, mechanism: Mechanism) -> &T {
        match mechanism {
            Mechanism::Block => &self.block,
            Mechanism::Archive => &self.archive,
        }
    }

    /// The one of `mechanism`, to be changed.
    pub const fn get_mut(&mut self, mechanism: Mechanism) -> &mut T {
        match mechanism {
            Mechanism::Block => &mut self.block,
            Mechanism::Archive => &mut self.archive,
        }
    }

    /// Both with their mechanism.
    pub fn iter(&self) -> impl Iterator<Item = (Mechanism, &T)> {
        Mechanism::BOTH.into_iter().map(|mechanism| (mechanism, self.get(mechanism)))
    }
}

/// A mechanism as its word, for `#[serde(with = "word")]`.
pub mod word {
    use super::{Deserialize, Deserializer, Mechanism, Serializer, de};

    /// Writes the word.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub fn serialize<S: Serializer>(mechanism: &Mechanism, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(mechanism.as_str())
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mechanism, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Mechanism::BOTH.into_iter().find(|mechanism| mechanism.as_str() == text);
        known.ok_or_else(|| de::Error::custom(format!("'{text}' is no mechanism")))
    }
}
