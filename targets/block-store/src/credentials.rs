//! The credentials of a bucket, in the format of the AWS credentials file.
//!
//! Only the profile `default` is read: one target, one file, one pair of keys. Other profiles and
//! settings are passed over, so that a file made by another tool can be used as it is.

use std::ffi::OsString;

use aws_sdk_s3::config::Credentials;
use dualsync_model::secret::SecretRef;
use zeroize::Zeroizing;

use crate::secret::{self, Environment, SecretError};

/// Credentials that cannot be used; the message never shows them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// They could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// They are not in the format.
    #[error("the credentials {reference} have no {missing} in the section [default]")]
    Format {
        /// Where they are.
        reference: SecretRef,
        /// The field.
        missing: &'static str,
    },
}

/// The access key and secret that `reference` leads to.
pub(crate) async fn load(reference: &SecretRef) -> Result<Credentials, CredentialsError> {
    load_with(reference, &|name| std::env::var_os(name)).await
}

async fn load_with(reference: &SecretRef, environment: Environment<'_>) -> Result<Credentials, CredentialsError> {
    if let SecretRef::Env(name) = reference {
        let read = async |suffix: &str| {
            let variable = SecretRef::Env(format!("{name}_{suffix}"));
            secret::read(&variable, environment).await
        };
        let id = read("ACCESS_KEY_ID").await?;
        let key = read("SECRET_ACCESS_KEY").await?;
        let token = if environment(&format!("{name}_SESSION_TOKEN")).is_some_and(|token| token != OsString::new()) {
            Some(read("SESSION_TOKEN").await?)
        } else {
            None
        };
        return Ok(credentials(&text(&id), &text(&key), token.map(|token| text(&token))));
    }
    let file = secret::read(reference, environment).await?;
    let file = text(&file);
    let field = |name| default_field(&file, name);
    let missing = |missing| CredentialsError::Format { reference: reference.clone(), missing };
    let id = field("aws_access_key_id").ok_or_else(|| missing("aws_access_key_id"))?;
    let key = field("aws_secret_access_key").ok_or_else(|| missing("aws_secret_access_key"))?;
    Ok(credentials(id, key, field("aws_session_token").map(|token| Zeroizing::new(token.to_owned()))))
}

/// The SDK wipes its copy of the secret itself.
fn credentials(id: &str, key: &str, token: Option<Zeroizing<String>>) -> Credentials {
    Credentials::new(id.trim(), key.trim(), token.map(|token| token.trim().to_owned()), None, "dualsync")
}

/// Bytes that are not UTF-8 cannot be a key that a store made; they are replaced and will be refused by it.
fn text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())
}

/// The value of `name` in the section `[default]`, when it is not empty.
fn default_field<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    let mut in_default = false;
    for line in file.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            in_default = section.trim_end_matches(']').trim() == "default";
        } else if in_default
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    async fn from_file(content: &str) -> Result<Credentials, CredentialsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file.path(), content).unwrap();
        load_with(&SecretRef::File(file.path().into()), &|_| None).await
    }

    #[tokio::test]
    async fn the_default_profile_is_read_and_the_others_are_not() {
        let found = from_file(
            "# made by hand\n[other]\naws_access_key_id = NO\n\n[ default ]\naws_access_key_id=AKIA1\n region = x\n\
             aws_secret_access_key =  s3=cret+/ \n[last]\naws_session_token = NO\n",
        )
        .await
        .unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("AKIA1", "s3=cret+/"));
        assert_eq!(found.session_token(), None);
    }

    #[tokio::test]
    async fn a_missing_field_is_named_and_no_other_is_shown() {
        let check = async |content: &str, expected: &str| {
            let error = from_file(content).await.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        };
        check("aws_access_key_id = hunter2\n", "aws_access_key_id in the section [default]").await;
        check("[default]\naws_secret_access_key = hunter2\n", "aws_access_key_id").await;
        check("[default]\naws_access_key_id = hunter2\naws_secret_access_key =\n", "aws_secret_access_key").await;
    }

    #[tokio::test]
    async fn a_name_leads_to_two_or_three_variables() {
        let environment = |name: &str| match name {
            "T_ACCESS_KEY_ID" => Some("AKIA2".into()),
            "T_SECRET_ACCESS_KEY" => Some("secret\n".into()),
            "T_SESSION_TOKEN" => Some("token".into()),
            _ => None,
        };
        let found = load_with(&"env:T".parse().unwrap(), &environment).await.unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("AKIA2", "secret"));
        assert_eq!(found.session_token(), Some("token"));
        let error = load_with(&"env:U".parse().unwrap(), &environment).await.unwrap_err();
        assert!(error.to_string().contains("U_ACCESS_KEY_ID"));
    }
}
