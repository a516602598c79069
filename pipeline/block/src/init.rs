//! `init`: creates what is missing of a repository and its key, and changes nothing that exists.
//!
//! Order: key file, README.txt, recover.py, key slot, `repo.json` last. A power cut anywhere leaves
//! no repository or a whole one; objects of an unfinished one are the same bytes next time, or
//! slots that nobody needs. Two inits at once write different ids; the second look at `repo.json`
//! tells the loser.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Store, StoreError};
use dualsync_model::event::Repository as RepositoryEvent;
use dualsync_model::job::{Anchor, InitTask};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::document;
use crate::format::{BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, EPOCH_REPOSITORY, VERSION};
use crate::keyfile::{self, KeyFileError};
use crate::keys::{KeyTree, RepositoryId, RepositoryKey};
use crate::names;
use crate::points::{Census, CensusError, Head};
use crate::repository::{KeySlot, RepoInfo, Repository, RepositoryError};
use crate::seal::{NoRandomness, random_bytes};

/// What every repository carries for people who have no dualsync.
pub const README_TEXT: &str = include_str!("kit/README.txt");
/// The program that restores without dualsync.
pub const RECOVER_TEXT: &str = include_str!("kit/recover.py");

/// Why `init` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The block size is not allowed.
    #[error("{0} bytes is no block size: a power of two from 65536 to 4194304 is expected")]
    BlockSize(u32),
    /// The repository is there, its key is not.
    #[error("the repository exists at {place}, but {reference} does not: put its key there, a new one cannot open it")]
    KeyMissing {
        /// The store, in words.
        place: String,
        /// Where the key should be.
        reference: SecretRef,
    },
    /// Objects without a `repo.json`.
    #[error("{place} holds objects of a repository but no repo.json: it is damaged, or another prefix was meant")]
    Headless {
        /// The store, in words.
        place: String,
    },
    /// Another `init` won.
    #[error("another init made a repository at {place} at the same time: run init again with its key")]
    Raced {
        /// The store, in words.
        place: String,
    },
    /// The key cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// It is there and does not open.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The store does not answer.
    #[error("cannot create the repository")]
    Store(#[from] StoreError),
    /// No id could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The points are not known.
    #[error(transparent)]
    Census(#[from] CensusError),
}

/// Creates or opens the repository in `store`.
pub async fn init(
    store: Arc<dyn Store>,
    target: &str,
    reference: &SecretRef,
    state: &Path,
    task: &InitTask,
    now: Timestamp,
) -> Result<(Arc<Repository>, RepositoryEvent), InitError> {
    let place = store.describe();
    let block_bytes = task.block_bytes.unwrap_or(BLOCK_BYTES_DEFAULT);
    if !block_bytes.is_power_of_two() || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block_bytes) {
        return Err(InitError::BlockSize(block_bytes));
    }
    let exists = store.head(&names::fixed(names::REPO)).await?.is_some();
    if exists && keyfile::is_absent(reference) {
        return Err(InitError::KeyMissing { place, reference: reference.clone() });
    }
    if !exists && !store.list(names::POINTS, None).await?.is_empty() {
        return Err(InitError::Headless { place });
    }
    let (key, keys_created) = if keyfile::is_absent(reference) {
        let (key, path) = keyfile::create(reference)?;
        (key, vec![path.display().to_string()])
    } else {
        (keyfile::read(reference).await?, Vec::new())
    };
    if !exists {
        create(&*store, &key, block_bytes, now).await?;
    }
    let repository = match Repository::open(Arc::clone(&store), target, &key, state).await {
        Err(RepositoryError::WrongKey { .. }) if !exists => return Err(InitError::Raced { place }),
        other => Arc::new(other?),
    };
    let newest = if exists { Census::take(&repository).await?.newest().map(Head::ledger_line) } else { None };
    let info = repository.info();
    let event = RepositoryEvent {
        id: info.id.clone(),
        created: !exists,
        keys_created,
        facts: vec![
            ("block repository id".to_owned(), info.id.clone()),
            ("block key id".to_owned(), repository.keys().key_id().to_string()),
            ("block size".to_owned(), info.block_bytes.to_string()),
            ("block place".to_owned(), place),
            ("block README.txt sha256".to_owned(), info.readme_sha256.to_string()),
        ],
        signing_public: None,
        recover_sha256: info.recover_sha256.to_string(),
        newest: newest.map(|line| Anchor { sequence: line.sequence, sha256: line.sha256.to_string() }),
    };
    Ok((repository, event))
}

async fn create(store: &dyn Store, key: &RepositoryKey, block_bytes: u32, now: Timestamp) -> Result<(), InitError> {
    let id = RepositoryId(random_bytes()?);
    let keys = KeyTree::new(key, id);
    let readme_sha256 = put(store, names::README, README_TEXT.as_bytes().to_vec()).await?;
    let recover_sha256 = put(store, names::RECOVER, RECOVER_TEXT.as_bytes().to_vec()).await?;
    let slot = KeySlot {
        version: VERSION,
        kind: "raw".to_owned(),
        key_id: keys.key_id().to_string(),
        repository: id.to_string(),
        epoch: EPOCH_REPOSITORY,
    };
    let info = RepoInfo {
        format: "dualsync block repository".to_owned(),
        version: VERSION,
        id: id.to_string(),
        block_bytes,
        created_at: now.whole_second(),
        readme_sha256,
        recover_sha256,
    };
    let slot_key = names::key_slot(keys.key_id());
    put_document(store, slot_key.as_str(), document::encode(&slot, &keys.mac_key(), slot_key.as_str())).await?;
    // Power cut before this line: no repository. After it: a whole one.
    put_document(store, names::REPO, document::encode(&info, &keys.mac_key(), names::REPO)).await?;
    Ok(())
}

async fn put(store: &dyn Store, name: &str, bytes: Vec<u8>) -> Result<Sha256, StoreError> {
    let sha256 = Sha256::of(&bytes);
    store.put(&names::fixed(name), Bytes::from(bytes), sha256.0).await?;
    Ok(sha256)
}

/// A directory refuses to replace what another init wrote: that one is then opened, or not.
async fn put_document(store: &dyn Store, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    match put(store, name, bytes).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}
