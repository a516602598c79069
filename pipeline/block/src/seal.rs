//! Seals and opens the binary objects: AES-256-GCM, one key per object, one nonce per record.
//!
//! ```text
//! object = header (80 bytes, clear) ‖ record*      record = head (16, clear) ‖ body ‖ tag (16)
//! key    = HKDF(branch of the kind, the object's fresh salt)         nonce = record number
//! AAD    = header before the salt ‖ record head ‖ binding of the object
//! ```
//!
//! A salt seals one object only: [`ObjectSealer`] draws it, cannot be cloned, counts the records
//! and ends by value in [`ObjectSealer::last`]. Sending again means sending the same bytes; any
//! change means a new sealer. What this does not prove is *which* object of its kind the bytes
//! are: names carry SHA-256, map entries carry BLAKE3, and manifests bind their own key.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit};
use zeroize::Zeroizing;

use crate::codec::{InflateError, Inflater};
use crate::cursor::{Cursor, Short};
use crate::format::{
    Codec, EPOCH_REPOSITORY, MAGIC, NONCE_BYTES, ObjectKind, SALT_BYTES, SUITE_AES256GCM_HKDF_SHA256, TAG_BYTES,
    VERSION, header, record,
};
use crate::keys::{Branches, KeyId, KeyTree, RepositoryId};

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw random bytes from the system")]
pub struct NoRandomness(#[source] getrandom::Error);

/// `N` random bytes from the system.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// Why stored bytes do not open. Of the first four the bytes may be good: they have words of their
/// own, and are findings like damage where other objects are read beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Written by a later dualsync.
    #[error("written in format version {0}, this program reads version {VERSION}: use a newer dualsync")]
    UnknownVersion(u16),
    /// Sealed with algorithms this program does not have.
    #[error("sealed with suite {0}, which this program does not know: use a newer dualsync")]
    UnknownSuite(u8),
    /// Sealed with a wrapped key.
    #[error("sealed in key epoch {0}, which this program does not know: use a newer dualsync")]
    UnknownEpoch(u32),
    /// Sealed with another key.
    #[error("sealed with key {0}, not with the key at hand")]
    WrongKey(KeyId),
    /// Content, and only manifests can be opened.
    #[error("sealed with key {0}, of which the retention key at hand opens manifests only")]
    ManifestsOnly(KeyId),
    /// Sealed for another repository.
    #[error("belongs to repository {0}, not to this one")]
    OtherRepository(RepositoryId),
    /// No object of this format.
    #[error("does not begin like an object of a block repository")]
    NotOurs,
    /// An object of another kind than its place says.
    #[error("is of kind {found}, not of kind {expected}")]
    OtherKind {
        /// What the place says.
        expected: u8,
        /// What the header says.
        found: u8,
    },
    /// It ends too early.
    #[error("ends too early")]
    Truncated,
    /// The tag does not fit: changed, moved or made by somebody without the key.
    #[error("record {0} is not what was sealed")]
    Forged(u32),
    /// Sealed right and wrong inside: a fault of the writer.
    #[error("{0}")]
    Malformed(&'static str),
    /// Sealed right and does not inflate: a fault of the writer.
    #[error(transparent)]
    Inflate(#[from] InflateError),
}

impl From<Short> for OpenError {
    fn from(_: Short) -> Self {
        Self::Truncated
    }
}

impl OpenError {
    /// The fixed word of a finding about it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::UnknownVersion(_) | Self::UnknownSuite(_) | Self::UnknownEpoch(_) => "unknown_version",
            Self::WrongKey(_) | Self::ManifestsOnly(_) => "wrong_key",
            Self::Truncated => "truncated",
            _ => "forged",
        }
    }
}

/// The clear head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// From 0, without gaps.
    pub number: u32,
    /// Bytes after opening and inflating.
    pub plain_bytes: u32,
    /// Bytes of the body, tag not counted.
    pub body_bytes: u32,
    /// How the body was made.
    pub codec: Codec,
    /// Whether the object ends here.
    pub last: bool,
}

impl RecordHead {
    fn encode(self) -> [u8; record::HEADER_BYTES] {
        let mut out = [0; record::HEADER_BYTES];
        out[record::NUMBER_AT..][..4].copy_from_slice(&self.number.to_le_bytes());
        out[record::PLAIN_AT..][..4].copy_from_slice(&self.plain_bytes.to_le_bytes());
        out[record::BODY_AT..][..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[record::CODEC_AT] = self.codec as u8;
        out[record::LAST_AT] = u8::from(self.last);
        out
    }

    fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let mut cursor = Cursor::new(bytes);
        let (number, plain_bytes, body_bytes) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let (codec, last, reserved) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
        let codec = Codec::from_number(codec).ok_or(OpenError::Malformed("a record of an unknown codec"))?;
        if last > 1 || reserved != 0 {
            return Err(OpenError::Malformed("a record head with unknown flags"));
        }
        Ok(Self { number, plain_bytes, body_bytes, codec, last: last == 1 })
    }

    /// Bytes of the whole record.
    pub const fn record_bytes(self) -> usize {
        record::OVERHEAD_BYTES + self.body_bytes as usize
    }
}

fn cipher(keys: &Branches, kind: ObjectKind, salt: &[u8; SALT_BYTES]) -> Option<Aes256Gcm> {
    let key: Zeroizing<_> = keys.object_key(kind, salt)?;
    Some(Aes256Gcm::new((&*key).into()))
}

fn nonce(number: u32) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

fn associated(clear: &[u8], head: &[u8; record::HEADER_BYTES], binding: &[u8]) -> Vec<u8> {
    [&clear[..header::SALT_AT], head, binding].concat()
}

/// Seals one object.
pub struct ObjectSealer {
    header: [u8; header::BYTES],
    binding: Vec<u8>,
    cipher: Aes256Gcm,
    next: u32,
}

impl ObjectSealer {
    /// Begins an object with a fresh salt; `binding` is further associated data of every record.
    ///
    /// # Panics
    /// For content under a retention key: jobs that store content are refused with one.
    pub fn create(keys: &KeyTree, kind: ObjectKind, binding: Vec<u8>) -> Result<Self, NoRandomness> {
        let salt = random_bytes()?;
        let mut clear = [0; header::BYTES];
        clear[..header::VERSION_AT].copy_from_slice(&MAGIC);
        clear[header::VERSION_AT..header::SUITE_AT].copy_from_slice(&VERSION.to_le_bytes());
        clear[header::SUITE_AT] = SUITE_AES256GCM_HKDF_SHA256;
        clear[header::KIND_AT] = kind as u8;
        clear[header::EPOCH_AT..header::KEY_ID_AT].copy_from_slice(&EPOCH_REPOSITORY.to_le_bytes());
        clear[header::KEY_ID_AT..header::REPOSITORY_AT].copy_from_slice(&keys.key_id().0);
        clear[header::REPOSITORY_AT..header::SALT_AT].copy_from_slice(&keys.repository().0);
        clear[header::SALT_AT..].copy_from_slice(&salt);
        let cipher = cipher(keys.newest(), kind, &salt).expect("a job that stores content is refused without its keys");
        Ok(Self { header: clear, binding, cipher, next: 0 })
    }

    /// The header that the object begins with.
    pub fn header(&self) -> &[u8; header::BYTES] {
        &self.header
    }

    /// The salt, for readers that open one record alone.
    pub fn salt(&self) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&self.header[header::SALT_AT..]);
        salt
    }

    /// The number the next record gets.
    pub fn next_number(&self) -> u32 {
        self.next
    }

    /// Appends one sealed record to `out`.
    pub fn record(&mut self, codec: Codec, plain_bytes: u32, body: &[u8], out: &mut Vec<u8>) {
        self.seal(codec, plain_bytes, body, false, out);
    }

    /// Appends the record that ends the object.
    pub fn last(mut self, codec: Codec, plain_bytes: u32, body: &[u8], out: &mut Vec<u8>) {
        self.seal(codec, plain_bytes, body, true, out);
    }

    fn seal(&mut self, codec: Codec, plain_bytes: u32, body: &[u8], last: bool, out: &mut Vec<u8>) {
        let body_bytes = u32::try_from(body.len()).expect("bodies are bounded by the 32 MiB of an object");
        let head = RecordHead { number: self.next, plain_bytes, body_bytes, codec, last }.encode();
        out.extend_from_slice(&head);
        let start = out.len();
        out.extend_from_slice(body);
        let aad = associated(&self.header, &head, &self.binding);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(self.next).into(), &aad, (&mut out[start..]).into())
            .expect("AES-GCM seals up to 64 GiB");
        out.extend_from_slice(&tag);
        // The nonce of the next record: never the same twice under this object's key.
        self.next = self.next.checked_add(1).expect("an object has far fewer than 2^32 records");
    }
}

/// Opens records of one object.
pub struct ObjectOpener {
    header: [u8; header::BYTES],
    binding: Vec<u8>,
    cipher: Aes256Gcm,
}

impl ObjectOpener {
    /// Reads a header that must be of `kind`, of this repository and under one of these keys.
    pub fn new(keys: &KeyTree, kind: ObjectKind, bytes: &[u8], binding: Vec<u8>) -> Result<Self, OpenError> {
        let mut cursor = Cursor::new(bytes);
        let clear: [u8; header::BYTES] = cursor.array()?;
        let branches = check_header(keys, kind, &clear)?;
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&clear[header::SALT_AT..]);
        let cipher = cipher(branches, kind, &salt).ok_or(OpenError::ManifestsOnly(branches.key_id()))?;
        Ok(Self { header: clear, binding, cipher })
    }

    /// The openers of an object of this repository whose salt is known from an authentic place, and
    /// whose key is not: one for each key, the newest first. The tag tells which one is right.
    pub fn from_salt(keys: &KeyTree, kind: ObjectKind, salt: [u8; SALT_BYTES]) -> Vec<Self> {
        keys.all().filter_map(|branches| Self::of_key(branches, keys.repository(), kind, salt)).collect()
    }

    fn of_key(keys: &Branches, repository: RepositoryId, kind: ObjectKind, salt: [u8; SALT_BYTES]) -> Option<Self> {
        let mut clear = [0; header::BYTES];
        clear[..header::VERSION_AT].copy_from_slice(&MAGIC);
        clear[header::VERSION_AT..header::SUITE_AT].copy_from_slice(&VERSION.to_le_bytes());
        clear[header::SUITE_AT] = SUITE_AES256GCM_HKDF_SHA256;
        clear[header::KIND_AT] = kind as u8;
        clear[header::KEY_ID_AT..header::REPOSITORY_AT].copy_from_slice(&keys.key_id().0);
        clear[header::REPOSITORY_AT..header::SALT_AT].copy_from_slice(&repository.0);
        clear[header::SALT_AT..].copy_from_slice(&salt);
        Some(Self { header: clear, binding: Vec::new(), cipher: cipher(keys, kind, &salt)? })
    }

    /// The salt in the header.
    pub fn salt(&self) -> &[u8] {
        &self.header[header::SALT_AT..]
    }

    /// Opens and inflates the record at the beginning of `bytes` into `plain`; `plain_bytes_max`
    /// bounds what it may become.
    pub fn open(
        &self,
        bytes: &[u8],
        plain_bytes_max: usize,
        scratch: &mut Scratch,
        plain: &mut Vec<u8>,
    ) -> Result<RecordHead, OpenError> {
        let mut cursor = Cursor::new(bytes);
        let clear: [u8; record::HEADER_BYTES] = cursor.array()?;
        let head = RecordHead::parse(&clear)?;
        let body = cursor.bytes(head.body_bytes as usize)?;
        let tag: [u8; TAG_BYTES] = cursor.array()?;
        if head.plain_bytes as usize > plain_bytes_max {
            return Err(OpenError::Malformed("a record that is longer than its kind allows"));
        }
        // From one buffer into the other: what an earlier record left there is written over, or the tag does not fit.
        scratch.body.resize(body.len(), 0);
        let buffers = InOutBuf::new(body, &mut scratch.body).map_err(|_| OpenError::Truncated)?;
        let associated = associated(&self.header, &clear, &self.binding);
        self.cipher
            .decrypt_inout_detached(&nonce(head.number).into(), &associated, buffers, &tag.into())
            .map_err(|_| OpenError::Forged(head.number))?;
        scratch.inflater.inflate(head.codec, &scratch.body, head.plain_bytes as usize, plain)?;
        Ok(head)
    }
}

/// Buffers that opening needs; one for each thread.
#[derive(Default)]
pub struct Scratch {
    body: Vec<u8>,
    inflater: Inflater,
}

/// What can be said of a header without a key: it begins as an object of a version this program reads.
pub fn check_clear_header(bytes: &[u8]) -> Result<(), OpenError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.array::<8>()? != MAGIC {
        return Err(OpenError::NotOurs);
    }
    let (version, suite, _kind, epoch) = (cursor.u16()?, cursor.u8()?, cursor.u8()?, cursor.u32()?);
    if version != VERSION {
        return Err(OpenError::UnknownVersion(version));
    }
    if suite != SUITE_AES256GCM_HKDF_SHA256 {
        return Err(OpenError::UnknownSuite(suite));
    }
    if epoch != EPOCH_REPOSITORY {
        return Err(OpenError::UnknownEpoch(epoch));
    }
    Ok(())
}

/// What opens the object of this header.
fn check_header<'a>(
    keys: &'a KeyTree,
    kind: ObjectKind,
    clear: &[u8; header::BYTES],
) -> Result<&'a Branches, OpenError> {
    check_clear_header(clear)?;
    let mut cursor = Cursor::new(&clear[header::KEY_ID_AT..]);
    let key_id = KeyId(cursor.array()?);
    let branches = keys.of(key_id).ok_or(OpenError::WrongKey(key_id))?;
    let repository = RepositoryId(cursor.array()?);
    if repository != keys.repository() {
        return Err(OpenError::OtherRepository(repository));
    }
    let found = clear[header::KIND_AT];
    if found != kind as u8 {
        return Err(OpenError::OtherKind { expected: kind as u8, found });
    }
    Ok(branches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RepositoryKey;

    fn keys() -> KeyTree {
        KeyTree::new(&RepositoryKey::new([3; 32]), RepositoryId([4; 16]))
    }

    fn object(kind: ObjectKind, binding: &[u8], bodies: &[&[u8]]) -> Vec<u8> {
        let mut sealer = ObjectSealer::create(&keys(), kind, binding.to_vec()).unwrap();
        let mut out = sealer.header().to_vec();
        let (last, rest) = bodies.split_last().unwrap();
        for body in rest {
            sealer.record(Codec::Raw, u32::try_from(body.len()).unwrap(), body, &mut out);
        }
        sealer.last(Codec::Raw, u32::try_from(last.len()).unwrap(), last, &mut out);
        out
    }

    fn open_all(kind: ObjectKind, binding: &[u8], bytes: &[u8]) -> Result<Vec<Vec<u8>>, OpenError> {
        let opener = ObjectOpener::new(&keys(), kind, bytes, binding.to_vec())?;
        let (mut rest, mut out) = (&bytes[header::BYTES..], Vec::new());
        loop {
            let mut plain = Vec::new();
            let head = opener.open(rest, 1 << 20, &mut Scratch::default(), &mut plain)?;
            assert_eq!(head.number as usize, out.len());
            out.push(plain);
            if head.last {
                return Ok(out);
            }
            rest = &rest[head.record_bytes()..];
        }
    }

    #[test]
    fn records_read_back() {
        let bytes = object(ObjectKind::Map, b"", &[b"one", b"", b"three"]);
        assert_eq!(open_all(ObjectKind::Map, b"", &bytes).unwrap(), [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn aws_lc_opens_what_this_seals() {
        use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let bytes = object(ObjectKind::Pack, b"bound", &[b"first", b"second"]);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&bytes[header::SALT_AT..header::BYTES]);
        let key = LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, &*keys().newest().object_key(ObjectKind::Pack, &salt).unwrap()).unwrap(),
        );
        let second = &bytes[header::BYTES + record::OVERHEAD_BYTES + 5..];
        let aad = [&bytes[..header::SALT_AT], &second[..record::HEADER_BYTES], b"bound"].concat();
        let mut body = second[record::HEADER_BYTES..].to_vec();
        let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce(1)), Aad::from(aad), &mut body).unwrap();
        assert_eq!(plain, b"second");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = object(ObjectKind::Manifest, b"points/web/x", &[b"one", b"two"]);
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(open_all(ObjectKind::Manifest, b"points/web/x", &bad).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_shortened_object_is_noticed_at_every_length() {
        let bytes = object(ObjectKind::Map, b"", &[b"one", b"two"]);
        for length in 0..bytes.len() {
            assert!(open_all(ObjectKind::Map, b"", &bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_record_or_object_in_another_place_is_noticed() {
        let bytes = object(ObjectKind::Map, b"", &[b"one", b"two"]);
        let record = record::OVERHEAD_BYTES + 3;
        let swapped =
            [&bytes[..header::BYTES], &bytes[header::BYTES + record..], &bytes[header::BYTES..][..record]].concat();
        let opener = ObjectOpener::new(&keys(), ObjectKind::Map, &swapped, Vec::new()).unwrap();
        let mut plain = Vec::new();
        let head = opener.open(&swapped[header::BYTES..], 10, &mut Scratch::default(), &mut plain).unwrap();
        assert_eq!((head.number, head.last), (1, true), "a reader sees by the number that it was moved");
        let manifest = object(ObjectKind::Manifest, b"points/web/a", &[b"x"]);
        assert_eq!(open_all(ObjectKind::Manifest, b"points/web/b", &manifest).unwrap_err(), OpenError::Forged(0));
    }

    #[test]
    fn a_ring_seals_with_its_newest_key_and_opens_by_the_key_in_the_header() {
        let old = object(ObjectKind::Pack, b"", &[b"x"]);
        let mut ring = KeyTree::new(&RepositoryKey::new([9; 32]), RepositoryId([4; 16]));
        ring.push_older(&RepositoryKey::new([3; 32]));
        let mut new = Vec::new();
        let sealer = ObjectSealer::create(&ring, ObjectKind::Pack, Vec::new()).unwrap();
        new.extend_from_slice(sealer.header());
        let salt = sealer.salt();
        sealer.last(Codec::Raw, 1, b"y", &mut new);
        for (bytes, expected) in [(&old, b"x"), (&new, b"y")] {
            let opener = ObjectOpener::new(&ring, ObjectKind::Pack, bytes, Vec::new()).unwrap();
            let mut plain = Vec::new();
            opener.open(&bytes[header::BYTES..], 10, &mut Scratch::default(), &mut plain).unwrap();
            assert_eq!(plain, expected);
        }
        let error = ObjectOpener::new(&keys(), ObjectKind::Pack, &new, Vec::new()).err().unwrap();
        assert_eq!(error, OpenError::WrongKey(ring.key_id()));
        let openers = ObjectOpener::from_salt(&ring, ObjectKind::Pack, salt);
        let fits = |opener: &ObjectOpener| {
            opener.open(&new[header::BYTES..], 10, &mut Scratch::default(), &mut Vec::new()).is_ok()
        };
        assert_eq!(openers.iter().map(fits).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_is_not_damage_has_its_own_sentence() {
        let bytes = object(ObjectKind::Pack, b"", &[b"x"]);
        let check = |at: usize, value: u8, expected: OpenError| {
            let mut bad = bytes.clone();
            bad[at] = value;
            assert_eq!(open_all(ObjectKind::Pack, b"", &bad).unwrap_err(), expected);
        };
        check(header::VERSION_AT, 2, OpenError::UnknownVersion(2));
        check(header::SUITE_AT, 9, OpenError::UnknownSuite(9));
        check(header::EPOCH_AT, 7, OpenError::UnknownEpoch(7));
        check(0, b'X', OpenError::NotOurs);
        check(header::KIND_AT, 2, OpenError::OtherKind { expected: 3, found: 2 });
        let stranger = KeyTree::new(&RepositoryKey::new([9; 32]), RepositoryId([4; 16]));
        let error = ObjectOpener::new(&stranger, ObjectKind::Pack, &bytes, Vec::new()).err().unwrap();
        assert_eq!(error, OpenError::WrongKey(keys().key_id()));
        let elsewhere = KeyTree::new(&RepositoryKey::new([3; 32]), RepositoryId([5; 16]));
        let error = ObjectOpener::new(&elsewhere, ObjectKind::Pack, &bytes, Vec::new()).err().unwrap();
        assert_eq!(error, OpenError::OtherRepository(RepositoryId([4; 16])));
    }

    #[test]
    fn two_objects_of_the_same_bytes_share_no_salt_and_no_ciphertext() {
        let (one, two) = (object(ObjectKind::Pack, b"", &[b"same"]), object(ObjectKind::Pack, b"", &[b"same"]));
        assert_ne!(one[header::SALT_AT..header::BYTES], two[header::SALT_AT..header::BYTES]);
        assert_ne!(one[header::BYTES + record::HEADER_BYTES..], two[header::BYTES + record::HEADER_BYTES..]);
    }
}
