//! Where content lies, before and after its volume has a name.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::catalog::entry::At;

/// A place in an older volume, or in a frame of this run whose place in its volume is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a volume of the parent.
    Old {
        /// Number in [`Volumes`].
        volume: u32,
        /// Member in its volume.
        member: u32,
        /// First byte of the frame.
        frame: u64,
        /// Its packed bytes.
        frame_bytes: u32,
        /// First byte of the member in the frame.
        offset: u32,
        /// Bytes of the member.
        bytes: u32,
    },
    /// In a frame of this run.
    New {
        /// Number of the frame in this run.
        frame: u64,
        /// Member in its frame.
        member: u32,
        /// First byte of the member in the frame.
        offset: u32,
        /// Bytes of the member.
        bytes: u32,
    },
}

impl Place {
    /// Length of [`Place::to_bytes`].
    pub const BYTES: usize = 32;

    /// A fixed form for the index.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (tag, volume, member, frame, frame_bytes, offset, length) = match self {
            Self::Old { volume, member, frame, frame_bytes, offset, bytes } => {
                (0_u32, volume, member, frame, frame_bytes, offset, bytes)
            }
            Self::New { frame, member, offset, bytes } => (1, 0, member, frame, 0, offset, bytes),
        };
        bytes[0..8].copy_from_slice(&frame.to_le_bytes());
        for (at, word) in [tag, volume, member, frame_bytes, offset, length].into_iter().enumerate() {
            bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads [`Place::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (frame, words) = bytes.split_first_chunk::<8>()?;
        let mut words = words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let mut word = || words.next();
        let (tag, volume, member, frame_bytes, offset, bytes) = (word()?, word()?, word()?, word()?, word()?, word()?);
        let frame = u64::from_le_bytes(*frame);
        match tag {
            0 => Some(Self::Old { volume, member, frame, frame_bytes, offset, bytes }),
            1 => Some(Self::New { frame, member, offset, bytes }),
            _ => None,
        }
    }
}

/// Numbers for the keys of older volumes: there are few of them, and many places in each.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    keys: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Volumes {
    /// The place of a catalog, in short form; `None` for numbers that no writer makes.
    pub fn place(&mut self, at: &At) -> Option<Place> {
        let volume = self.number(&at.volume)?;
        Some(Place::Old {
            volume,
            member: at.member,
            frame: at.frame,
            frame_bytes: at.frame_bytes.try_into().ok()?,
            offset: at.offset.try_into().ok()?,
            bytes: at.bytes.try_into().ok()?,
        })
    }

    /// Key of a volume by its number.
    pub fn key(&self, number: u32) -> Option<&str> {
        self.keys.get(usize::try_from(number).ok()?).map(String::as_str)
    }

    fn number(&mut self, key: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(key) {
            return Some(*number);
        }
        let number = u32::try_from(self.keys.len()).ok()?;
        self.keys.push(key.to_owned());
        self.numbers.insert(key.to_owned(), number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_their_fixed_form() {
        let old = Place::Old { volume: 1, member: 2, frame: u64::MAX, frame_bytes: 4, offset: 5, bytes: u32::MAX };
        let new = Place::New { frame: 9, member: 8, offset: 7, bytes: 6 };
        for place in [old, new] {
            assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        }
        assert_eq!(Place::from_bytes(&[2; 32]), None);
        assert_eq!(Place::from_bytes(&[0; 31]), None);
    }

    #[test]
    fn a_volume_has_one_number() {
        let at = |volume: &str| At { volume: volume.into(), member: 0, frame: 0, frame_bytes: 1, offset: 0, bytes: 2 };
        let mut volumes = Volumes::default();
        assert_eq!(volumes.place(&at("volumes/a")), volumes.place(&at("volumes/a")));
        assert_ne!(volumes.place(&at("volumes/a")), volumes.place(&at("volumes/b")));
        assert_eq!((volumes.key(0), volumes.key(1), volumes.key(2)), (Some("volumes/a"), Some("volumes/b"), None));
        assert!(volumes.place(&At { bytes: u64::MAX, ..at("volumes/a") }).is_none());
    }
}
