//! Turns a reference to a secret into the secret, for stores and for the path itself.
//!
//! Secrets live in memory that is wiped when it is dropped, and never appear in an error or a log
//! line. A file that group or others can read is refused. The environment comes in as an argument.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dualsync_model::secret::SecretRef;
use rustix::fs::{Mode, OFlags};
use secrecy::SecretSlice;
use zeroize::Zeroizing;

/// Longest secret, bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// How long a command may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Reads the environment: `std::env::var_os` in programs, a closure in tests.
pub type Environment<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// A secret that could not be read; the message names where it should be, never what it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file or the program could not be read or run.
    #[error("cannot read the secret {reference}")]
    Io {
        /// Where it should be.
        reference: SecretRef,
        /// Why not.
        source: io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the secret {reference} is readable by group or others (mode {mode:04o}): chmod 0600 it")]
    Exposed {
        /// Where it is.
        reference: SecretRef,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a directory, a device or a pipe.
    #[error("the secret {reference} is not a regular file")]
    NotAFile {
        /// Where it is.
        reference: SecretRef,
    },
    /// The environment variable that should hold it, or lead to it, is not set.
    #[error("the secret {reference} needs the environment variable {variable}, which is not set")]
    Unset {
        /// Where it should be.
        reference: SecretRef,
        /// The variable.
        variable: String,
    },
    /// The command failed.
    #[error("the command of the secret {reference} ended with {status}")]
    Command {
        /// The command.
        reference: SecretRef,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The command took too long and was killed.
    #[error("the command of the secret {reference} printed nothing within 30 seconds")]
    Slow {
        /// The command.
        reference: SecretRef,
    },
    /// There is nothing in it, or too much.
    #[error("the secret {reference} is empty or longer than 64 KiB")]
    Length {
        /// Where it is.
        reference: SecretRef,
    },
}

/// The secret that `reference` leads to, byte for byte.
pub async fn resolve_secret(reference: &SecretRef) -> Result<SecretSlice<u8>, SecretError> {
    let bytes = read(reference, &|name| std::env::var_os(name)).await?;
    Ok(SecretSlice::from(bytes.to_vec()))
}

/// As [`resolve_secret`], with the environment given.
pub(crate) async fn read(
    reference: &SecretRef,
    environment: Environment<'_>,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let unset = |variable: &str| SecretError::Unset { reference: reference.clone(), variable: variable.to_owned() };
    let variable = |name: &str| environment(name).ok_or_else(|| unset(name));
    let bytes = match reference {
        SecretRef::File(path) => read_file(reference, path, true)?,
        SecretRef::Systemd(name) => {
            let folder = PathBuf::from(variable("CREDENTIALS_DIRECTORY")?);
            // systemd guards that folder itself, sometimes by ACLs that look like group permissions.
            read_file(reference, &folder.join(name), false)?
        }
        SecretRef::Env(name) => Zeroizing::new(variable(name)?.into_encoded_bytes()),
        SecretRef::Command(argv) => run(reference, argv, COMMAND_LIMIT).await?,
    };
    if bytes.is_empty() || bytes.len() > SECRET_BYTES_MAX {
        return Err(SecretError::Length { reference: reference.clone() });
    }
    Ok(bytes)
}

fn read_file(reference: &SecretRef, path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io = |source: io::Error| SecretError::Io { reference: reference.clone(), source };
    // NONBLOCK, so that a pipe in the place of the file is refused below and not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| io(errno.into()))?);
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile { reference: reference.clone() });
    }
    let mode = meta.mode() & 0o7777;
    if private && mode & 0o077 != 0 {
        return Err(SecretError::Exposed { reference: reference.clone(), mode });
    }
    // Set aside at once: a vector that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

async fn run(reference: &SecretRef, argv: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io = |source: io::Error| SecretError::Io { reference: reference.clone(), source };
    let (program, arguments) = argv.split_first().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| SecretError::Slow { reference: reference.clone() })?
        .map_err(io)?;
    let bytes = Zeroizing::new(output.stdout);
    if output.status.success() {
        Ok(bytes)
    } else {
        Err(SecretError::Command { reference: reference.clone(), status: output.status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn no_environment(_: &str) -> Option<OsString> {
        None
    }

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> SecretRef {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        SecretRef::File(path)
    }

    #[tokio::test]
    async fn a_private_file_is_read_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let reference = file(folder.path(), "key", b"\x00\xffkey\n", 0o600);
        assert_eq!(read(&reference, &no_environment).await.unwrap().as_slice(), b"\x00\xffkey\n");
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let error = read(&file(folder.path(), "key", b"hunter2", mode), &no_environment).await.unwrap_err();
            assert!(matches!(error, SecretError::Exposed { mode: found, .. } if found == mode));
            assert!(error.to_string().contains("chmod 0600") && !format!("{error:?}").contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn what_is_no_file_or_empty_or_endless_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = async |reference: SecretRef| read(&reference, &no_environment).await.unwrap_err();
        assert!(matches!(check(SecretRef::File(folder.path().into())).await, SecretError::NotAFile { .. }));
        assert!(matches!(check(SecretRef::File(folder.path().join("none"))).await, SecretError::Io { .. }));
        assert!(matches!(check(file(folder.path(), "empty", b"", 0o600)).await, SecretError::Length { .. }));
        assert!(matches!(
            check(file(folder.path(), "long", &vec![b'x'; 70_000], 0o600)).await,
            SecretError::Length { .. }
        ));
        assert!(matches!(check("file:/dev/zero".parse().unwrap()).await, SecretError::NotAFile { .. }));
    }

    #[tokio::test]
    async fn systemd_and_environment_lead_where_they_should() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "paris", b"from systemd", 0o440);
        let path = folder.path().as_os_str().to_owned();
        let environment = move |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(path.clone()),
            "BLOCK_KEY" => Some("from env".into()),
            _ => None,
        };
        let check = async |text: &str| read(&text.parse().unwrap(), &environment).await;
        assert_eq!(check("systemd:paris").await.unwrap().as_slice(), b"from systemd");
        assert_eq!(check("env:BLOCK_KEY").await.unwrap().as_slice(), b"from env");
        let error = check("env:OTHER").await.unwrap_err();
        assert!(matches!(error, SecretError::Unset { ref variable, .. } if variable == "OTHER"));
    }

    #[tokio::test]
    async fn a_command_is_run_without_a_shell() {
        let check = async |text: &str| read(&text.parse().unwrap(), &no_environment).await;
        assert_eq!(check("command:printf %s $HOME;id").await.unwrap().as_slice(), b"$HOME;id");
        assert!(matches!(check("command:false").await, Err(SecretError::Command { .. })));
        assert!(matches!(check("command:/nonexistent/program").await, Err(SecretError::Io { .. })));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_given_up() {
        let argv = ["sleep".to_owned(), "100000".to_owned()];
        let reference = SecretRef::Command(argv.to_vec());
        let error = run(&reference, &argv, Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, SecretError::Slow { .. }));
    }
}
