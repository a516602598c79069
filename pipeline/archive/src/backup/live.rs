//! How much of each volume a point needs: every member counts once, however many entries share it.

use std::collections::BTreeMap;

use crate::catalog::entry::At;

/// Members of one volume that are needed.
#[derive(Clone, Debug, Default)]
struct Needed {
    members: Vec<u64>,
    tar_bytes: u64,
}

/// All volumes of a point.
#[derive(Clone, Debug, Default)]
pub struct Live(BTreeMap<String, Needed>);

impl Live {
    /// Counts a member.
    pub fn add(&mut self, at: &At) {
        let needed = match self.0.get_mut(&at.volume) {
            Some(needed) => needed,
            None => self.0.entry(at.volume.clone()).or_default(),
        };
        let (word, bit) = (at.member as usize / 64, at.member % 64);
        if word >= needed.members.len() {
            needed.members.resize(word + 1, 0);
        }
        if needed.members[word] & (1 << bit) == 0 {
            needed.members[word] |= 1 << bit;
            needed.tar_bytes += at.bytes;
        }
    }

    /// Each volume with the bytes of tar that are needed of it.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(key, needed)| (key.as_str(), needed.tar_bytes))
    }
}

/// The share `live` of `total` in stored bytes, rounded up, so that something is never nothing.
pub fn share(stored_bytes: u64, live: u64, total: u64) -> u64 {
    if total == 0 {
        return stored_bytes;
    }
    let share = (u128::from(stored_bytes) * u128::from(live.min(total))).div_ceil(u128::from(total));
    u64::try_from(share).unwrap_or(stored_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_member_counts_once() {
        let mut live = Live::default();
        let at = |volume: &str, member| At {
            volume: volume.into(),
            member,
            frame: 0,
            frame_bytes: 1,
            offset: 0,
            bytes: 100,
        };
        for at in [at("a", 0), at("a", 0), at("a", 64), at("b", 1), at("a", 64)] {
            live.add(&at);
        }
        assert_eq!(live.volumes().collect::<Vec<_>>(), [("a", 200), ("b", 100)]);
    }

    #[test]
    fn shares_are_never_rounded_to_nothing() {
        assert_eq!(share(1000, 1, 1_000_000), 1);
        assert_eq!(share(1000, 500, 1000), 500);
        assert_eq!(share(1000, 2000, 1000), 1000);
        assert_eq!(share(0, 0, 1000), 0);
        assert_eq!(share(7, 0, 0), 7);
    }
}
