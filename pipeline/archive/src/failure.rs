//! Every error of this program, sorted into an exit code, a fixed word and a hint.

use dualsync_archive_store::contract::{ErrorKind, StoreError};
use dualsync_model::event::Failure;
use dualsync_model::outcome::Exit;

use crate::backup::BackupError;
use crate::backup::state::LockError;
use crate::keys::KeyError;
use crate::objects::ObjectError;
use crate::points::{PointError, with_causes};
use crate::record::RecordError;
use crate::repo::OpenError;

/// A job that was not done.
#[derive(Debug)]
pub struct Fault {
    exit: Exit,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Fault {
    /// A fault with the causes of `error` in its message.
    pub fn new(exit: Exit, code: &'static str, error: &dyn std::error::Error) -> Self {
        Self { exit, code, message: with_causes(error), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The fixed word.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// Wrong usage: nothing was touched.
pub fn usage(message: impl Into<String>) -> Fault {
    Fault { exit: Exit::Usage, code: "usage", message: message.into(), hint: None }
}

/// Something that should not be able to happen.
pub fn internal(message: impl Into<String>) -> Fault {
    Fault { exit: Exit::Failed, code: "internal", message: message.into(), hint: None }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { exit_code: fault.exit.code(), code: fault.code.to_owned(), message: fault.message, hint: fault.hint }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let exit = if error.kind() == ErrorKind::Misconfigured { Exit::Usage } else { Exit::Failed };
        Self::new(exit, "store", &error).hint(error.hint())
    }
}

impl From<ObjectError> for Fault {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Store(error) => (*error).into(),
            error => Self::new(Exit::Damaged, "damaged", &error)
                .hint("the other copy of the point is not touched by this; `dualsync check` lists all damage"),
        }
    }
}

impl From<PointError> for Fault {
    fn from(error: PointError) -> Self {
        match error {
            PointError::Object(error) => error.into(),
            error => Self::new(Exit::Damaged, "damaged", &error),
        }
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        let (exit, code) = match error {
            KeyError::OtherSigner { .. } => (Exit::WrongKey, "wrong_key"),
            KeyError::Create { .. } | KeyError::Random(_) => (Exit::Failed, "internal"),
            _ => (Exit::Usage, "usage"),
        };
        Self::new(exit, code, &error)
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Missing { .. } => {
                Self::new(Exit::RepositoryMissing, "repository_missing", &error).hint("run `dualsync init`")
            }
            OpenError::Keys(error) => (*error).into(),
            OpenError::Sealed { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .hint("`dualsync restore --identity FILE` with the recovery identity, on a machine that may read"),
            OpenError::OtherIdentity { .. } | OpenError::OtherSigner { .. } | OpenError::LostKey { .. } => {
                Self::new(Exit::WrongKey, "wrong_key", &error)
            }
            OpenError::Description(RecordError::Version { .. }) => Self::new(Exit::Failed, "unknown_version", &error),
            OpenError::Description(_) | OpenError::Stranger { .. } | OpenError::Orphaned { .. } => {
                Self::new(Exit::Damaged, "damaged", &error)
            }
            OpenError::Object(error) => error.into(),
        }
    }
}

impl From<BackupError> for Fault {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Object(error) => error.into(),
            BackupError::Codec(_) | BackupError::Exclude(_) => Self::new(Exit::Usage, "usage", &error),
            BackupError::Lock(LockError::Held { .. } | LockError::Commit { .. }) => {
                Self::new(Exit::Locked, "locked", &error)
            }
            BackupError::Aborted => Self::new(Exit::Failed, "aborted", &error),
            BackupError::Walk(_) | BackupError::Source(_) => Self::new(Exit::Failed, "source", &error),
            BackupError::NotLocked { .. } => Self::new(Exit::Failed, "refused", &error)
                .hint("make a bucket with object lock, or take `immutability` out of the target"),
            BackupError::TooBig { .. } => Self::new(Exit::Failed, "too_big", &error),
            BackupError::Marked { .. } | BackupError::TooLong => Self::new(Exit::Failed, "marked", &error),
            BackupError::Lock(_) | BackupError::State(_) | BackupError::Index(_) | BackupError::Spool(_) => {
                Self::new(Exit::Failed, "state", &error).hint("look at the space and the rights of the state folder")
            }
            _ => Self::new(Exit::Failed, "internal", &error),
        }
    }
}
