//! SHA-256 (FIPS 180-4) as the archive path computes it: by the `sha2` crate. And MD5 (RFC 1321), which is what S3 says
//! has arrived: it finds what a line or a server spoilt, and nothing is trusted for it.

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The MD5 of `bytes`.
pub(crate) fn md5_bytes(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The same as S3 writes it, in lower-case hex.
pub(crate) fn md5(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    md5_bytes(bytes).iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_known_digest() {
        assert!(sha256(b"").starts_with(&[0xe3, 0xb0, 0xc4, 0x42]));
        assert!(sha256(b"").ends_with(&[0x78, 0x52, 0xb8, 0x55]));
        assert_eq!(md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
