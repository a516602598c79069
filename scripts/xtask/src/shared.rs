//! The crates that both writers link, each with its reason, and those that neither may share.
//!
//! `docs/shared-crates.txt` is a golden list: `name  reason`. A crate that both programs link and that
//! is not there, or is there and no longer linked by both, breaks a rule. What compresses, seals, packs,
//! speaks TLS or speaks to a store can never be excused: a fault there would reach both copies.
//! Two versions of one name are two crates: age brings an older generation of RustCrypto than the
//! block path uses, and no compiled code of it is in both programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace::cargo;

const GOLDEN: &str = "docs/shared-crates.txt";

/// Never excused. A trailing `*` stands for any rest.
const FORBIDDEN: &[&str] = &[
    // AEADs and ciphers
    "aead*",
    "aes",
    "aes-*",
    "ascon*",
    "blowfish",
    "cbc",
    "ccm",
    "cfb-mode",
    "chacha20*",
    "cipher",
    "crypto_box",
    "crypto_secretbox",
    "ctr",
    "deoxys",
    "des",
    "dryoc",
    "eax",
    "ghash",
    "hpke",
    "libsodium-sys*",
    "mgm",
    "ocb3",
    "orion",
    "poly1305",
    "polyval",
    "salsa20",
    "sodiumoxide",
    "xsalsa20poly1305",
    "xts-mode",
    // what they are keyed with
    "age*",
    "rage",
    "x25519-dalek",
    "ed25519-dalek",
    "curve25519-dalek*",
    // content hashes (sha2 is excused: the SDK signs requests with it, no data)
    "blake3",
    // compression
    "async-compression",
    "brotli*",
    "bzip2*",
    "cloudflare-zlib*",
    "compression-*",
    "flate2",
    "isal*",
    "libbz2-*",
    "libdeflate*",
    "libflate*",
    "liblzma*",
    "libz-*",
    "lz4*",
    "lzma*",
    "miniz*",
    "ruzstd",
    "snap",
    "snappy*",
    "xz*",
    "zip",
    "zlib-*",
    "zopfli",
    "zstd*",
    // tar, cutting
    "astral-tokio-tar",
    "async-tar",
    "fastcdc",
    "krata-tokio-tar",
    "tar",
    "tokio-tar",
    // TLS engines
    "aws-lc*",
    "boring*",
    "hyper-boring",
    "hyper-openssl",
    "hyper-rustls",
    "hyper-tls",
    "mbedtls*",
    "native-tls",
    "openssl",
    "openssl-src",
    "openssl-sys",
    "ring",
    "rustls",
    "rustls-graviola",
    "rustls-mbedtls*",
    "rustls-openssl",
    "rustls-rustcrypto",
    "rustls-webpki",
    "s2n-*",
    "schannel",
    "security-framework*",
    "tokio-boring",
    "tokio-native-tls",
    "tokio-openssl",
    "tokio-rustls",
    "webpki",
    "wolfssl*",
    // store clients
    "aws-config",
    "aws-sdk-*",
    "aws-sigv4",
    "aws-smithy-*",
    "azure_*",
    "google-cloud-*",
    "minio",
    "object_store",
    "opendal*",
    "reqsign*",
    "reqwest*",
    "rust-s3",
    "rusoto*",
    "s3s",
    "ureq*",
    // our own
    "dualsync-block*",
    "dualsync-archive*",
];

pub fn check(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(GOLDEN)).with_context(|| format!("cannot read {GOLDEN}"))?;
    let linked = [linked(root, "dualsync-block")?, linked(root, "dualsync-archive")?];
    let both = linked[0].intersection(&linked[1]).map(|(name, _)| name.clone()).collect();
    Ok(compare(&both, &text))
}

/// Name and version of each crate in the program's binary, built as a release is: that package alone.
fn linked(root: &Path, package: &str) -> Result<BTreeSet<(String, String)>> {
    let arguments = [
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = cargo(root, &arguments)?;
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    Ok(crates.collect())
}

fn compare(both: &BTreeSet<String>, golden: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut excused = BTreeMap::new();
    for line in golden.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (name, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if reason.trim().is_empty() {
            complaints.push(format!("{GOLDEN}: {name} has no reason"));
        }
        excused.insert(name.to_owned(), reason);
    }
    for name in both {
        if is_forbidden(name) {
            complaints.push(format!(
                "both writers link {name}: a fault in it would reach both copies, and no reason excuses that"
            ));
        } else if !excused.contains_key(name) {
            complaints.push(format!("both writers link {name}: give the reason in {GOLDEN}, or link it once"));
        }
    }
    for name in excused.keys().filter(|name| !both.contains(*name)) {
        complaints.push(format!("{GOLDEN}: {name} is no longer linked by both writers; take it out"));
    }
    complaints
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|pattern| pattern.strip_suffix('*').map_or(name == *pattern, |stem| name.starts_with(stem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(both: &[&str], golden: &str) -> Vec<String> {
        compare(&both.iter().map(|name| (*name).to_owned()).collect(), golden)
    }

    #[test]
    fn an_excused_crate_passes_and_an_unknown_one_does_not() {
        assert!(complaints(&["serde"], "# reasons\nserde  plain data\n").is_empty());
        assert_eq!(complaints(&["serde", "log"], "serde  plain data\n").len(), 1);
    }

    #[test]
    fn what_seals_or_packs_cannot_be_excused() {
        for name in [
            "aes-gcm",
            "aes-siv",
            "ccm",
            "chacha20",
            "crypto_secretbox",
            "hpke",
            "ed25519-dalek",
            "blake3",
            "libz-rs-sys",
            "libz-sys",
            "lzma-rs",
            "ruzstd",
            "snap",
            "zlib-rs",
            "zstd-sys",
            "async-tar",
            "tar",
            "aws-lc-rs",
            "openssl",
            "rustls",
            "rustls-webpki",
            "s2n-tls-sys",
            "opendal-core",
            "rusoto_s3",
            "dualsync-block-store",
        ] {
            assert_eq!(complaints(&[name], &format!("{name}  we like it\n")).len(), 1, "{name}");
        }
    }

    #[test]
    fn what_only_sounds_like_it_may_be_excused() {
        for name in ["digest", "openssl-probe", "rustls-pki-types", "stable_deref_trait", "zeroize", "zerovec"] {
            assert!(complaints(&[name], &format!("{name}  no engine\n")).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_list_that_has_drifted_is_named() {
        assert_eq!(complaints(&[], "serde  plain data\n").len(), 1);
        assert_eq!(complaints(&["serde"], "serde\n").len(), 1);
    }
}
