//! What a repository is: its id, key ids, recipients, public keys. Nothing here is secret.
//!
//! Only the writer knows it; it tells in `init`, which is asked here to look only: a question creates and mends nothing.
//! What was told is remembered for the time when the store is away.

use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::{InitTask, Task};

use crate::app::App;
use crate::state::State;
use crate::writer::WriterError;

/// Asks a target whose repository was heard to be there.
pub async fn ask(app: &App<'_>, target: &TargetSettings) -> Result<Repository, WriterError> {
    let heard = app.ask(target, Task::Init(InitTask { only_look: true, ..InitTask::default() })).await;
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
