//! One entry as a tar member: POSIX pax, so that the stock `tar` restores it.
//!
//! Promises that what [`write_header`] writes, followed by the data and [`pad`], is a member that GNU tar
//! and bsdtar read: names of any bytes and length, times before 1970 with nanoseconds, sparse files as
//! GNU.sparse 1.0. It is a service to who has lost everything else: names and metadata count only
//! as the signed catalog tells them, so what tar cannot carry (an extended attribute with an empty
//! value, or whose name is not UTF-8) is left out here and stands there.

use std::borrow::Cow;
use std::fmt::Write as _;

use dualsync_model::fact::EntryKind;
use dualsync_model::time::Timestamp;

use crate::format::MEMBER_HEADER_BYTES_MAX;
use crate::tree::meta::{Extent, Meta};

/// Unit of tar.
pub const BLOCK_BYTES: usize = 512;
/// The end of an archive: two blocks of zeros, which close each volume.
pub const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Longest name in a header's own field.
const NAME_BYTES_MAX: usize = 100;
/// Largest number in seven octal digits.
const OCTAL_7_MAX: u32 = 0o777_7777;
/// Largest number in eleven octal digits.
const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// A pax record.
type Record = (String, Vec<u8>);

/// What the member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// No data.
    Nothing,
    /// So many bytes.
    Data(u64),
    /// The data of a sparse file, extent after extent, each as [`align_extents`] makes it.
    Sparse(&'a [Extent]),
    /// The same file as this earlier member of the same volume.
    LinkTo(&'a [u8]),
}

/// Appends everything that stands before the data; gives the number of data bytes that must follow.
/// The root of the tree is the member `./`.
pub fn write_header(out: &mut Vec<u8>, path: &[u8], meta: &Meta, body: Body<'_>) -> u64 {
    let name: Cow<[u8]> = match (meta.kind, path) {
        (_, []) => Cow::Borrowed(b"./"),
        (EntryKind::Directory, path) => Cow::Owned([path, b"/"].concat()),
        (_, path) => Cow::Borrowed(path),
    };
    let mut header = tar::Header::new_ustar();
    let mut records: Vec<Record> = Vec::new();
    let mut is_binary = false;
    let mut text = |records: &mut Vec<Record>, key: &str, value: &[u8]| {
        is_binary |= std::str::from_utf8(value).is_err();
        records.push((key.to_owned(), value.to_vec()));
    };
    header.set_mode(meta.mode);
    set_owner(&mut header, &mut records, meta);
    set_mtime(&mut header, &mut records, meta.mtime);
    if let Some((major, minor)) = meta.device {
        // Both fields have seven octal digits; Linux numbers have 12 and 20 bits.
        let _ = header.set_device_major(major.min(OCTAL_7_MAX));
        let _ = header.set_device_minor(minor.min(OCTAL_7_MAX));
    }
    let map = if let Body::Sparse(extents) = body { sparse_map(extents, meta.size) } else { Vec::new() };
    let link = match body {
        Body::LinkTo(target) => Some(target),
        _ => meta.link_target.as_ref().map(dualsync_model::path::RawPath::as_bytes),
    };
    header.set_entry_type(entry_type(meta.kind, body));
    if let Body::Sparse(_) = body {
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        set_name(&mut header, &[b"GNUSparseFile.0/", base].concat());
        records.push(("GNU.sparse.major".into(), b"1".to_vec()));
        records.push(("GNU.sparse.minor".into(), b"0".to_vec()));
        text(&mut records, "GNU.sparse.name", &name);
        records.push(("GNU.sparse.realsize".into(), meta.size.to_string().into_bytes()));
    } else if needs_record(&name) {
        set_name(&mut header, &name);
        text(&mut records, "path", &name);
    } else {
        set_name(&mut header, &name);
    }
    if let Some(link) = link {
        let field = &mut header.as_old_mut().linkname;
        let length = link.len().min(NAME_BYTES_MAX);
        field[..length].copy_from_slice(&link[..length]);
        if needs_record(link) {
            text(&mut records, "linkpath", link);
        }
    }
    records.extend(xattr_records(meta));
    if is_binary {
        records.insert(0, ("hdrcharset".into(), b"BINARY".to_vec()));
    }
    let data_bytes = match body {
        Body::Nothing | Body::LinkTo(_) => 0,
        Body::Data(bytes) => bytes,
        Body::Sparse(extents) => extents.iter().map(|extent| extent.length).sum(),
    };
    let size = data_bytes + map.len() as u64;
    if size > OCTAL_11_MAX {
        records.push(("size".into(), size.to_string().into_bytes()));
    }
    header.set_size(if size > OCTAL_11_MAX { 0 } else { size });
    header.set_cksum();
    append(out, &header, &records, &map);
    data_bytes
}

/// Widens extents to whole blocks of tar, in which GNU tar stores each extent of a sparse file. What
/// is added is part of a hole, so it reads as the zeros it is stored as. The last one may end with the file.
pub fn align_extents(extents: &[Extent], size: u64) -> Vec<Extent> {
    let block = BLOCK_BYTES as u64;
    let mut aligned: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        let start = extent.offset / block * block;
        let end = extent.offset.saturating_add(extent.length).next_multiple_of(block).min(size);
        match aligned.last_mut() {
            Some(last) if last.offset + last.length >= start => last.length = end - last.offset,
            _ => aligned.push(Extent { offset: start, length: end - start }),
        }
    }
    aligned
}

/// Fills the last block after `data_bytes` of data.
pub fn pad(out: &mut Vec<u8>, data_bytes: u64) {
    let over = usize::try_from(data_bytes % BLOCK_BYTES as u64).expect("below a block");
    if over > 0 {
        out.resize(out.len() + BLOCK_BYTES - over, 0);
    }
}

fn append(out: &mut Vec<u8>, header: &tar::Header, records: &[Record], map: &[u8]) {
    let mut builder = tar::Builder::new(&mut *out);
    let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
    builder.append_pax_extensions(records).expect("writing into memory cannot fail");
    builder.finish().expect("writing into memory cannot fail");
    drop(builder);
    // The builder always closes with the end of an archive, which belongs after the last member only.
    out.truncate(out.len() - END.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(map);
}

fn entry_type(kind: EntryKind, body: Body<'_>) -> tar::EntryType {
    match (kind, body) {
        (_, Body::LinkTo(_)) => tar::EntryType::Link,
        (EntryKind::Directory, _) => tar::EntryType::Directory,
        (EntryKind::Symlink, _) => tar::EntryType::Symlink,
        (EntryKind::Fifo, _) => tar::EntryType::Fifo,
        (EntryKind::CharDevice, _) => tar::EntryType::Char,
        (EntryKind::BlockDevice, _) => tar::EntryType::Block,
        (EntryKind::File | EntryKind::Socket, _) => tar::EntryType::Regular,
    }
}

/// A header's own field has no character set: what is not plain ASCII goes into a record too.
fn needs_record(name: &[u8]) -> bool {
    name.len() > NAME_BYTES_MAX || !name.is_ascii()
}

fn set_name(header: &mut tar::Header, name: &[u8]) {
    let length = name.len().min(NAME_BYTES_MAX);
    header.as_old_mut().name[..length].copy_from_slice(&name[..length]);
}

fn set_owner(header: &mut tar::Header, records: &mut Vec<Record>, meta: &Meta) {
    header.set_uid(u64::from(if meta.uid > OCTAL_7_MAX { 0 } else { meta.uid }));
    header.set_gid(u64::from(if meta.gid > OCTAL_7_MAX { 0 } else { meta.gid }));
    for (key, id) in [("uid", meta.uid), ("gid", meta.gid)] {
        if id > OCTAL_7_MAX {
            records.push((key.into(), id.to_string().into_bytes()));
        }
    }
}

fn set_mtime(header: &mut tar::Header, records: &mut Vec<Record>, mtime: Timestamp) {
    let seconds = u64::try_from(mtime.seconds()).ok().filter(|seconds| *seconds <= OCTAL_11_MAX);
    header.set_mtime(seconds.unwrap_or(0));
    if seconds.is_none() || mtime.nanos() != 0 {
        records.push(("mtime".into(), decimal(mtime).into_bytes()));
    }
}

/// Seconds as POSIX writes them: `-0.5` is half a second before the epoch.
fn decimal(time: Timestamp) -> String {
    let total = i128::from(time.seconds()) * 1_000_000_000 + i128::from(time.nanos());
    let (sign, total) = if total < 0 { ("-", total.unsigned_abs()) } else { ("", total.unsigned_abs()) };
    let (seconds, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
    if nanos == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{nanos:09}") }
}

/// A count, then offset and length of each extent, each on a line, filled up to a block. A hole at
/// the end is an extent without bytes, as GNU tar writes it.
fn sparse_map(extents: &[Extent], size: u64) -> Vec<u8> {
    let end = extents.last().map_or(0, |last| last.offset + last.length);
    let tail = (end < size).then_some(Extent { offset: size, length: 0 });
    let mut map = format!("{}\n", extents.len() + usize::from(tail.is_some()));
    for extent in extents.iter().copied().chain(tail) {
        // Into a String, which takes everything.
        let _ = writeln!(map, "{}\n{}", extent.offset, extent.length);
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

/// Attributes under the keyword of star, which GNU tar reads; its escapes of `%` and `=` included.
fn xattr_records(meta: &Meta) -> Vec<Record> {
    let mut left = MEMBER_HEADER_BYTES_MAX / 2;
    let mut records = Vec::new();
    for xattr in meta.xattrs.iter().flatten() {
        let Ok(name) = std::str::from_utf8(&xattr.name) else { continue };
        let cost = 2 * (name.len() + xattr.value.len() + 64);
        if xattr.value.is_empty() || name.contains('\n') || cost > left {
            continue;
        }
        left -= cost;
        let keyword = name.replace('%', "%25").replace('=', "%3D");
        records.push((format!("SCHILY.xattr.{keyword}"), xattr.value.clone()));
    }
    records
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use dualsync_model::path::RawPath;

    use super::*;
    use crate::catalog::entry::tests::entry;
    use crate::tree::meta::Xattr;
    use crate::volume::content::data;

    fn meta(kind: EntryKind, size: u64) -> Meta {
        Meta { kind, size, mode: 0o640, ..entry("x").meta }
    }

    fn member(path: &[u8], meta: &Meta, body: Body<'_>, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(write_header(&mut out, path, meta, body), content.len() as u64);
        out.extend_from_slice(content);
        pad(&mut out, content.len() as u64);
        assert!(out.len().is_multiple_of(BLOCK_BYTES));
        out
    }

    /// Unpacks with GNU tar.
    fn unpack(tar: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut tool = Command::new("tar")
            .args(["-x", "--xattrs", "--xattrs-include=user.*", "--no-same-owner", "-C"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = tool.stdin.take().unwrap();
        input.write_all(tar).unwrap();
        input.write_all(&END).unwrap();
        drop(input);
        assert!(tool.wait().unwrap().success());
        folder
    }

    #[test]
    fn gnu_tar_restores_names_of_any_bytes_and_length() {
        let long = vec![b'l'; 255];
        let deep = [&long[..], b"/", &long, b"/", &long].concat();
        for name in [&b"plain"[..], "ümlaut".as_bytes(), b"caf\xe9 \x01\n", &[0xff; 255], &deep] {
            let folder = unpack(&member(name, &meta(EntryKind::File, 3), Body::Data(3), b"abc"));
            let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
            assert_eq!(std::fs::read(path).unwrap(), b"abc");
        }
    }

    #[test]
    fn gnu_tar_restores_times_before_1970_to_the_nanosecond() {
        for (seconds, nanos) in [(-1, 500_000_000), (-86_400, 1), (0, 0), (1, 999_999_999), (9_000_000_000, 5)] {
            let mut meta = meta(EntryKind::File, 0);
            meta.mtime = Timestamp::new(seconds, nanos).unwrap();
            let folder = unpack(&member(b"f", &meta, Body::Nothing, b""));
            let found = std::fs::metadata(folder.path().join("f")).unwrap();
            assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, i64::from(nanos)), "{}", decimal(meta.mtime));
        }
    }

    #[test]
    fn gnu_tar_restores_a_sparse_file_with_its_holes() {
        let extents = [Extent { offset: 1 << 20, length: 1024 }, Extent { offset: 3 << 20, length: 512 }];
        let content = [[b'a'; 1024].as_slice(), &[b'z'; 512]].concat();
        let mut sparse = meta(EntryKind::File, 8 << 20);
        sparse.extents = Some(extents.to_vec());
        let tar = member(b"d/sparse", &sparse, Body::Sparse(&extents), &content);
        assert_eq!(data("v", &tar).unwrap(), content);
        let folder = unpack(&tar);
        let path = folder.path().join("d/sparse");
        let restored = std::fs::read(&path).unwrap();
        assert_eq!((restored.len(), &restored[1 << 20..(1 << 20) + 1024]), (8 << 20, &content[..1024]));
        assert_eq!(&restored[3 << 20..(3 << 20) + 513], [[b'z'; 512].as_slice(), &[0]].concat());
        assert!(std::fs::metadata(&path).unwrap().blocks() < 1000, "it has its holes");
        let hole = member(b"hole", &sparse, Body::Sparse(&[]), b"");
        assert_eq!(std::fs::metadata(unpack(&hole).path().join("hole")).unwrap().len(), 8 << 20);
    }

    #[test]
    fn extents_are_widened_to_blocks_and_joined_where_they_meet() {
        let check = |extents: &[(u64, u64)], size, wanted: &[(u64, u64)]| {
            let extents: Vec<Extent> = extents.iter().copied().map(Extent::from).collect();
            let found: Vec<(u64, u64)> = align_extents(&extents, size).into_iter().map(Into::into).collect();
            assert_eq!(found, wanted);
        };
        check(&[(4096, 4096)], 1 << 20, &[(4096, 4096)]);
        check(&[(600, 5), (5000, 8)], 5008, &[(512, 512), (4608, 400)]);
        check(&[(0, 5), (500, 5), (1024, 1)], 4096, &[(0, 512), (1024, 512)]);
        check(&[], 10, &[]);
    }

    #[test]
    fn gnu_tar_restores_every_kind() {
        let target = b"t".repeat(300);
        let mut symlink = meta(EntryKind::Symlink, 300);
        symlink.link_target = Some(RawPath::new(target.clone()));
        let tar = [
            member(b"", &meta(EntryKind::Directory, 0), Body::Nothing, b""),
            member(b"d", &meta(EntryKind::Directory, 0), Body::Nothing, b""),
            member(b"d/f", &meta(EntryKind::File, 4), Body::Data(4), b"data"),
            member(b"d/link", &meta(EntryKind::File, 4), Body::LinkTo(b"d/f"), b""),
            member(b"s", &symlink, Body::Nothing, b""),
            member(b"p", &meta(EntryKind::Fifo, 0), Body::Nothing, b""),
        ]
        .concat();
        let folder = unpack(&tar);
        let stat = |name: &str| std::fs::symlink_metadata(folder.path().join(name)).unwrap();
        assert!(stat("d").is_dir() && stat("p").file_type().is_fifo());
        assert_eq!(stat("d/f").ino(), stat("d/link").ino());
        assert_eq!(
            std::fs::read_link(folder.path().join("s")).unwrap(),
            Path::new(std::ffi::OsStr::from_bytes(&target))
        );
    }

    #[test]
    fn gnu_tar_restores_extended_attributes() {
        let mut meta = meta(EntryKind::File, 0);
        let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.to_vec(), value: value.to_vec() };
        meta.xattrs =
            Some(vec![xattr(b"user.a=%", b"1\n\xff"), xattr(b"user.empty", b""), xattr(b"user.\xff", b"no text")]);
        let tar = member(b"f", &meta, Body::Nothing, b"");
        assert_eq!(data("v", &tar).unwrap(), b"", "the other reader accepts it too");
        let folder = unpack(&tar);
        assert_eq!(xattr::get(folder.path().join("f"), "user.a=%").unwrap().as_deref(), Some(&b"1\n\xff"[..]));
    }

    #[test]
    fn numbers_beyond_their_fields_go_into_records() {
        let mut big = meta(EntryKind::CharDevice, 0);
        (big.uid, big.gid, big.device) = (u32::MAX - 1, 3_000_000, Some((4095, 1_048_575)));
        let tar = member(b"dev", &big, Body::Nothing, b"");
        let mut archive = tar::Archive::new(&tar[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let records: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|record| {
                record.map(|record| (record.key().unwrap().to_owned(), record.value().unwrap().to_owned())).unwrap()
            })
            .collect();
        assert_eq!(records, [("uid".to_owned(), "4294967294".to_owned()), ("gid".to_owned(), "3000000".to_owned())]);
        assert_eq!(entry.header().device_major().unwrap(), Some(4095));
        assert_eq!(entry.header().device_minor().unwrap(), Some(1_048_575));
    }
}
