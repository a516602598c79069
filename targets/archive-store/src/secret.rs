//! From where a secret is to what it is.
//!
//! Promises that a secret is wiped from memory after use, that no error shows any of it, and that
//! a key file which others can read is an error and not a warning. What surrounds the program
//! (its environment) is passed in, so that tests need not change it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dualsync_model::secret::SecretRef;
use secrecy::SecretSlice;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// No secret is longer than this many bytes.
const LENGTH_MAX: usize = 65_536;

/// A command that has not ended by then is killed.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// A secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the secret '{reference}' cannot be used")]
pub struct SecretError {
    reference: SecretRef,
    #[source]
    problem: SecretProblem,
}

impl SecretError {
    pub(crate) fn new(reference: &SecretRef, problem: SecretProblem) -> Self {
        Self { reference: reference.clone(), problem }
    }

    /// Which secret.
    pub const fn reference(&self) -> &SecretRef {
        &self.reference
    }

    /// Why not.
    pub const fn problem(&self) -> &SecretProblem {
        &self.problem
    }
}

/// What stands in the way of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    /// The system refuses.
    #[error("it cannot be read")]
    Io(#[from] Error),
    /// Not a regular file.
    #[error("it is not a regular file")]
    NotRegular,
    /// Group or others have rights on the file.
    #[error("its mode is {0:04o}, so others can get at it; make it 0600")]
    Open(u32),
    /// A missing environment variable.
    #[error("the environment has no {0}")]
    NoVariable(String),
    /// A command without success.
    #[error("its command failed: {0}")]
    Failed(ExitStatus),
    /// A command without end.
    #[error("its command did not end within 30 seconds")]
    Endless,
    /// No bytes, or more than 64 KiB.
    #[error("it has {0} bytes or more, and 1 to 65536 are allowed")]
    Length(usize),
    /// Store credentials that are not in the AWS credentials-file format.
    #[error("it has no {0} under [default], as the AWS credentials-file format wants it")]
    NoField(&'static str),
}

type Problem<T> = std::result::Result<T, SecretProblem>;

/// Fetches a secret, every byte as it is.
pub async fn resolve_secret(reference: &SecretRef) -> std::result::Result<SecretSlice<u8>, SecretError> {
    let secret = fetch(reference, |name| std::env::var_os(name)).await?;
    Ok(secret.to_vec().into())
}

/// Fetches a secret in the given environment.
pub(crate) async fn fetch(
    reference: &SecretRef,
    environment: impl Fn(&str) -> Option<OsString>,
) -> std::result::Result<Zeroizing<Vec<u8>>, SecretError> {
    let variable = |name: &str| environment(name).ok_or_else(|| SecretProblem::NoVariable(name.to_owned()));
    let fetched = match reference {
        SecretRef::File(path) => from_file(path, 0o077),
        // The service manager guards this folder itself; with ACLs its files look group-readable.
        SecretRef::Systemd(name) => {
            variable("CREDENTIALS_DIRECTORY").and_then(|dir| from_file(&Path::new(&dir).join(name), 0))
        }
        SecretRef::Env(name) => variable(name).map(|value| Zeroizing::new(value.into_encoded_bytes())),
        SecretRef::Command(argv) => from_command(argv, COMMAND_TIME).await,
    };
    let fetched = fetched.and_then(|secret| match secret.len() {
        1..=LENGTH_MAX => Ok(secret),
        length => Err(SecretProblem::Length(length)),
    });
    fetched.map_err(|problem| SecretError::new(reference, problem))
}

/// The file's bytes, unless its mode has one of the `forbidden` bits.
fn from_file(path: &Path, forbidden: u32) -> Problem<Zeroizing<Vec<u8>>> {
    // Without waiting: should a pipe lie there, it is refused by its kind.
    let file = File::options().read(true).custom_flags(nonblocking()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(SecretProblem::NotRegular);
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(SecretProblem::Open(mode));
    }
    Ok(read_wiped(file)?)
}

fn nonblocking() -> i32 {
    // The flag's bit pattern is a small positive number on every Linux.
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

/// Reads at most one byte more than allowed, into a buffer that never moves, so that no copy is left unwiped.
fn read_wiped(file: File) -> Result<Zeroizing<Vec<u8>>> {
    let mut secret = Zeroizing::new(Vec::with_capacity(LENGTH_MAX + 1));
    file.take(LENGTH_MAX as u64 + 1).read_to_end(&mut secret)?;
    Ok(secret)
}

async fn from_command(argv: &[String], limit: Duration) -> Problem<Zeroizing<Vec<u8>>> {
    let [program, arguments @ ..] = argv else { return Err(Error::from(ErrorKind::InvalidInput).into()) };
    let mut command = Command::new(program);
    let ending = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = timeout(limit, ending).await.map_err(|_| SecretProblem::Endless)??;
    let secret = Zeroizing::new(output.stdout);
    if output.status.success() { Ok(secret) } else { Err(SecretProblem::Failed(output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions, write};

    async fn problem(reference: &str) -> SecretProblem {
        fetch(&reference.parse().unwrap(), |_| None).await.unwrap_err().problem
    }

    #[tokio::test]
    async fn only_a_file_of_ones_own_is_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let reference = format!("file:{}", path.display());
        assert!(matches!(problem(&reference).await, SecretProblem::Io(_)));
        write(&path, "hunter2\n").unwrap();
        for mode in [0o644, 0o620, 0o601] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(problem(&reference).await, SecretProblem::Open(found) if found == mode));
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        let secret = fetch(&reference.parse().unwrap(), |_| None).await.unwrap();
        assert_eq!(secret.as_slice(), b"hunter2\n");
    }

    #[tokio::test]
    async fn folders_devices_and_wrong_lengths_are_no_secrets() {
        let folder = tempfile::tempdir().unwrap();
        create_dir(folder.path().join("dir")).unwrap();
        assert!(matches!(problem(&format!("file:{}/dir", folder.path().display())).await, SecretProblem::NotRegular));
        assert!(matches!(problem("file:/dev/zero").await, SecretProblem::NotRegular));
        assert!(matches!(problem("command:true").await, SecretProblem::Length(0)));
        assert!(matches!(problem("command:head -c 65537 /dev/zero").await, SecretProblem::Length(65_537)));
    }

    #[tokio::test]
    async fn variables_and_credentials_come_from_the_given_environment() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("paris"), "by systemd").unwrap();
        let environment = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(folder.path().into()),
            "AGE" => Some("by variable".into()),
            _ => None,
        };
        for (reference, expected) in [("systemd:paris", "by systemd"), ("env:AGE", "by variable")] {
            let secret = fetch(&reference.parse().unwrap(), environment).await.unwrap();
            assert_eq!(secret.as_slice(), expected.as_bytes());
        }
        assert!(matches!(problem("env:AGE").await, SecretProblem::NoVariable(name) if name == "AGE"));
        assert!(matches!(problem("systemd:paris").await, SecretProblem::NoVariable(_)));
    }

    #[tokio::test]
    async fn a_command_runs_as_it_is_written_and_not_for_ever() {
        let secret = fetch(&"command:echo $(id) *".parse().unwrap(), |_| None).await.unwrap();
        assert_eq!(secret.as_slice(), b"$(id) *\n");
        assert!(matches!(problem("command:false").await, SecretProblem::Failed(_)));
        assert!(matches!(problem("command:/no/such/program").await, SecretProblem::Io(_)));
        let endless = ["sleep", "1000000"].map(str::to_owned);
        assert!(matches!(from_command(&endless, Duration::from_millis(2)).await, Err(SecretProblem::Endless)));
    }

    #[tokio::test]
    async fn an_error_names_the_reference_only() {
        let error = fetch(&"command:sh -c false".parse().unwrap(), |_| None).await.unwrap_err();
        assert_eq!(error.to_string(), "the secret 'command:sh -c false' cannot be used");
        assert_eq!(error.reference().to_string(), "command:sh -c false");
    }
}
