//! What a restore could not do: told by name for the first entries, counted for all.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use dualsync_model::outcome::Exit;
use dualsync_model::path::RawPath;

use crate::events::Events;
use crate::failure::Fault;
use crate::points::with_causes;
use crate::tree::apply::ApplyError;

/// Entries named in warnings.
const WARNINGS_MAX: u64 = 100;

/// Collects what goes wrong.
pub(super) struct Report {
    events: Events,
    failed: AtomicU64,
    named: AtomicU64,
    lost: AtomicU64,
    fatal: Mutex<Option<ApplyError>>,
}

impl Report {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            failed: AtomicU64::new(0),
            named: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            fatal: Mutex::new(None),
        }
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// An entry could not be made. Where the target takes nothing more, nothing more is tried.
    pub(super) fn failed(&self, path: &RawPath, error: ApplyError) {
        self.incomplete_entry("not_restored", &with_causes(&error), path);
        if is_fatal(&error) {
            self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// An entry is not what it should be, through no fault of what is stored.
    pub(super) fn incomplete_entry(&self, code: &str, message: &str, path: &RawPath) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.name(code, message, path);
    }

    /// Warns of an entry, unless there were many warnings already.
    pub(super) fn name(&self, code: &str, message: &str, path: &RawPath) {
        match self.named.fetch_add(1, Ordering::Relaxed) {
            before if before < WARNINGS_MAX => self.events.warn(code, message, Some(path)),
            WARNINGS_MAX => self.events.warn(code, "further entries are not named", None),
            _ => {}
        }
    }

    /// An entry is hit by damage; the findings name it.
    pub(super) fn lost_entry(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is no point in going on.
    pub(super) fn is_over(&self) -> bool {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).is_some() || self.events.is_broken()
    }

    /// Why the target takes nothing more.
    pub(super) fn fatal(&self, target: &Path) -> Option<Fault> {
        let fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let source = super::RestoreError::Target { target: target.to_owned(), source: fatal };
        Some(Fault::from(source).hint("make room or choose another target, then go on with --resume"))
    }

    pub(super) fn incomplete(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Whether the next entry would fail in the same way.
fn is_fatal(error: &ApplyError) -> bool {
    let ApplyError::Step { source, .. } = error else { return false };
    let fatal = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO, Errno::MFILE, Errno::NFILE];
    fatal.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
}

/// The end of a restore that met damage.
pub(super) fn damaged(message: String) -> Fault {
    Fault::new(Exit::Damaged, "damaged", &io::Error::other(message)).hint("everything else was restored")
}
