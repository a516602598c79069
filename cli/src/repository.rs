//! What a repository is: its id, key ids, recipients, public keys. Nothing here is secret.
//!
//! Only the writer knows it; it tells in `init`, which changes nothing that exists. So that a question never creates
//! a repository or a key, it is asked only of a store that was just heard to have one, and never while a key file is
//! missing. What was told is remembered for the time when the store is away.

use std::path::Path;

use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::{InitTask, Keys, Task};
use dualsync_model::secret::SecretRef;

use crate::app::App;
use crate::state::State;
use crate::writer::WriterError;

/// Asks a target whose repository was heard to be there.
pub async fn ask(app: &App<'_>, target: &TargetSettings) -> Result<Repository, WriterError> {
    if let Some(missing) = missing_key(&target.keys) {
        return Err(WriterError::silent(target.mechanism, &format!("its keys: {} is not there", missing.display())));
    }
    let heard = app.ask(target, Task::Init(InitTask::default())).await;
    let repository = match (heard.error, heard.repository) {
        (Some(error), _) => return Err(error),
        (None, None) => return Err(WriterError::silent(target.mechanism, "a repository line")),
        (None, Some(repository)) => repository,
    };
    remember(&app.state, &target.target.name, &repository);
    Ok(repository)
}

/// What was told last; nothing where that is lost.
pub fn remembered(state: &State, target: &str) -> Option<Repository> {
    serde_json::from_slice(&std::fs::read(file(state, target)).ok()?).ok()
}

/// It is told again at the next question when it cannot be written now.
pub fn remember(state: &State, target: &str, repository: &Repository) {
    let path = file(state, target);
    let beside = path.with_extension("new");
    let written = serde_json::to_vec(repository).map(|line| std::fs::write(&beside, line));
    if matches!(written, Ok(Ok(()))) {
        let _ = std::fs::rename(&beside, &path);
    }
}

fn file(state: &State, target: &str) -> std::path::PathBuf {
    state.repositories().join(format!("{target}.json"))
}

/// A key file that is not there: `init` would make a new one.
fn missing_key(keys: &Keys) -> Option<&Path> {
    let keys = match keys {
        Keys::Block { key } => vec![key],
        Keys::Archive { identity, signing_key, .. } => vec![identity, signing_key],
    };
    keys.into_iter().find_map(|secret| match secret {
        SecretRef::File(path) if !path.exists() => Some(path.as_path()),
        SecretRef::File(_) | SecretRef::Systemd(_) | SecretRef::Env(_) | SecretRef::Command(_) => None,
    })
}
