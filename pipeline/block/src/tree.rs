//! `facts`, and `restore` to a directory: opens the stored image and hands it to the view.
//!
//! The view blocks and must stay on one thread, so it gets one of its own; its lines come through
//! here to standard output.

use std::path::Path;
use std::sync::Arc;

use dualsync_model::event::{Event, Summary};
use dualsync_model::job::{FactsTask, RestoreTask};
use dualsync_model::outcome::Exit;
use tokio::runtime::Handle;

use crate::events::Events;
use crate::facts::{FactsError, Question, facts};
use crate::fetch::sentence;
use crate::files::{FilesError, restore_files};
use crate::image::{ImageOpenError, StoredImage};
use crate::reading::Reading;
use crate::repository::Repository;
use crate::trouble::Trouble;
use crate::view::Setup;
use crate::view::inside::Extract;

/// Tells the facts of a point.
pub async fn tell_facts(
    repository: &Arc<Repository>,
    task: &FactsTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Trouble> {
    events.progress().phase("verifying");
    let image = StoredImage::open(Arc::clone(repository), &task.point).await?;
    let setup = Setup::of_this_program(state, task.kernel_mount, Handle::current());
    let reading = Reading::begin(repository, &task.point, image.sha256());
    let (point, slice, target) = (task.point.clone(), task.slice, repository.target().to_owned());
    let mut tell = teller(events);
    let outcome =
        on_own_thread(move || facts(image, &Question { point: &point, target: &target, slice }, &setup, &mut tell))
            .await;
    reading.end().await;
    let outcome = outcome??;
    if outcome.findings > 0 || outcome.damaged > 0 {
        let message = format!("{} damaged objects spoil {} entries", outcome.findings, outcome.damaged);
        return Err(Trouble::damaged(message));
    }
    let counts = Counts { items: outcome.entries, bytes: outcome.bytes, incomplete: outcome.unreadable };
    Ok(counts.summary(repository))
}

/// Restores files of a point to a directory.
pub async fn restore_tree(
    repository: &Arc<Repository>,
    task: &RestoreTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Trouble> {
    events.progress().phase("restoring");
    let image = StoredImage::open(Arc::clone(repository), &task.point).await?;
    let setup = Setup::of_this_program(state, task.kernel_mount, Handle::current());
    let extract = Extract {
        paths: task.paths.clone(),
        to: task.to.clone(),
        keep: task.resume,
        overwrite: task.overwrite,
        dry_run: task.dry_run,
    };
    let reading = (!task.dry_run).then(|| Reading::begin(repository, &task.point, image.sha256()));
    let (point, target) = (task.point.clone(), repository.target().to_owned());
    let mut tell = teller(events);
    let restored = on_own_thread(move || restore_files(image, &point, &target, extract, &setup, &mut tell)).await;
    if let Some(reading) = reading {
        reading.end().await;
    }
    let restored = restored??;
    if restored.findings > 0 || restored.damaged > 0 {
        let message =
            format!("{} damaged objects spoil {} entries; the rest is back", restored.findings, restored.damaged);
        return Err(Trouble::damaged(message));
    }
    let counts = Counts { items: restored.entries, bytes: restored.bytes, incomplete: restored.not_restored };
    Ok(counts.summary(repository))
}

struct Counts {
    items: u64,
    bytes: u64,
    incomplete: u64,
}

impl Counts {
    fn summary(self, repository: &Repository) -> Summary {
        let exit = if self.incomplete == 0 { Exit::Done } else { Exit::Incomplete };
        Summary {
            exit_code: exit.code(),
            items: self.items,
            bytes: self.bytes,
            incomplete: self.incomplete,
            fetched_bytes: repository.traffic().fetched(),
            ..Summary::default()
        }
    }
}

/// Passes lines on; the pulse prints the numbers.
fn teller(events: &Events) -> impl FnMut(Event) + Send + use<> {
    let events = events.clone();
    move |event| match event {
        Event::Status(status) => events.progress().set(&status),
        other => events.say(&other),
    }
}

async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Trouble::new(Exit::Failed, "internal", &error))
}

impl From<ImageOpenError> for Trouble {
    fn from(error: ImageOpenError) -> Self {
        match error {
            ImageOpenError::NoSuchPoint(_) => {
                Self::new(Exit::Usage, "usage", &error).with_hint("run `dualsync list` to see the points")
            }
            ImageOpenError::Manifest { source, .. } => source.into(),
            ImageOpenError::Census(error) => error.into(),
        }
    }
}

impl From<FactsError> for Trouble {
    fn from(error: FactsError) -> Self {
        if matches!(error, FactsError::Damaged { .. }) {
            return Self::damaged(sentence(&error));
        }
        let code = if matches!(error, FactsError::Store { .. }) { "store" } else { "image" };
        with_optional_hint(Self::new(Exit::Failed, code, &error), error.hint())
    }
}

impl From<FilesError> for Trouble {
    fn from(error: FilesError) -> Self {
        if matches!(error, FilesError::Damaged { .. }) {
            return Self::damaged(sentence(&error));
        }
        let (exit, code) = match error {
            FilesError::Store { .. } => (Exit::Failed, "store"),
            FilesError::NothingMatches { .. } => (Exit::Usage, "usage"),
            FilesError::Reader { .. } | FilesError::Damaged { .. } => (Exit::Failed, "image"),
        };
        with_optional_hint(Self::new(exit, code, &error), error.hint())
    }
}

fn with_optional_hint(trouble: Trouble, hint: Option<&str>) -> Trouble {
    match hint {
        Some(hint) => trouble.with_hint(hint),
        None => trouble,
    }
}
