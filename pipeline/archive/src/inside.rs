//! A signature that stands in the JSON text it signs, as its last member.
//!
//! Promises that whatever opens is, byte for byte, what the holder of the secret key wrote: from the text without the
//! signature the bytes with it follow, so nobody can make two objects out of one. The trusted comment is one that no
//! signature beside an object has, so neither can be taken for the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::minisign::{MinisignError, PublicKey, SecretKey};

const COMMENT: &str = "inside the text";
const BEGIN: &[u8] = b",\n  \"signature\": \"";
const END: &[u8] = b"\"\n}\n";
/// How the text ends without it.
const BARE_END: &[u8] = b"\n}\n";

/// `text`, an indented JSON object and a line feed, with its signature.
pub fn sign(text: &[u8], secret: &SecretKey) -> Vec<u8> {
    let [signature, global] = secret.sign_twice(text, COMMENT);
    let body = text.strip_suffix(BARE_END).expect("an indented JSON object ends like this");
    [body, BEGIN, signature.as_bytes(), b" ", global.as_bytes(), END].concat()
}

/// Checks the signature in `bytes`; [`MinisignError::Malformed`] where there is none.
pub fn verify(bytes: &[u8], public: &PublicKey) -> Result<(), MinisignError> {
    let signed = bytes.strip_suffix(END).ok_or(MinisignError::Malformed)?;
    let at = signed.windows(BEGIN.len()).rposition(|window| window == BEGIN).ok_or(MinisignError::Malformed)?;
    let packed = std::str::from_utf8(&signed[at + BEGIN.len()..]).map_err(|_| MinisignError::Malformed)?;
    let (signature, global) = packed.split_once(' ').ok_or(MinisignError::Malformed)?;
    // The decoder is strict, so each signature has one text.
    if [signature, global].iter().any(|part| STANDARD.decode(part).is_err()) {
        return Err(MinisignError::Malformed);
    }
    let text = [&signed[..at], BARE_END].concat();
    let signature = format!("untrusted comment: \n{signature}\ntrusted comment: {COMMENT}\n{global}\n");
    public.verify(&text, &signature).map(|_| ())
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const TEXT: &[u8] = b"{\n  \"a\": 1,\n  \"b\": [\n    \"c\"\n  ]\n}\n";

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_random(&Zeroizing::new([byte; 40]))
    }

    #[test]
    fn what_is_signed_inside_is_json_and_opens_with_its_key_alone() {
        let signed = sign(TEXT, &key(1));
        verify(&signed, &key(1).public()).unwrap();
        assert!(matches!(verify(&signed, &key(2).public()), Err(MinisignError::OtherKey { .. })));
        assert_eq!(verify(TEXT, &key(1).public()), Err(MinisignError::Malformed));
        let json: serde_json::Value = serde_json::from_slice(&signed).unwrap();
        assert_eq!((&json["a"], json["b"][0].as_str()), (&1.into(), Some("c")));
        assert!(json["signature"].as_str().unwrap().len() > 150);
    }

    #[test]
    fn every_byte_counts_and_none_can_be_added() {
        let signed = sign(TEXT, &key(1));
        for at in 0..signed.len() {
            for bit in 0..8 {
                let mut changed = signed.clone();
                changed[at] ^= 1 << bit;
                assert!(verify(&changed, &key(1).public()).is_err(), "byte {at}");
            }
        }
        for at in 0..=signed.len() {
            for more in [" ", "\n", "=", "A"] {
                let changed = [&signed[..at], more.as_bytes(), &signed[at..]].concat();
                assert!(verify(&changed, &key(1).public()).is_err(), "{more:?} at {at}");
            }
        }
    }

    #[test]
    fn neither_kind_of_signature_is_taken_for_the_other() {
        let (secret, beside) = (key(1), "repository=0 source=web point=web@20261120T020000Z sequence=2");
        let [signature, global] = secret.sign_twice(TEXT, beside);
        let body = TEXT.strip_suffix(BARE_END).unwrap();
        let forged = [body, BEGIN, signature.as_bytes(), b" ", global.as_bytes(), END].concat();
        assert_eq!(verify(&forged, &secret.public()), Err(MinisignError::Forged));
        let [signature, global] = secret.sign_twice(TEXT, COMMENT);
        let as_beside = |comment| format!("untrusted comment: \n{signature}\ntrusted comment: {comment}\n{global}\n");
        assert_eq!(secret.public().verify(TEXT, &as_beside(beside)), Err(MinisignError::Forged));
        assert_eq!(secret.public().verify(TEXT, &as_beside(COMMENT)).unwrap(), COMMENT);
    }
}
