//! Trees made again and compared by rsync and by our own walk; attempts to get out of the target.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::tree::content::Content;
use crate::tree::nasty;
use crate::tree::walk::{Walk, Walked};

fn applier(root: &Path, existing: Existing) -> Arc<Applier> {
    Arc::new(Applier::new(root, existing).unwrap())
}

fn walk(root: &Path) -> Vec<Walked> {
    Walk::new(root, root, |_| false).unwrap().map(Result::unwrap).collect()
}

fn meta(kind: EntryKind) -> Meta {
    let folder = tempfile::tempdir().unwrap();
    let mut meta = walk(folder.path()).remove(0).meta.unwrap();
    (meta.kind, meta.mode, meta.links, meta.xattrs) = (kind, 0o750, 1, Some(Vec::new()));
    meta
}

fn write(applier: &Arc<Applier>, path: &str, bytes: &[u8], meta: &Meta) -> Result<(), ApplyError> {
    let path = RawPath::new(path);
    let staged = applier.begin_file(&path, bytes.len() as u64)?;
    staged.write_at(bytes, 0)?;
    staged.finish(meta)
}

/// Copies a tree through walk and applier, as a restore does it.
fn copy(from: &Path, to: &Path) {
    let applier = applier(to, Existing::Keep);
    let mut directories: Vec<(RawPath, Meta)> = Vec::new();
    let mut firsts: Vec<(u64, RawPath)> = Vec::new();
    for entry in walk(from) {
        let meta = entry.meta.as_ref().unwrap().clone();
        let first = meta.hard_link().and_then(|inode| firsts.iter().find(|(known, _)| *known == inode));
        if let Some((_, first)) = first {
            applier.link(first, &entry.path).unwrap();
            continue;
        }
        firsts.extend(meta.hard_link().map(|inode| (inode, entry.path.clone())));
        match meta.kind {
            EntryKind::Directory => {
                applier.directory(&entry.path).unwrap();
                directories.push((entry.path, meta));
            }
            EntryKind::File => {
                let staged = applier.begin_file(&entry.path, meta.size).unwrap();
                let mut content = entry.open_content().unwrap();
                for extent in meta.data() {
                    write_extent(&staged, &mut content, extent.offset, extent.length);
                }
                content.finish().unwrap();
                staged.finish(&meta).unwrap();
            }
            _ => applier.node(&entry.path, &meta).unwrap(),
        }
    }
    let root = directories.remove(0).1;
    for (path, meta) in directories.iter().rev() {
        applier.dress(path, meta).unwrap();
    }
    applier.finish(Some(&root)).unwrap();
    assert_eq!(applier.shortfalls().sentences(), []);
}

fn write_extent(staged: &Staged, content: &mut Content, offset: u64, length: u64) {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    content.read_exact(&mut bytes).unwrap();
    staged.write_at(&bytes, offset).unwrap();
}

#[test]
fn a_nasty_tree_is_made_again_to_the_last_bit() {
    if !nasty::privileged("a whole tree with owners, devices and capabilities") {
        return;
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    nasty::build(from.path(), 500);
    copy(from.path(), to.path());
    nasty::assert_same(from.path(), to.path());
}

#[test]
fn nothing_leads_out_of_the_target() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/secret"), "secret").unwrap();
    let applier = applier(&folder.path().join("in"), Existing::Replace);
    let mut planted = meta(EntryKind::Symlink);
    planted.link_target = Some(RawPath::new("../out"));
    applier.node(&RawPath::new("planted"), &planted).unwrap();
    for path in ["../out/new", "planted/new", "/tmp/new", "a/../../out/new", "planted/../../out/new"] {
        let raw = RawPath::new(path);
        assert!(write(&applier, path, b"x", &meta(EntryKind::File)).is_err(), "{path}");
        assert!(applier.directory(&raw).is_err(), "{path}");
        assert!(applier.node(&raw, &meta(EntryKind::Fifo)).is_err(), "{path}");
        assert!(applier.dress(&raw, &meta(EntryKind::Directory)).is_err(), "{path}");
    }
    for first in ["../out/secret", "planted/secret"] {
        assert!(applier.link(&RawPath::new(first), &RawPath::new("stolen")).is_err(), "{first}");
    }
    // Over the planted link, not through it.
    write(&applier, "planted", b"x", &meta(EntryKind::File)).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 1);
    assert_eq!(fs::read(folder.path().join("in/planted")).unwrap(), b"x");
    applier.finish(None).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("in")).unwrap().count(), 1);
}

#[test]
fn a_link_in_place_of_a_directory_gets_none_of_its_attributes() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    symlink("../out", folder.path().join("in/d")).unwrap();
    let applier = applier(&folder.path().join("in"), Existing::Keep);
    let before = fs::metadata(folder.path().join("out")).unwrap();
    assert!(matches!(applier.directory(&RawPath::new("d")), Err(ApplyError::Exists(_))));
    let mut open = meta(EntryKind::Directory);
    open.mode = 0o777;
    applier.dress(&RawPath::new("d"), &open).unwrap();
    assert_eq!(fs::metadata(folder.path().join("out")).unwrap().permissions(), before.permissions());
}

#[test]
fn what_exists_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file", "node", "link", "in the way"] {
        fs::write(folder.path().join(name), "mine").unwrap();
    }
    fs::create_dir(folder.path().join("directory")).unwrap();
    let attempt = |existing| {
        let applier = applier(folder.path(), existing);
        write(&applier, "first", b"new", &meta(EntryKind::File)).unwrap();
        let results = [
            write(&applier, "file", b"new", &meta(EntryKind::File)),
            applier.node(&RawPath::new("node"), &meta(EntryKind::Fifo)),
            applier.link(&RawPath::new("first"), &RawPath::new("link")),
            applier.directory(&RawPath::new("in the way")).map(|_| ()),
        ];
        let is_ours = applier.directory(&RawPath::new("directory")).unwrap();
        fs::remove_file(folder.path().join("first")).unwrap();
        applier.finish(None).unwrap();
        (results, is_ours)
    };
    let (results, is_ours) = attempt(Existing::Keep);
    for result in results {
        assert!(matches!(result, Err(ApplyError::Exists(_))), "{result:?}");
    }
    assert!(!is_ours, "a directory that was there keeps its owner and mode");
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"mine");
    let (results, is_ours) = attempt(Existing::Replace);
    for result in results {
        result.unwrap();
    }
    assert!(is_ours);
    assert_eq!(fs::read(folder.path().join("link")).unwrap(), b"new");
}

#[test]
fn a_restore_into_an_empty_target_may_replace_what_it_made_when_it_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    write(&applier(folder.path(), Existing::Keep), "file", b"old", &meta(EntryKind::File)).unwrap();
    let again = applier(folder.path(), Existing::Keep);
    write(&again, "file", b"new", &meta(EntryKind::File)).unwrap();
    again.finish(None).unwrap();
    let later = applier(folder.path(), Existing::Keep);
    assert!(write(&later, "file", b"x", &meta(EntryKind::File)).is_err(), "that restore was complete");
    later.finish(None).unwrap();
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"new");
}

#[test]
fn a_directory_is_never_replaced_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("d/full")).unwrap();
    let applier = applier(folder.path(), Existing::Replace);
    let error = write(&applier, "d", b"x", &meta(EntryKind::File)).unwrap_err();
    assert_eq!(error.to_string(), "'d' exists already");
    applier.finish(None).unwrap();
}

#[test]
fn an_unfinished_file_is_absent_and_its_remains_go_with_the_next_restore() {
    let folder = tempfile::tempdir().unwrap();
    let first = applier(folder.path(), Existing::Keep);
    let begun = [
        first.begin_file(&RawPath::new("file"), 10).unwrap(),
        first.begin_parted(&RawPath::new("big"), 10, Digest::of(b"half and half")).unwrap(),
    ];
    for staged in begun {
        staged.write_at(b"half", 0).unwrap();
        // As after a crash: nobody cleans up.
        std::mem::forget(staged);
    }
    let in_staging = || fs::read_dir(folder.path().join(STAGING)).unwrap().count();
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names, [STAGING], "under its own name there is nothing");
    assert_eq!(
        in_staging(),
        2,
        "the big one, which a restore may go on with, and the note that the target was empty at first"
    );
    let second = applier(folder.path(), Existing::Keep);
    assert_eq!(in_staging(), 1, "the note stays");
    second.finish(None).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// An ext4 image behind FUSE, where no file can be without a name.
struct Fused(tempfile::TempDir);

impl Fused {
    fn mount() -> Self {
        let fused = Self(tempfile::tempdir().unwrap());
        let image = fused.0.path().join("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(fused.tree()).unwrap();
        nasty::tool(&[&"mke2fs", &"-q", &"-t", &"ext4", &"-E", &"root_owner=0:0", &image]);
        nasty::tool(&[&"fuse2fs", &"-o", &"rw", &image, &fused.tree()]);
        fused
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }
}

impl Drop for Fused {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.tree()).status();
    }
}

#[test]
fn a_file_that_cannot_be_without_a_name_has_a_passing_one() {
    if !nasty::privileged("a file system behind FUSE") {
        return;
    }
    let fused = Fused::mount();
    let to = fused.tree();
    let applier = applier(&to, Existing::Keep);
    let folder = OwnedFd::from(File::open(&to).unwrap());
    assert!(nameless(&folder).unwrap().is_none(), "else this shows nothing");
    let in_staging = || fs::read_dir(to.join(STAGING)).unwrap().count();
    drop(applier.begin_file(&RawPath::new("given up"), 4).unwrap());
    let half = applier.begin_file(&RawPath::new("file"), 4).unwrap();
    half.write_at(b"data", 0).unwrap();
    assert_eq!(in_staging(), 2, "the note that the target was empty, and the file");
    assert!(!to.join("file").exists());
    half.finish(&meta(EntryKind::File)).unwrap();
    assert_eq!((fs::read(to.join("file")).unwrap(), in_staging()), (b"data".to_vec(), 1));
    let mode = fs::metadata(to.join("file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    applier.finish(None).unwrap();
}

#[test]
fn a_file_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let applier = applier(folder.path(), Existing::Keep);
    drop(applier.begin_file(&RawPath::new("file"), 10).unwrap());
    applier.finish(None).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_inherited_acl_is_not_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    nasty::tool(&[&"setfacl", &"-m", &"d:u:1234:rwx", &folder.path()]);
    let applier = applier(folder.path(), Existing::Keep);
    applier.directory(&RawPath::new("d")).unwrap();
    write(&applier, "d/file", b"x", &meta(EntryKind::File)).unwrap();
    applier.dress(&RawPath::new("d"), &meta(EntryKind::Directory)).unwrap();
    applier.finish(None).unwrap();
    for entry in walk(folder.path()).iter().skip(1) {
        assert_eq!(entry.meta.as_ref().unwrap().xattrs, Some(Vec::new()), "{}", entry.path);
    }
}

#[test]
fn the_restores_own_folder_is_no_place_for_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let applier = applier(folder.path(), Existing::Replace);
    for path in [STAGING.to_owned(), format!("{STAGING}/0")] {
        let error = write(&applier, &path, b"x", &meta(EntryKind::File)).unwrap_err();
        assert!(matches!(error, ApplyError::Impossible { .. }), "{error}");
    }
}

#[test]
fn what_nobody_may_set_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let applier = applier(folder.path(), Existing::Keep);
    let mut strange = meta(EntryKind::File);
    strange.mode = 0o4755;
    strange.uid = u32::MAX;
    for name in ["a", "b"] {
        write(&applier, name, b"x", &strange).unwrap();
    }
    let sentences: Vec<String> = applier.shortfalls().sentences().into_iter().map(|(_, sentence)| sentence).collect();
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    assert!(sentences[0].starts_with("the owner could not be set on 2 entries, 'a' the first: "), "{sentences:?}");
    assert!(sentences[1].starts_with("the set-id bits could not be set on 2 entries"), "{sentences:?}");
    let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "a set-id bit under another owner gives away rights");
}

#[test]
fn the_target_must_be_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let roots: [PathBuf; 2] = [folder.path().join("file"), folder.path().join("missing")];
    for root in roots {
        assert!(Applier::new(&root, Existing::Keep).is_err());
    }
}
