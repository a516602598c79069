//! What of the packs and map objects is in the store: one listing each, before anything is reused.
//!
//! A point names what its parent names. An object that vanished, or was cut short, would so go on
//! from night to night and be missed at the restore; here it is found the night after, while the
//! source still has what it held. Bytes are not read: that is for `check`.

use std::collections::{HashMap, HashSet};

use dualsync_block_store::contract::StoreError;

use crate::digest::Sha256;
use crate::manifest::Clear;
use crate::names;
use crate::repository::Repository;

/// Stored bytes of each pack and map object.
#[derive(Debug, Default)]
pub struct Stock {
    sizes: HashMap<Sha256, u64>,
}

impl Stock {
    /// Lists both folders: two requests, and one more for each page of a long listing.
    pub async fn list(repository: &Repository) -> Result<Self, StoreError> {
        let mut stock = Self::default();
        for folder in [names::PACKS, names::MAPS] {
            for object in repository.store().list(folder, None).await? {
                if let Some(sha256) = names::parse_digest(folder, object.key.as_str()) {
                    stock.sizes.insert(sha256, object.size);
                }
            }
        }
        Ok(stock)
    }

    /// What these manifests or checkpoints name and is not there with its size.
    pub fn lost<'a>(&self, named: impl Iterator<Item = &'a Clear>) -> HashSet<Sha256> {
        named
            .flat_map(|clear| clear.packs.iter().chain(&clear.maps))
            .filter(|reference| self.sizes.get(&reference.sha256) != Some(&u64::from(reference.size)))
            .map(|reference| reference.sha256)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Reference;

    #[test]
    fn what_is_gone_or_cut_short_is_lost_and_nothing_else() {
        let digest = |text: &str| Sha256::of(text.as_bytes());
        let refer = |text: &str| Reference { sha256: digest(text), size: 10, live: 5 };
        let sizes = [("whole", 10), ("cut", 9), ("other", 10)].map(|(text, size)| (digest(text), size));
        let stock = Stock { sizes: HashMap::from(sizes) };
        let clear = Clear { packs: vec![refer("whole"), refer("cut")], maps: vec![refer("gone")], ..Clear::default() };
        assert_eq!(stock.lost([&clear].into_iter()), HashSet::from([digest("cut"), digest("gone")]));
    }
}
