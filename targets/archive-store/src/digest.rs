//! SHA-256 (FIPS 180-4) as the archive path computes it: by the `sha2` crate.

use sha2::{Digest as _, Sha256};

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_known_digest() {
        assert!(sha256(b"").starts_with(&[0xe3, 0xb0, 0xc4, 0x42]));
        assert!(sha256(b"").ends_with(&[0x78, 0x52, 0xb8, 0x55]));
    }
}
