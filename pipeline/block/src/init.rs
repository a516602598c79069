//! `init`: creates what is missing of a repository and its key, and changes nothing that exists.
//!
//! Order: key file, key slot, README.txt, recover.py, `repo.json` last. A power cut anywhere leaves
//! no repository or a whole one; objects of an unfinished one are the same bytes next time, and a
//! slot decides the id: whoever comes next goes on with it. Of two inits at once in a bucket, which
//! replaces, the last `repo.json` decides, and a slot that does not fit it is put again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Store, StoreError};
use dualsync_model::event::Repository as RepositoryEvent;
use dualsync_model::job::{Anchor, InitTask};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::document::{self, Unproven};
use crate::fetch::{ObjectError, Problem};
use crate::format::{BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, VERSION};
use crate::keyfile::{self, KeyFileError};
use crate::keys::{KeyTree, RepositoryId, RepositoryKey};
use crate::names;
use crate::points::{Census, CensusError, Head};
use crate::repository::{RepoInfo, Repository, RepositoryError};
use crate::seal::{NoRandomness, random_bytes};
use crate::secret::Secret;
use crate::slot::KeySlot;
use crate::unlock::unlock_with;

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
    if task.only_look {
        return look(store, target, reference, state).await;
    }
    let exists = store.head(&names::fixed(names::REPO)).await?.is_some();
    if exists && keyfile::is_absent(reference) {
        return Err(InitError::KeyMissing { place, reference: reference.clone() });
    }
    if !exists && !store.list(names::POINTS, None).await?.is_empty() {
        return Err(InitError::Headless { place });
    }
    let (secret, keys_created) = if keyfile::is_absent(reference) {
        let (key, path) = keyfile::create(reference)?;
        (Secret::Raw(key), vec![path.display().to_string()])
    } else {
        (keyfile::read_any(reference).await?, Vec::new())
    };
    if !exists {
        // A new repository begins with the key itself.
        let Secret::Raw(key) = &secret else { return Err(KeyFileError::NotRaw(reference.clone()).into()) };
        create(&*store, key, block_bytes, now).await?;
    }
    let repository = match open_mended(&store, target, &secret, state).await {
        Err(InitError::Repository(RepositoryError::WrongKey { .. })) if !exists => {
            return Err(InitError::Raced { place });
        }
        other => Arc::new(other?),
    };
    let newest = if exists { newest(&repository).await? } else { None };
    let event = RepositoryEvent { created: !exists, keys_created, newest, ..describe(&repository, &secret) };
    Ok((repository, event))
}

/// What is there, as it is.
async fn look(
    store: Arc<dyn Store>,
    target: &str,
    reference: &SecretRef,
    state: &Path,
) -> Result<(Arc<Repository>, RepositoryEvent), InitError> {
    let secret = keyfile::read_any(reference).await?;
    let repository = Arc::new(Repository::open_with(store, target, &secret, state).await?);
    let event = RepositoryEvent { newest: newest(&repository).await?, ..describe(&repository, &secret) };
    Ok((repository, event))
}

async fn newest(repository: &Arc<Repository>) -> Result<Option<Anchor>, CensusError> {
    let line = Census::take(repository).await?.newest().map(Head::ledger_line);
    Ok(line.map(|line| Anchor { sequence: line.sequence, sha256: line.sha256.to_string() }))
}

/// What may be told of an opened repository.
pub fn describe(repository: &Repository, secret: &Secret) -> RepositoryEvent {
    let info = repository.info();
    let mut facts = vec![
        ("block repository id".to_owned(), info.id.clone()),
        ("block key id".to_owned(), repository.keys().key_id().to_string()),
        ("block size".to_owned(), info.block_bytes.to_string()),
        ("block place".to_owned(), repository.store().describe()),
        ("block README.txt sha256".to_owned(), info.readme_sha256.to_string()),
    ];
    for older in repository.keys().all().skip(1) {
        let words = format!(
            "{}, in whose place the one above came: a sheet that names it as key id is outdated",
            older.key_id()
        );
        facts.push(("older block key id".to_owned(), words));
    }
    facts.extend(secret.limits().map(|words| ("what the key file holds".to_owned(), words.to_owned())));
    if repository.recover_sha256() != info.recover_sha256 {
        facts.push(("recover.py to use".to_owned(), names::recover(&repository.recover_sha256()).to_string()));
    }
    RepositoryEvent {
        id: info.id.clone(),
        created: false,
        keys_created: Vec::new(),
        facts,
        signing_public: None,
        recover_sha256: repository.recover_sha256().to_string(),
        newest: None,
    }
}

/// Opens the repository; lost slots are put back: `repo.json` proves the first key without one, and every later
/// slot lies there twice.
async fn open_mended(
    store: &Arc<dyn Store>,
    target: &str,
    secret: &Secret,
    state: &Path,
) -> Result<Repository, InitError> {
    let unlocked = unlock_with(&**store, secret).await?;
    let listed = store.list(names::KEYS, None).await?;
    for (keys, slot) in unlocked.keys.all().zip(&unlocked.slots) {
        for place in slot.places(keys.key_id()) {
            if !listed.iter().any(|object| object.key == place) {
                put_document(&**store, place.as_str(), slot.encode(keys, &place)).await?;
            }
        }
    }
    Ok(Repository::open_with(Arc::clone(store), target, secret, state).await?)
}

/// The keys of the repository that an earlier init began for this key; `None` when none did.
async fn begun(store: &dyn Store, key: &RepositoryKey) -> Result<Option<KeyTree>, InitError> {
    let slot_key = names::key_slot(key.id());
    let bytes = match store.get(&slot_key).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let damaged = |problem: Problem| RepositoryError::Damaged(ObjectError::new(slot_key.clone(), problem));
    let claimed: KeySlot =
        Unproven::parse(&bytes).and_then(|slot| slot.claim()).map_err(|error| damaged(error.into()))?;
    let id = RepositoryId::from_text(&claimed.repository).ok_or_else(|| damaged(Problem::Digest))?;
    let keys = KeyTree::new(key, id);
    KeySlot::prove(&bytes, &slot_key, &keys.mac_key()).map_err(RepositoryError::Damaged)?;
    Ok(Some(keys))
}

async fn put_slot(store: &dyn Store, keys: &KeyTree) -> Result<(), StoreError> {
    let slot = KeySlot::raw(keys.newest(), keys.repository());
    let place = names::key_slot(keys.key_id());
    put_document(store, place.as_str(), slot.encode(keys.newest(), &place)).await
}

async fn create(store: &dyn Store, key: &RepositoryKey, block_bytes: u32, now: Timestamp) -> Result<(), InitError> {
    if begun(store, key).await?.is_none() {
        put_slot(store, &KeyTree::new(key, RepositoryId(random_bytes()?))).await?;
    }
    // The slot that is there now, maybe of another init, says which id it is.
    let keys = begun(store, key).await?.ok_or_else(|| InitError::Raced { place: store.describe() })?;
    let readme_sha256 = put(store, names::README, README_TEXT.as_bytes().to_vec()).await?;
    let recover_sha256 = put(store, names::RECOVER, RECOVER_TEXT.as_bytes().to_vec()).await?;
    let info = RepoInfo {
        format: "dualsync block repository".to_owned(),
        version: VERSION,
        id: keys.repository().to_string(),
        block_bytes,
        created_at: now.whole_second(),
        readme_sha256,
        recover_sha256,
    };
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
