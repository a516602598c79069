//! age around every object that tells something about the customer.
//!
//! Promises that what is sealed opens with the stock `age -d`, and that a range of a sealed object
//! can be opened from the chunks that hold it alone. age proves that bytes are whole and in place,
//! not who wrote them: that is the manifest's signature and the digests under it.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use age::secrecy::ExposeSecret;
use age::stream::{StreamReader, StreamWriter};
use age::x25519;

use crate::format::{AGE_CHUNK_BYTES, AGE_HEADER_BYTES_MAX, AGE_TAG_BYTES, RECIPIENTS_MAX};

/// Secret keys of one identity file: each object is tried with all of them.
pub const IDENTITIES_MAX: usize = 65;

/// Stored bytes of a full chunk.
const STORED_CHUNK_BYTES: u64 = AGE_CHUNK_BYTES + AGE_TAG_BYTES;
/// Bytes of the payload nonce after the header.
const NONCE_BYTES: u64 = 16;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A text that is no age recipient.
    #[error("'{0}' is no age recipient (age1...)")]
    Recipient(String),
    /// Too many of them for one header.
    #[error("{0} age recipients, and {RECIPIENTS_MAX} is the most")]
    TooMany(usize),
    /// Nobody could open it.
    #[error("sealed mode needs at least one further recipient")]
    NoRecipient,
    /// An identity file without an identity.
    #[error("the age identity file holds no AGE-SECRET-KEY-1... line")]
    NoIdentity,
    /// A secret key that is damaged: whoever put it there believes that it opens something.
    #[error("line {0} of the age identity file begins like a secret key and is none")]
    IdentityLine(usize),
    /// More than anybody rotates.
    #[error("the age identity file holds {0} secret keys, and {IDENTITIES_MAX} is the most")]
    TooManyIdentities(usize),
    /// Sealed to somebody else.
    #[error("sealed to another age identity")]
    WrongKey,
    /// Not what age writes.
    #[error("not an intact age file")]
    Damaged(#[source] io::Error),
    /// No age header at the beginning.
    #[error("no age header")]
    Header(#[source] Box<age::DecryptError>),
    /// Sealing failed.
    #[error("cannot seal")]
    Encrypt(#[source] Box<age::EncryptError>),
}

/// Who may open what this run seals: the host's own identity first, then the job's; in sealed mode of volumes the job's only.
#[derive(Clone)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// The identity's own recipient and `more`, each once.
    pub fn new(own: &Identity, more: &[String]) -> Result<Self, SealError> {
        let mut all = vec![own.recipient()];
        for text in more {
            let recipient: x25519::Recipient = text.parse().map_err(|_| SealError::Recipient(text.clone()))?;
            if !all.contains(&recipient) {
                all.push(recipient);
            }
        }
        if all.len() > RECIPIENTS_MAX {
            return Err(SealError::TooMany(all.len()));
        }
        Ok(Self(all))
    }

    /// `these` alone: whoever seals is not among them, unless it is named.
    pub fn only(these: &[String]) -> Result<Self, SealError> {
        let first = these.first().ok_or(SealError::NoRecipient)?;
        let parsed = |text: &String| text.parse().map_err(|_| SealError::Recipient(text.clone()));
        let mut all: Vec<x25519::Recipient> = vec![parsed(first)?];
        for text in &these[1..] {
            let recipient = parsed(text)?;
            if !all.contains(&recipient) {
                all.push(recipient);
            }
        }
        if all.len() > RECIPIENTS_MAX {
            return Err(SealError::TooMany(all.len()));
        }
        Ok(Self(all))
    }

    /// As text, `age1...`.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// What opens this repository: the identity that new objects are sealed to, and those before it.
#[derive(Clone)]
pub struct Identity {
    active: x25519::Identity,
    older: Vec<x25519::Identity>,
}

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Self { active: x25519::Identity::generate(), older: Vec::new() }
    }

    /// Reads an identity file as `age-keygen` writes it: comments and secret keys, the active one first.
    pub fn parse(file: &str) -> Result<Self, SealError> {
        let mut all = Vec::new();
        for (at, line) in file.lines().map(str::trim).enumerate() {
            if line.starts_with("AGE-SECRET-KEY-1") {
                all.push(line.parse().map_err(|_| SealError::IdentityLine(at + 1))?);
            }
        }
        if all.len() > IDENTITIES_MAX {
            return Err(SealError::TooManyIdentities(all.len()));
        }
        let mut all = all.into_iter();
        let active = all.next().ok_or(SealError::NoIdentity)?;
        Ok(Self { active, older: all.collect() })
    }

    /// The identity file of the active one, as `age-keygen` writes it.
    pub fn to_file(&self, created: &str) -> zeroize::Zeroizing<String> {
        let secret = self.active.to_string();
        zeroize::Zeroizing::new(format!(
            "# created: {created}\n# public key: {}\n{}\n",
            self.active.to_public(),
            secret.expose_secret()
        ))
    }

    /// The public half of the active one.
    pub fn recipient(&self) -> x25519::Recipient {
        self.active.to_public()
    }

    /// The public halves of all, the active one first.
    pub fn recipients(&self) -> Vec<String> {
        self.all().map(|identity| identity.to_public().to_string()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &x25519::Identity> {
        std::iter::once(&self.active).chain(&self.older)
    }

    /// Opens a sealed stream from its beginning.
    pub fn open<R: Read>(&self, sealed: R) -> Result<StreamReader<R>, SealError> {
        let decryptor = age::Decryptor::new(sealed).map_err(|error| match error {
            age::DecryptError::Io(io) => SealError::Damaged(io),
            other => SealError::Header(Box::new(other)),
        })?;
        decryptor.decrypt(self.all().map(|identity| identity as &dyn age::Identity)).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => SealError::WrongKey,
            other => SealError::Header(Box::new(other)),
        })
    }

    /// Opens a whole sealed object that unpacks to at most `plain_bytes_max`.
    pub fn open_all(&self, sealed: &[u8], plain_bytes_max: u64) -> Result<Vec<u8>, SealError> {
        let mut plain = Vec::with_capacity(sealed.len());
        let mut reader = self.open(sealed)?.take(plain_bytes_max.saturating_add(1));
        reader.read_to_end(&mut plain).map_err(SealError::Damaged)?;
        if plain.len() as u64 > plain_bytes_max {
            return Err(SealError::Damaged(io::Error::other("longer than this format allows")));
        }
        Ok(plain)
    }

    /// Opens the bytes `plain` of a sealed object, given its header and the stored bytes `window` that
    /// [`Header::stored_range`] asked for.
    /// Into `bytes`, in the place of what was there; after an error they mean nothing.
    pub fn open_range(
        &self,
        header: &Header,
        window: &[u8],
        plain: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let damaged = |text| SealError::Damaged(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        let length = usize::try_from(plain.end.saturating_sub(plain.start)).map_err(|_| damaged("range too long"))?;
        if length > window.len() {
            // A place that no writer notes must not cost memory.
            return Err(damaged("range too long"));
        }
        let body_at = header.payload_at + plain.start / AGE_CHUNK_BYTES * STORED_CHUNK_BYTES;
        let mut reader = self.open(Window { head: &header.bytes, body_at, body: window, position: 0 })?;
        // Seeking to a border of a chunk makes age read the last chunk of the object to learn its
        // length. One byte further and back stays in the chunk that is wanted anyway.
        if plain.start > 0 && plain.start.is_multiple_of(AGE_CHUNK_BYTES) {
            reader.seek(SeekFrom::Start(plain.start + 1)).map_err(SealError::Damaged)?;
        }
        reader.seek(SeekFrom::Start(plain.start)).map_err(SealError::Damaged)?;
        bytes.clear();
        bytes.resize(length, 0);
        reader.read_exact(bytes).map_err(SealError::Damaged)
    }
}

/// The beginning of a sealed object, enough to open any range of it.
#[derive(Clone, Debug)]
pub struct Header {
    bytes: Vec<u8>,
    payload_at: u64,
}

impl Header {
    /// Finds the header in the first bytes of an object; `None` when they hold no whole one.
    pub fn parse(first: &[u8]) -> Option<Self> {
        let first = &first[..first.len().min(usize::try_from(AGE_HEADER_BYTES_MAX).ok()?)];
        let mac_line = first.windows(5).position(|window| window == b"\n--- ")? + 1;
        let line_end = mac_line + first[mac_line..].iter().position(|byte| *byte == b'\n')? + 1;
        let payload_at = line_end + usize::try_from(NONCE_BYTES).ok()?;
        let bytes = first.get(..payload_at)?.to_vec();
        Some(Self { bytes, payload_at: payload_at as u64 })
    }

    /// The stored bytes that hold the bytes `plain`, in an object of `stored_bytes`.
    pub fn stored_range(&self, plain: &Range<u64>, stored_bytes: u64) -> Range<u64> {
        let start = self.payload_at + plain.start / AGE_CHUNK_BYTES * STORED_CHUNK_BYTES;
        let end = self.payload_at + plain.end.div_ceil(AGE_CHUNK_BYTES) * STORED_CHUNK_BYTES;
        start.min(stored_bytes)..end.min(stored_bytes)
    }
}

/// The header of an object and a stretch of its payload, at their places; anything else is not there.
struct Window<'a> {
    head: &'a [u8],
    body_at: u64,
    body: &'a [u8],
    position: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let after = |bytes: &'_ [u8], at: u64| {
            let skip = usize::try_from(self.position.checked_sub(at)?).ok()?;
            (skip < bytes.len()).then_some(skip)
        };
        let available = if let Some(skip) = after(self.head, 0) {
            &self.head[skip..]
        } else if let Some(skip) = after(self.body, self.body_at) {
            &self.body[skip..]
        } else if self.position == self.body_at + self.body.len() as u64 {
            &[]
        } else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "outside the fetched range"));
        };
        let taken = available.len().min(out.len());
        out[..taken].copy_from_slice(&available[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.position = target.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the end is not known"))?;
        Ok(self.position)
    }
}

/// Seals into memory.
pub struct Sealer<W: Write> {
    inner: StreamWriter<W>,
    plain_bytes: u64,
}

impl<W: Write> Sealer<W> {
    /// Starts an object with a fresh file key; what is sealed goes behind what is in `out`.
    pub fn new(recipients: &Recipients, out: W) -> Result<Self, SealError> {
        let all = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(all).map_err(|error| SealError::Encrypt(Box::new(error)))?;
        let inner = encryptor.wrap_output(out).map_err(SealError::Damaged)?;
        Ok(Self { inner, plain_bytes: 0 })
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        self.inner.write_all(bytes).map_err(SealError::Damaged)?;
        self.plain_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Plain bytes so far.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// The whole object.
    pub fn finish(self) -> Result<W, SealError> {
        self.inner.finish().map_err(SealError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8]) -> (Identity, Vec<u8>) {
        let identity = Identity::generate();
        let recipients = Recipients::new(&identity, &[]).unwrap();
        let mut sealer = Sealer::new(&recipients, Vec::new()).unwrap();
        sealer.write(plain).unwrap();
        (identity, sealer.finish().unwrap())
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| at.wrapping_mul(31).wrapping_add(at / 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn any_range_opens_from_its_chunks_alone() {
        let chunk = 64 << 10;
        for length in [1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3 * chunk + 77] {
            let plain = pattern(length);
            let (identity, stored) = sealed(&plain);
            let header = Header::parse(&stored).unwrap();
            for start in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk - 1] {
                for end in [start + 1, start + 100, start + chunk, length] {
                    if start >= end || end > length {
                        continue;
                    }
                    let range = start as u64..end as u64;
                    let at = header.stored_range(&range, stored.len() as u64);
                    let window = &stored[usize::try_from(at.start).unwrap()..usize::try_from(at.end).unwrap()];
                    assert!(window.len() as u64 <= (range.end - range.start) + 3 * STORED_CHUNK_BYTES);
                    let mut opened = b"older".to_vec();
                    identity.open_range(&header, window, range, &mut opened).unwrap();
                    assert_eq!(opened, plain[start..end]);
                }
            }
        }
    }

    #[test]
    fn a_flipped_or_missing_byte_is_damage_and_a_stranger_has_the_wrong_key() {
        let (identity, stored) = sealed(&pattern(100_000));
        let mut flipped = stored.clone();
        flipped[70_000] ^= 1;
        assert!(matches!(identity.open_all(&flipped, 1 << 20), Err(SealError::Damaged(_))));
        assert!(matches!(identity.open_all(&stored[..stored.len() - 1], 1 << 20), Err(SealError::Damaged(_))));
        assert!(matches!(Identity::generate().open_all(&stored, 1 << 20), Err(SealError::WrongKey)));
        assert!(matches!(identity.open_all(&stored, 99_999), Err(SealError::Damaged(_))));
        let header = Header::parse(&stored).unwrap();
        for nonsense in [0..10, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            assert!(identity.open_range(&header, &[], nonsense, &mut Vec::new()).is_err());
        }
        assert!(Header::parse(&stored[..40]).is_none());
    }

    #[test]
    fn an_identity_file_reads_back_and_recipients_are_counted_once() {
        let identity = Identity::generate();
        let file = identity.to_file("2026-11-20T02:00:00Z");
        let again = Identity::parse(&file).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        let own = identity.recipient().to_string();
        let other = Identity::generate().recipient().to_string();
        let recipients = Recipients::new(&identity, &[own.clone(), other.clone(), other.clone()]).unwrap();
        assert_eq!(recipients.to_texts(), [own, other]);
        assert!(Recipients::new(&identity, &["age1nonsense".into()]).is_err());
        let only = Recipients::only(&recipients.to_texts()[1..]).unwrap();
        assert_eq!(only.to_texts(), recipients.to_texts()[1..]);
        assert!(matches!(Recipients::only(&[]), Err(SealError::NoRecipient)));
        assert!(Identity::parse("# nothing\n").is_err());
    }

    #[test]
    fn a_file_of_several_keys_seals_to_the_first_and_opens_with_each() {
        let (old, stored_before) = sealed(b"before");
        let new = Identity::generate();
        let file = [new.to_file("today").as_str(), old.to_file("then").as_str()].concat();
        let ring = Identity::parse(&file).unwrap();
        assert_eq!(ring.recipients(), [new.recipient().to_string(), old.recipient().to_string()]);
        assert_eq!(Recipients::new(&ring, &[]).unwrap().to_texts(), [new.recipient().to_string()]);
        assert_eq!(ring.open_all(&stored_before, 100).unwrap(), b"before");
        assert!(matches!(new.open_all(&stored_before, 100), Err(SealError::WrongKey)));
        let broken = format!("{file}AGE-SECRET-KEY-1BROKEN\n");
        assert!(matches!(Identity::parse(&broken), Err(SealError::IdentityLine(7))));
        let many = new.to_file("x").repeat(IDENTITIES_MAX + 1);
        assert!(matches!(Identity::parse(&many), Err(SealError::TooManyIdentities(_))));
    }
}
