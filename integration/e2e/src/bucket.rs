//! A bucket of some server, as the configuration needs it.

/// Where it is and who may use it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The S3 endpoint.
    pub endpoint: String,
    /// The region that signatures name.
    pub region: &'static str,
    /// Its name.
    pub name: String,
    /// A credentials file's text.
    pub credentials: String,
}

/// The text of a credentials file.
pub fn credentials(access_key: &str, secret_key: &str) -> String {
    format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n")
}
