//! What a key file may hold: the repository key itself, or what opens a slot that holds it, or what a deleter needs.
//!
//! A text only; nothing here reads a file or asks a store.

use zeroize::Zeroizing;

use crate::digest::from_hex;
use crate::format::KEY_BYTES;
use crate::keys::{KeyId, NotAKey, RepositoryId, RepositoryKey};

/// Opens a slot of kind `passphrase`.
const PASSPHRASE_TAG: &str = "dualsync-block-passphrase-1:";
/// Opens a slot of kind `wrapped`.
const SLOT_TAG: &str = "dualsync-block-slot-1:";
/// Opens manifests only.
const RETENTION_TAG: &str = "dualsync-block-retention-1:";
/// A passphrase has so many characters at least.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// What a key reference leads to.
pub enum Secret {
    /// The repository key.
    Raw(RepositoryKey),
    /// Words that open a slot.
    Passphrase(Zeroizing<String>),
    /// A key that opens a slot and nothing else.
    Slot(Zeroizing<[u8; KEY_BYTES]>),
    /// What deletes and cannot read.
    Retention(Retention),
}

/// The manifest branches of each key of a repository.
pub struct Retention {
    /// The slot that registers it.
    pub slot: KeyId,
    /// The repository.
    pub repository: RepositoryId,
    /// Key ids and K_manifest, the newest first.
    pub branches: Vec<(KeyId, Zeroizing<[u8; KEY_BYTES]>)>,
}

impl Secret {
    /// What a recovery sheet has to say of it; nothing of the repository key itself, which opens everything with no help.
    pub const fn limits(&self) -> Option<&'static str> {
        match self {
            Self::Raw(_) => None,
            Self::Passphrase(_) => {
                Some("a passphrase: it opens what is stored for as long as its slot under keys/ is there")
            }
            Self::Slot(_) => {
                Some("the key of a slot: it opens what is stored for as long as that slot under keys/ is there")
            }
            Self::Retention(_) => {
                Some("a retention key: it opens manifests and NO CONTENT; nothing is restored with it")
            }
        }
    }

    /// Reads a key file: `#` comments, empty lines, and one line, or several of a retention key.
    pub fn from_text(text: &str) -> Result<Self, NotAKey> {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut rest = lines();
        let first = rest.next().ok_or(NotAKey)?;
        if first.starts_with(RETENTION_TAG) {
            return Retention::from_lines(lines()).map(Self::Retention).ok_or(NotAKey);
        }
        if rest.next().is_some() {
            return Err(NotAKey);
        }
        if let Some(words) = first.strip_prefix(PASSPHRASE_TAG).map(str::trim) {
            let is_long = words.chars().count() >= PASSPHRASE_CHARS_MIN;
            return if is_long { Ok(Self::Passphrase(Zeroizing::new(words.to_owned()))) } else { Err(NotAKey) };
        }
        match first.strip_prefix(SLOT_TAG) {
            Some(hex) => from_hex(hex).map(|key| Self::Slot(Zeroizing::new(key))).ok_or(NotAKey),
            None => RepositoryKey::from_text(text).map(Self::Raw),
        }
    }

    /// The line of a key that opens a slot and nothing else.
    pub fn slot_line(key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
        Zeroizing::new(format!("{SLOT_TAG}{}", crate::digest::to_hex(key)))
    }
}

impl Retention {
    /// Its lines in a key file.
    pub fn to_lines(&self) -> Zeroizing<String> {
        let line = |(id, manifest): &(KeyId, Zeroizing<[u8; KEY_BYTES]>)| {
            let manifest = Zeroizing::new(crate::digest::to_hex(&**manifest));
            format!("{RETENTION_TAG}{}:{}:{id}:{}\n", self.slot, self.repository, *manifest)
        };
        Zeroizing::new(self.branches.iter().map(line).collect())
    }

    fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for line in lines {
            let mut parts = line.strip_prefix(RETENTION_TAG)?.split(':');
            let slot = KeyId::from_text(parts.next()?)?;
            let repository = RepositoryId::from_text(parts.next()?)?;
            let branch = (KeyId::from_text(parts.next()?)?, Zeroizing::new(from_hex(parts.next()?)?));
            let is_one = parts.next().is_none();
            let whole = all.get_or_insert_with(|| Self { slot, repository, branches: Vec::new() });
            if !is_one || whole.slot != slot || whole.repository != repository {
                return None;
            }
            whole.branches.push(branch);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention() -> Retention {
        let branch = |byte| (KeyId([byte; 16]), Zeroizing::new([byte; 32]));
        Retention { slot: KeyId([7; 16]), repository: RepositoryId([4; 16]), branches: vec![branch(2), branch(1)] }
    }

    #[test]
    fn each_kind_reads_back() {
        let raw = RepositoryKey::new([3; 32]);
        assert!(matches!(Secret::from_text(&raw.to_line()), Ok(Secret::Raw(key)) if key.id() == raw.id()));
        let words = format!("# mine\n{PASSPHRASE_TAG} correct horse battery staple \n");
        assert!(
            matches!(Secret::from_text(&words), Ok(Secret::Passphrase(it)) if *it == "correct horse battery staple")
        );
        assert!(matches!(Secret::from_text(&Secret::slot_line(&[9; 32])), Ok(Secret::Slot(key)) if *key == [9; 32]));
        let Ok(Secret::Retention(read)) = Secret::from_text(&retention().to_lines()) else { panic!("a retention key") };
        assert_eq!(
            (read.slot, read.repository, read.branches),
            (KeyId([7; 16]), RepositoryId([4; 16]), retention().branches)
        );
    }

    #[test]
    fn what_is_mixed_short_or_broken_is_no_key() {
        let lines = retention().to_lines();
        let other = Retention { slot: KeyId([8; 16]), ..retention() }.to_lines();
        let raw = RepositoryKey::new([3; 32]).to_line();
        for text in [
            format!("{PASSPHRASE_TAG}short"),
            format!("{SLOT_TAG}07"),
            format!("{}{}", *lines, *other),
            format!("{}{}", *lines, *raw),
            format!("{}\n{}", *raw, *raw),
            lines.replace(":0202", ":02"),
            String::new(),
        ] {
            assert!(Secret::from_text(&text).is_err(), "{text}");
        }
    }
}
