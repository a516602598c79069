//! From any error of the library to the last line of a job: exit code, code word, message, hint.
//!
//! This is the one place that sorts errors; what a library function returns is its own enum.

use dualsync_block_store::contract::StoreError;
use dualsync_block_store::secret::SecretError;
use dualsync_model::event::Failure;
use dualsync_model::outcome::Exit;

use crate::fetch::{ObjectError, Problem, sentence};
use crate::points::CensusError;
use crate::repository::RepositoryError;
use crate::seal::OpenError;

/// A job that was not done.
#[derive(Debug)]
pub struct Trouble {
    exit: Exit,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Trouble {
    /// Trouble of this kind, told by an error and its causes.
    pub fn new(exit: Exit, code: &'static str, error: &dyn std::error::Error) -> Self {
        Self { exit, code, message: sentence(error), hint: None }
    }

    /// The job or the way it was given is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", message: message.into(), hint: None }
    }

    /// Some of what is stored is damaged; findings told which.
    pub fn damaged(message: impl Into<String>) -> Self {
        let hint = Some("restore from the other copy; `dualsync verify` names the files it hits".to_owned());
        Self { exit: Exit::Damaged, code: "damaged", message: message.into(), hint }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The line that tells it.
    pub fn failure(&self) -> Failure {
        Failure {
            exit_code: self.exit.code(),
            code: self.code.to_owned(),
            message: self.message.clone(),
            hint: self.hint.clone(),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Failed, "store", &error).with_hint(error.hint())
    }
}

impl From<SecretError> for Trouble {
    fn from(error: SecretError) -> Self {
        Self::new(Exit::Usage, "usage", &error)
    }
}

impl From<RepositoryError> for Trouble {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Missing { .. } => Self::new(Exit::RepositoryMissing, "repository_missing", &error)
                .with_hint("run `dualsync init`, or correct the target's place and prefix"),
            RepositoryError::WrongKey { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("use the key file that `dualsync init` made for this target, or the recovery sheet"),
            RepositoryError::Rotated { .. } => Self::new(Exit::WrongKey, "wrong_key", &error).with_hint(
                "put the new key in the place of this one: it is where the key was rotated, and on the sheet made then; \
                 `dualsync keys rotate` there finishes what was cut off",
            ),
            RepositoryError::NoSlot { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("`dualsync keys list` shows the slots, where the repository key is"),
            RepositoryError::ManifestsOnly { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("list, prune, undelete and check work with it; everything else runs where the repository key is"),
            RepositoryError::Removed { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("`dualsync keys add --retention FILE` makes another one, where the repository key is"),
            RepositoryError::UnknownVersion { .. } => {
                Self::new(Exit::Failed, "unknown_version", &error).with_hint("use a newer dualsync")
            }
            RepositoryError::Damaged(_) => Self::new(Exit::Damaged, "damaged", &error).with_hint(
                "put the object back from the other copy of the bucket, or an older version of it; \
                 `dualsync init` puts a lost key slot back",
            ),
            RepositoryError::Store(error) => error.into(),
        }
    }
}

impl From<ObjectError> for Trouble {
    fn from(error: ObjectError) -> Self {
        match &error.problem {
            Problem::Open(OpenError::UnknownVersion(_) | OpenError::UnknownSuite(_) | OpenError::UnknownEpoch(_)) => {
                return Self::new(Exit::Failed, "unknown_version", &error).with_hint("use a newer dualsync");
            }
            Problem::Open(OpenError::WrongKey(_) | OpenError::ManifestsOnly(_)) => {
                return Self::new(Exit::WrongKey, "wrong_key", &error);
            }
            _ if error.is_damage() => return Self::new(Exit::Damaged, "damaged", &error),
            _ => {}
        }
        let hint = match &error.problem {
            Problem::Store(error) => error.hint(),
            _ => "run `dualsync check`",
        };
        Self::new(Exit::Failed, "store", &error).with_hint(hint)
    }
}

impl From<CensusError> for Trouble {
    fn from(error: CensusError) -> Self {
        match error {
            CensusError::List(error) => error.into(),
            CensusError::Read(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyId;
    use crate::names;
    use dualsync_block_store::contract::{ErrorKind, Operation};

    #[test]
    fn each_kind_of_error_has_its_exit() {
        let check = |trouble: Trouble, exit: Exit, code: &str| {
            let failure = trouble.failure();
            assert_eq!((trouble.exit(), failure.code.as_str()), (exit, code));
            assert_eq!(failure.exit_code, exit.code());
        };
        let store = |kind| StoreError::new(kind, Operation::Get, "bucket b", "repo.json");
        check(store(ErrorKind::Timeout).into(), Exit::Failed, "store");
        let missing = RepositoryError::Missing { place: "b".into() };
        check(missing.into(), Exit::RepositoryMissing, "repository_missing");
        let wrong = RepositoryError::WrongKey { key_id: KeyId([0; 16]), place: "b".into() };
        check(wrong.into(), Exit::WrongKey, "wrong_key");
        let object = |problem: Problem| ObjectError::new(names::fixed(names::REPO), problem);
        check(object(store(ErrorKind::NotFound).into()).into(), Exit::Damaged, "damaged");
        check(object(store(ErrorKind::Timeout).into()).into(), Exit::Failed, "store");
        check(object(OpenError::Truncated.into()).into(), Exit::Damaged, "damaged");
        check(object(OpenError::UnknownVersion(9).into()).into(), Exit::Failed, "unknown_version");
        check(object(OpenError::WrongKey(KeyId([0; 16])).into()).into(), Exit::WrongKey, "wrong_key");
    }

    #[test]
    fn a_message_carries_its_causes() {
        let error = ObjectError::new(names::fixed("repo.json"), OpenError::UnknownVersion(9));
        let message = Trouble::from(error).failure().message;
        assert!(message.contains("repo.json") && message.contains("format version 9"), "{message}");
    }
}
