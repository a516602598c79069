//! `probe`: what the store does when it is really asked, and whether the key file holds a key.

use dualsync_block_store::contract::Store;
use dualsync_model::event::{Capability, CapabilityState, Event, Summary};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use crate::events::Events;
use crate::fetch::sentence;
use crate::keyfile;
use crate::secret::Secret;
use crate::trouble::Trouble;

/// Tries the store with scratch objects and the key for its form; says what was seen.
pub async fn probe(store: &dyn Store, key: &SecretRef, now: Timestamp, events: &Events) -> Result<Summary, Trouble> {
    events.progress().phase("probing");
    let mut seen = dualsync_block_store::probe(store, now).await?;
    seen.push(match keyfile::read_any(key).await {
        Ok(secret) => Capability {
            name: "key".to_owned(),
            state: CapabilityState::Enforced,
            detail: match &secret {
                Secret::Raw(key) => format!("{} was read", key.id()),
                other => other.limits().unwrap_or_default().to_owned(),
            },
        },
        Err(error) => Capability { name: "key".to_owned(), state: CapabilityState::Failed, detail: sentence(&error) },
    });
    let items = seen.len() as u64;
    for capability in seen {
        events.say(&Event::Capability(capability));
    }
    Ok(Summary { items, ..Summary::default() })
}
