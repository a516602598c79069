//! What is kept of one entry besides its content, and how it is written in a catalog line.
//!
//! [`Meta`] is plain data: it knows no file descriptor and no store. Bytes that are not text are
//! written as base64 beside a field name that ends in `_b64`, so that a catalog stays readable
//! with stock tools. [`xattr_digest`] is the one place of the digest that both copies compare
//! (`docs/worker-protocol.md`).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use dualsync_model::fact::EntryKind;
use dualsync_model::path::{RawPath, from_base64, to_base64};
use dualsync_model::time::Timestamp;

use crate::digest::Digest;

/// Everything captured about one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What it is.
    pub kind: EntryKind,
    /// `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, length of a link target, 0 for all else.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of content or metadata: tells what is unchanged, is never restored.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Number of hard links.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub links: u64,
    /// Id of the file system (`f_fsid`, or `st_dev` where there is none), the same for a whole walk.
    pub file_system: u64,
    /// Major and minor number of a device node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_target: Option<RawPath>,
    /// Extended attributes in raw-byte order of their names, POSIX ACLs and capabilities among them;
    /// `None` when they could not be read.
    #[serde(default = "no_xattrs", skip_serializing_if = "has_no_xattrs")]
    pub xattrs: Option<Vec<Xattr>>,
    /// Where a sparse file has data, in ascending order, apart from each other; everything else
    /// reads as zeros. `None` for a file without holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Vec<Extent>>,
}

impl Meta {
    /// The ranges of a file that hold data: its extents, or all of it.
    pub fn data(&self) -> Vec<Extent> {
        match &self.extents {
            Some(extents) => extents.clone(),
            None if self.size == 0 => Vec::new(),
            None => vec![Extent { offset: 0, length: self.size }],
        }
    }

    /// Whether the extents are what a walk can produce: ascending, not empty, within the size.
    /// A catalog that fails this was not written by this program.
    pub fn extents_are_sound(&self) -> bool {
        let mut end = 0;
        self.extents.iter().flatten().all(|extent| {
            let sound = extent.length > 0 && extent.offset >= end;
            let next = extent.offset.checked_add(extent.length);
            end = next.unwrap_or(u64::MAX);
            sound && next.is_some_and(|next| next <= self.size)
        })
    }

    /// Whether stat tells of nothing that changed since `old` was captured. Then neither did link target, attributes or extents,
    /// which stat does not tell: the ctime would have moved.
    pub fn stands_as(&self, old: &Self) -> bool {
        let stat = |meta: &Self| {
            let Self { kind, mode, uid, gid, size, mtime, ctime, inode, links, file_system, device, .. } = *meta;
            ((kind, mode, uid, gid, size), (mtime, ctime), (inode, links, file_system, device))
        };
        stat(self) == stat(old)
    }

    /// Takes from `old` what stat does not tell.
    pub fn complete_from(&mut self, old: &Self) {
        self.link_target.clone_from(&old.link_target);
        self.xattrs.clone_from(&old.xattrs);
        self.extents.clone_from(&old.extents);
    }

    /// The number that says which entries are one file; `None` for a single name.
    pub fn hard_link(&self) -> Option<u64> {
        (self.links > 1 && self.kind != EntryKind::Directory).then_some(self.inode)
    }
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_one(links: &u64) -> bool {
    *links == 1
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn no_xattrs() -> Option<Vec<Xattr>> {
    Some(Vec::new())
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn has_no_xattrs(xattrs: &Option<Vec<Xattr>>) -> bool {
    xattrs.as_ref().is_some_and(Vec::is_empty)
}

/// A range of a file, in bytes; written `[offset, length]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, at least 1.
    pub length: u64,
}

impl From<(u64, u64)> for Extent {
    fn from((offset, length): (u64, u64)) -> Self {
        Self { offset, length }
    }
}

impl From<Extent> for (u64, u64) {
    fn from(extent: Extent) -> Self {
        (extent.offset, extent.length)
    }
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "XattrLine", into = "XattrLine")]
pub struct Xattr {
    /// Its whole name, `user.note`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// The JSON form of an [`Xattr`]: each half as text where it is UTF-8, else as base64.
#[derive(Serialize, Deserialize)]
struct XattrLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
}

/// An attribute of a catalog line that lacks a half, has one twice, or is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an extended attribute must carry either '{0}' or '{0}_b64', in base64")]
pub struct XattrFormError(&'static str);

impl From<Xattr> for XattrLine {
    fn from(xattr: Xattr) -> Self {
        let (name, name_b64) = text_or_base64(xattr.name);
        let (value, value_b64) = text_or_base64(xattr.value);
        Self { name, name_b64, value, value_b64 }
    }
}

impl TryFrom<XattrLine> for Xattr {
    type Error = XattrFormError;

    fn try_from(line: XattrLine) -> Result<Self, Self::Error> {
        Ok(Self {
            name: bytes_of(line.name, line.name_b64).ok_or(XattrFormError("name"))?,
            value: bytes_of(line.value, line.value_b64).ok_or(XattrFormError("value"))?,
        })
    }
}

fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(raw) => (None, Some(to_base64(raw.as_bytes()))),
    }
}

fn bytes_of(text: Option<String>, base64: Option<String>) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(base64)) => from_base64(&base64),
        _ => None,
    }
}

/// The digest of all extended attributes of an entry that facts carry; empty without any.
pub fn xattr_digest(xattrs: &[Xattr]) -> String {
    if xattrs.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&Xattr> = xattrs.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for half in sorted.into_iter().flat_map(|xattr| [&xattr.name, &xattr.value]) {
        // The kernel keeps values under 64 KiB; a longer one of a forged catalog just gives another digest.
        let length = u32::try_from(half.len()).unwrap_or(u32::MAX);
        hash.update(length.to_le_bytes());
        hash.update(half);
    }
    Digest::finish(hash).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            kind: EntryKind::File,
            mode: 0o4755,
            uid: 0,
            gid: 65_534,
            size: 10_000,
            mtime: Timestamp::new(-1, 5).unwrap(),
            ctime: Timestamp::from_seconds(9),
            inode: 12,
            links: 1,
            file_system: u64::MAX,
            device: None,
            link_target: None,
            xattrs: Some(Vec::new()),
            extents: None,
        }
    }

    fn xattr(name: &[u8], value: &[u8]) -> Xattr {
        Xattr { name: name.to_vec(), value: value.to_vec() }
    }

    fn round_trip(meta: &Meta) -> String {
        let json = serde_json::to_string(meta).unwrap();
        assert_eq!(&serde_json::from_str::<Meta>(&json).unwrap(), meta, "{json}");
        json
    }

    #[test]
    fn a_plain_file_is_a_short_line() {
        assert_eq!(
            round_trip(&meta()),
            concat!(
                r#"{"kind":"file","mode":2541,"uid":0,"gid":65534,"size":10000,"mtime":"1969-12-31T23:59:59.000000005Z","#,
                r#""ctime":"1970-01-01T00:00:09Z","inode":12,"file_system":18446744073709551615}"#
            )
        );
    }

    #[test]
    fn bytes_that_are_no_text_survive_the_line() {
        let mut full = meta();
        full.links = 3;
        full.link_target = Some(RawPath::new(b"caf\xe9".to_vec()));
        full.device = Some((8, 1));
        full.xattrs = Some(vec![xattr(b"user.\xff", b"text"), xattr(b"user.b", b"\0\x01\xfe")]);
        full.extents = Some(vec![Extent { offset: 4096, length: 10 }]);
        let json = round_trip(&full);
        assert!(json.contains(r#""value":"text""#) && json.contains(r#""value_b64":"AAH+""#), "{json}");
        assert!(json.contains(r#""extents":[[4096,10]]"#), "{json}");
    }

    #[test]
    fn unread_attributes_differ_from_none() {
        let mut unread = meta();
        unread.xattrs = None;
        assert!(round_trip(&unread).contains(r#""xattrs":null"#));
    }

    #[test]
    fn an_attribute_without_one_half_is_refused() {
        for json in
            [r#"{"name":"a"}"#, r#"{"name":"a","value":"b","value_b64":"Yg=="}"#, r#"{"name_b64":"%","value":""}"#]
        {
            assert!(serde_json::from_str::<Xattr>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_digest_is_the_one_of_the_protocol_page() {
        assert_eq!(xattr_digest(&[]), "");
        let two = [xattr(b"user.b", b"2"), xattr(b"user.a", b"")];
        let spelled = Digest::of(b"\x06\0\0\0user.a\0\0\0\0\x06\0\0\0user.b\x01\0\0\x002");
        assert_eq!(xattr_digest(&two), spelled.hex());
    }

    #[test]
    fn extents_outside_the_file_or_out_of_order_are_unsound() {
        let check = |extents: &[(u64, u64)], sound: bool| {
            let mut meta = meta();
            meta.extents = Some(extents.iter().copied().map(Extent::from).collect());
            assert_eq!(meta.extents_are_sound(), sound, "{extents:?}");
        };
        check(&[], true);
        check(&[(0, 1), (4096, 5904)], true);
        check(&[(0, 10_001)], false);
        check(&[(4096, 1), (0, 1)], false);
        check(&[(0, 2), (1, 2)], false);
        check(&[(1, 0)], false);
        check(&[(u64::MAX, 2)], false);
    }

    #[test]
    fn data_is_all_of_a_file_without_holes() {
        assert_eq!(meta().data(), [Extent { offset: 0, length: 10_000 }]);
        assert_eq!(Meta { size: 0, ..meta() }.data(), []);
        assert_eq!(Meta { extents: Some(Vec::new()), ..meta() }.data(), []);
    }
}
