//! Object locks of S3, for which opendal has no call: two requests that are signed here, by the crate that opendal signs with.
//!
//! They go over the same [`Wire`] as all others, so they are counted, timed and understood alike. A lock is set on
//! the version on top or on one by its id, and read back from the headers of HEAD: what is not told there is not there.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use opendal::raw::percent_encode_path;
use opendal::{Buffer, Error, ErrorKind as DalKind, HttpBody, HttpTransport as _, Result};
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};

use crate::contract::{Key, Lock};
use crate::digest;
use crate::wire::Wire;

/// What a bucket is asked about locks with.
#[derive(Debug)]
pub(crate) struct Locks {
    wire: Wire,
    signer: Signer<Credential>,
    /// Endpoint, bucket and prefix, ending in a slash.
    base: String,
}

impl Locks {
    /// With opendal's options of an S3 service; `None` where one is missing.
    pub(crate) fn new(options: &HashMap<String, String>, wire: Wire) -> Option<Self> {
        let option = |name: &str| options.get(name).map(|value| value.trim_matches('/'));
        let (endpoint, bucket, region) = (option("endpoint")?, option("bucket")?, option("region")?);
        let mut provider = StaticCredentialProvider::new(option("access_key_id")?, options.get("secret_access_key")?);
        if let Some(token) = options.get("session_token") {
            provider = provider.with_session_token(token);
        }
        let signer = Signer::new(Context::new(), provider, RequestSigner::new("s3", region));
        let mut base = format!("{endpoint}/{bucket}/");
        if let Some(root) = option("root").filter(|root| !root.is_empty()) {
            base.push_str(&percent_encode_path(root));
            base.push('/');
        }
        Some(Self { wire, signer, base })
    }

    /// Sets the lock of a version; S3 refuses one that is shorter than what is there.
    pub(crate) async fn set(&self, key: &Key, version: Option<&str>, lock: Lock, changes_mode: bool) -> Result<()> {
        let (mode, until) = (word(lock.mode), lock.until);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let md5 = STANDARD.encode(digest::md5_bytes(body.as_bytes()));
        let mut request = Request::put(self.url(key, "retention", version)).header("Content-MD5", md5);
        if changes_mode {
            request = request.header("x-amz-bypass-governance-retention", "true");
        }
        let response = self.send(request.body(Buffer::from(body))).await?;
        if response.status().is_success() { Ok(()) } else { Err(refused(response.status())) }
    }

    /// The lock of a version, as HEAD tells it.
    pub(crate) async fn of(&self, key: &Key, version: Option<&str>) -> Result<Option<Lock>> {
        let request = Request::builder().method(Method::HEAD).uri(self.url(key, "", version));
        let response = self.send(request.body(Buffer::new())).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::new(DalKind::NotFound, "no such object"));
        }
        Ok(told(response.headers()))
    }

    fn url(&self, key: &Key, query: &str, version: Option<&str>) -> String {
        // As in a path, but for the slash.
        let version = version.map(|id| format!("versionId={}", percent_encode_path(id).replace('/', "%2F")));
        let query: Vec<_> =
            Some(query).filter(|query| !query.is_empty()).into_iter().chain(version.as_deref()).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{}{mark}{}", self.base, percent_encode_path(key.as_str()), query.join("&"))
    }

    async fn send(&self, request: http::Result<Request<Buffer>>) -> Result<Response<HttpBody>> {
        let broken = |error: &dyn std::fmt::Display| Error::new(DalKind::Unexpected, error.to_string());
        let (mut head, body) = request.map_err(|error| broken(&error))?.into_parts();
        self.signer.sign(&mut head, None).await.map_err(|error| broken(&error))?;
        self.wire.fetch(Request::from_parts(head, body)).await
    }
}

fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

fn told(headers: &HeaderMap) -> Option<Lock> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let until: Timestamp = header("x-amz-object-lock-retain-until-date")?.parse().ok()?;
    let mode = match header("x-amz-object-lock-mode")? {
        "GOVERNANCE" => LockMode::Governance,
        "COMPLIANCE" => LockMode::Compliance,
        _ => return None,
    };
    Some(Lock { mode, until })
}

fn refused(status: StatusCode) -> Error {
    let kind = if status == StatusCode::NOT_FOUND { DalKind::NotFound } else { DalKind::Unexpected };
    Error::new(kind, format!("the lock was answered with {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_that_is_told_whole_counts() {
        let headers = |mode: &str, until: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-object-lock-mode", mode.parse().unwrap());
            headers.insert("x-amz-object-lock-retain-until-date", until.parse().unwrap());
            headers
        };
        let until: Timestamp = "2026-12-20T02:00:00Z".parse().unwrap();
        let expected = Some(Lock { mode: LockMode::Compliance, until });
        assert_eq!(told(&headers("COMPLIANCE", "2026-12-20T02:00:00Z")), expected);
        assert_eq!(told(&headers("COMPLIANCE", "2026-12-20T02:00:00.000Z")), expected);
        assert_eq!(told(&headers("LOCKED", "2026-12-20T02:00:00Z")), None);
        assert_eq!(told(&headers("GOVERNANCE", "soon")), None);
        assert_eq!(told(&HeaderMap::new()), None);
    }
}
