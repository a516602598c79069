//! A fixed part of everything: slice 3 of 30 is the same thirtieth tonight and next month.
//!
//! Both programs must pick the same paths, so the choice is part of the protocol: FNV-1a, 64 bit
//! (<http://www.isthe.com/chongo/tech/comp/fnv/>), finished by a multiply-shift so that short
//! names spread, modulo the number of slices. Reading slices 1 to `count` reads everything once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Slice `index` of `count`; `1 <= index <= count <= 10,000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slice {
    index: u32,
    count: u32,
}

/// A text that names no slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no slice: write N/COUNT with 1 <= N <= COUNT <= 10000, like 3/30")]
pub struct SliceError(String);

impl Slice {
    /// Slice `index` of `count`, or `None` outside `1 <= index <= count <= 10,000`.
    pub const fn new(index: u32, count: u32) -> Option<Self> {
        if index >= 1 && index <= count && count <= 10_000 { Some(Self { index, count }) } else { None }
    }

    /// Which one, from 1.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Whether the thing called `name` (a path, an object's key) lies in this slice.
    pub fn contains(self, name: &[u8]) -> bool {
        let hash = name
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let spread = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        spread % u64::from(self.count) + 1 == u64::from(self.index)
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Slice {
    type Err = SliceError;

    fn from_str(text: &str) -> Result<Self, SliceError> {
        text.split_once('/')
            .and_then(|(index, count)| Self::new(index.parse().ok()?, count.parse().ok()?))
            .ok_or_else(|| SliceError(text.to_owned()))
    }
}

impl From<Slice> for String {
    fn from(slice: Slice) -> Self {
        slice.to_string()
    }
}

impl TryFrom<String> for Slice {
    type Error = SliceError;

    fn try_from(text: String) -> Result<Self, SliceError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_lies_in_exactly_one_slice_and_slices_are_even() {
        let mut sizes = [0_u32; 30];
        for file in 0..30_000 {
            let name = format!("usr/share/doc/{file}");
            let hits: Vec<_> = (1..=30).filter(|n| Slice::new(*n, 30).unwrap().contains(name.as_bytes())).collect();
            assert_eq!(hits.len(), 1);
            sizes[hits[0] as usize - 1] += 1;
        }
        assert!(sizes.iter().all(|n| (800..1200).contains(n)), "{sizes:?}");
    }

    #[test]
    fn the_choice_never_changes() {
        let slice_of = |name: &[u8]| (1..=30).find(|n| Slice::new(*n, 30).unwrap().contains(name));
        assert_eq!([slice_of(b""), slice_of(b"etc/passwd"), slice_of(b"caf\xe9")], GOLDEN);
    }

    /// Written down when the protocol was fixed: a change here would leave bytes unread for a month.
    const GOLDEN: [Option<u32>; 3] = [Some(1), Some(1), Some(7)];

    #[test]
    fn nonsense_is_refused() {
        for text in ["0/30", "31/30", "1/0", "1/10001", "1", "a/b", "-1/3"] {
            assert!(text.parse::<Slice>().is_err(), "{text}");
        }
        assert_eq!("3/30".parse::<Slice>().unwrap().to_string(), "3/30");
    }
}
