//! The moment itself: taken, checked, released.

use std::fs;
use std::path::Path;
use std::time::Instant;

use dualsync_model::job::Snapshot;
use dualsync_model::time::Timestamp;

use crate::command::{self, Commanded};
use crate::error::{Invalid, ReleaseError, SnapshotError};
use crate::footing::Ground;
use crate::none::Unfrozen;
use crate::spec::{Driver, Spec};
use crate::watchdog::leash::Leash;
use crate::{freeze, none};

/// What each driver holds on to. Dropped, each lets go by itself.
enum Held {
    None(Unfrozen),
    Freeze(Leash),
    Command(Commanded),
}

/// A moment that can be read until it is released.
///
/// Dropping it releases it too, on the way out of an error; what fails then is only logged, so
/// call [`Taken::release`].
#[must_use = "a snapshot that is dropped is released at once"]
pub struct Taken {
    moment: Snapshot,
    held: Held,
}

/// Takes one moment of the source. Blocks; `now` is the time at the call.
///
/// After an error nothing is left frozen or standing, as far as the user's release command
/// did its work.
pub fn take(spec: &Spec, now: Timestamp) -> Result<Taken, SnapshotError> {
    let started = Instant::now();
    let ground = look_at(&spec.device, &spec.tree)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(SnapshotError::Random)?;
    let id = format!("{:032x}", u128::from_be_bytes(id));
    let held = match &spec.driver {
        Driver::None { idle } => Held::None(none::take(&spec.device, &spec.tree, *idle)?),
        Driver::Freeze(freeze) => Held::Freeze(freeze::take(&spec.device, &spec.tree, ground, freeze)?),
        Driver::Command(commands) => Held::Command(command::take(spec, commands, &id)?),
    };
    let (device, tree, ground) = match &held {
        Held::Command(commanded) => {
            (commanded.device(), commanded.tree(), look_at(commanded.device(), commanded.tree())?)
        }
        Held::None(_) | Held::Freeze(_) => (&*spec.device, &*spec.tree, ground),
    };
    // A flush can take minutes, and what is written meanwhile is in the snapshot.
    let taken_at = now.plus_seconds(i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX));
    let moment = Snapshot {
        id,
        method: spec.driver.method().to_owned(),
        frozen: !matches!(held, Held::None(_)),
        taken_at,
        device: device.to_owned(),
        tree: tree.to_owned(),
        is_device: matches!(ground, Ground::Device(_)),
    };
    Ok(Taken { moment, held })
}

/// What `device` is; refused unless it can be read as one and `tree` can be walked.
pub(crate) fn look_at(device: &Path, tree: &Path) -> Result<Ground, SnapshotError> {
    let look = |path: &Path| {
        fs::metadata(path).map_err(|source| SnapshotError::Io { operation: "look at", path: path.to_owned(), source })
    };
    let ground = Ground::of(&look(device)?).ok_or_else(|| SnapshotError::NotADevice { path: device.to_owned() })?;
    if !look(tree)?.is_dir() {
        return Err(SnapshotError::NotATree { path: tree.to_owned() });
    }
    Ok(ground)
}

impl Taken {
    /// What the writers read, in their words.
    pub fn moment(&self) -> &Snapshot {
        &self.moment
    }

    /// Ok when everything that was read until now is of the one moment. Blocks.
    ///
    /// To be asked after a writer's last read and before its commit. Once it said no, it never
    /// says yes again for a frozen moment: the watchdog has thawed.
    pub fn still_valid(&mut self) -> Result<(), Invalid> {
        match &mut self.held {
            Held::None(unfrozen) => unfrozen.still_valid(),
            Held::Freeze(leash) => leash.still_valid(),
            Held::Command(commanded) => commanded.still_valid(),
        }
    }

    /// Lets go: thaws, removes the snapshot. Blocks. After an error a person has to look.
    pub fn release(self) -> Result<(), ReleaseError> {
        match self.held {
            Held::None(_) => Ok(()),
            Held::Freeze(leash) => leash.thaw(),
            Held::Command(commanded) => commanded.release(),
        }
    }
}
