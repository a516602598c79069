//! Where a secret is found, never the secret itself.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A reference to a secret; the program that needs it resolves it itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `file:PATH`: an absolute path, refused when others can read it.
    File(PathBuf),
    /// `systemd:NAME`: a file of `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential).
    Systemd(String),
    /// `env:NAME`: an environment variable; for store credentials the two variables
    /// `NAME_ACCESS_KEY_ID` and `NAME_SECRET_ACCESS_KEY`.
    Env(String),
    /// `command:ARGV`: words split at white space, run without a shell; the secret is its output.
    Command(Vec<String>),
}

/// A text that is no reference to a secret. It does not repeat the text, which may be the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a secret reference: write file:/ABSOLUTE/PATH, systemd:NAME, env:NAME or command:PROGRAM ARGUMENTS")]
pub struct SecretRefError;

impl FromStr for SecretRef {
    type Err = SecretRefError;

    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        let (kind, rest) = text.split_once(':').ok_or(SecretRefError)?;
        let name = |rest: &str| {
            let good = !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                && !rest.starts_with('.');
            if good { Ok(rest.to_owned()) } else { Err(SecretRefError) }
        };
        match kind {
            "file" if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            "systemd" => name(rest).map(Self::Systemd),
            "env" => name(rest).map(Self::Env),
            "command" => {
                let argv: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
                if argv.is_empty() { Err(SecretRefError) } else { Ok(Self::Command(argv)) }
            }
            _ => Err(SecretRefError),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Command(argv) => write!(f, "command:{}", argv.join(" ")),
        }
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> Self {
        secret.to_string()
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretRefError;

    fn try_from(text: String) -> Result<Self, SecretRefError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back() {
        for text in ["file:/etc/dualsync/block.key", "systemd:paris", "env:BLOCK", "command:pass show dualsync"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_value_in_the_place_of_a_reference_is_refused_and_not_repeated() {
        for text in ["hunter2", "file:relative", "env:", "env:A B", "systemd:../x", "command: ", "vault:x"] {
            let error = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"));
        }
    }
}
