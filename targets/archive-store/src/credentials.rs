//! A target's credentials, for S3 and for the other services.
//!
//! They come in the format of the AWS credentials file, section `[default]`. For S3 its three
//! names are known; for other services each line is one of opendal's secret options by its own
//! name, so that `password = ...` reaches WebDAV as it should.

use std::collections::BTreeMap;
use std::ffi::OsString;

use dualsync_model::secret::SecretRef;
use zeroize::Zeroizing;

use crate::secret::{SecretError, SecretProblem, fetch};

/// Names and values; wiped when they are dropped.
pub(crate) type Fields = BTreeMap<String, Zeroizing<String>>;

/// The name of the access key in the file.
pub(crate) const ACCESS_KEY: &str = "aws_access_key_id";

/// The name of its secret.
pub(crate) const SECRET_KEY: &str = "aws_secret_access_key";

/// The name of the token of temporary credentials.
pub(crate) const SESSION_TOKEN: &str = "aws_session_token";

/// The fields that `reference` leads to.
pub(crate) async fn fields(reference: &SecretRef) -> Result<Fields, SecretError> {
    fields_in(reference, |name| std::env::var_os(name)).await
}

/// Access key and secret have to be among `fields`.
pub(crate) fn require_keys(fields: &Fields, reference: &SecretRef) -> Result<(), SecretError> {
    match [ACCESS_KEY, SECRET_KEY].into_iter().find(|name| !fields.contains_key(*name)) {
        None => Ok(()),
        Some(missing) => Err(SecretError::new(reference, SecretProblem::NoField(missing))),
    }
}

async fn fields_in(
    reference: &SecretRef,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Fields, SecretError> {
    match reference {
        SecretRef::Env(name) => from_variables(reference, name, environment),
        _ => Ok(default_section(&text(&fetch(reference, environment).await?))),
    }
}

/// `NAME_ACCESS_KEY_ID`, `NAME_SECRET_ACCESS_KEY` and, where it is set, `NAME_SESSION_TOKEN`.
fn from_variables(
    reference: &SecretRef,
    name: &str,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Fields, SecretError> {
    let mut fields = Fields::new();
    for field in [ACCESS_KEY, SECRET_KEY, SESSION_TOKEN] {
        let variable = format!("{name}_{}", field.trim_start_matches("aws_").to_ascii_uppercase());
        match environment(&variable) {
            Some(value) => {
                let value = text(&Zeroizing::new(value.into_encoded_bytes()));
                fields.insert(field.to_owned(), Zeroizing::new(value.trim().to_owned()));
            }
            None if field == SESSION_TOKEN => {}
            None => return Err(SecretError::new(reference, SecretProblem::NoVariable(variable))),
        }
    }
    Ok(fields)
}

fn text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())
}

/// The lines `name = value` of the section `[default]`; empty values count as missing.
fn default_section(file: &str) -> Fields {
    let lines = file.lines().map(str::trim);
    let section =
        lines.skip_while(|line| !is_header(line, "default")).skip(1).take_while(|line| !line.starts_with('['));
    let fields = section.filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| line.split_once('='));
    let fields = fields.map(|(name, value)| (name.trim(), value.trim())).filter(|(_, value)| !value.is_empty());
    fields.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).collect()
}

fn is_header(line: &str, name: &str) -> bool {
    line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).is_some_and(|found| found.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(fields: &Fields) -> Vec<(&str, &str)> {
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn only_the_default_section_counts() {
        let fields = default_section(
            "stray = 1\n[backup]\naws_access_key_id = B\n[default]\n; note = 2\naws_access_key_id = A\n\
             aws_secret_access_key=x=y/+\npassword =\n[other]\naws_session_token = T",
        );
        assert_eq!(plain(&fields), [(ACCESS_KEY, "A"), (SECRET_KEY, "x=y/+")]);
        assert!(default_section("aws_access_key_id = A").is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let reference: SecretRef = "systemd:paris".parse().unwrap();
        let check = |file: &str, missing: Option<&str>| {
            let problem = require_keys(&default_section(file), &reference).err();
            let named = problem.map(|error| error.problem().to_string());
            assert_eq!(named.is_some(), missing.is_some());
            assert!(named.unwrap_or_default().contains(missing.unwrap_or_default()));
        };
        check("[default]\naws_access_key_id=A\naws_secret_access_key=S", None);
        check("[default]\naws_access_key_id=A", Some(SECRET_KEY));
        check("", Some(ACCESS_KEY));
    }

    #[tokio::test]
    async fn variables_are_named_after_the_reference() {
        let environment = |name: &str| match name {
            "PARIS_ACCESS_KEY_ID" => Some("A".into()),
            "PARIS_SECRET_ACCESS_KEY" => Some("S\n".into()),
            _ => None,
        };
        let fields = fields_in(&"env:PARIS".parse().unwrap(), environment).await.unwrap();
        assert_eq!(plain(&fields), [(ACCESS_KEY, "A"), (SECRET_KEY, "S")]);
        let error = fields_in(&"env:ROME".parse().unwrap(), environment).await.unwrap_err();
        assert!(matches!(error.problem(), SecretProblem::NoVariable(name) if name == "ROME_ACCESS_KEY_ID"));
    }
}
