//! A folder of this host as a store: opendal's `fs` service, made durable.
//!
//! opendal writes and reads the bytes. Its `fs` service syncs a file when it closes it, but it
//! replaces what lies under a name, syncs no folder, makes a missing root, and follows links. So an object is
//! written under an `.unfinished-` name beside its place, and this file does the rest: it makes
//! and syncs folders, links the finished file to its name without replacing (renameat2(2)), and
//! syncs the folder. Whatever crashes when, an object is whole or absent.
//!
//! Nothing here creates the folder of the target itself: where the NAS is not mounted, that is an error.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use opendal::Operator;
use opendal::services::Fs;
use rustix::fs::{Advice, CWD, RenameFlags};
use rustix::io::Errno;

use crate::contract::{
    Conditional, ErrorKind, Key, ObjectInfo, Operation, Receipt, Reply, Store, StoreError, UNFINISHED,
};
use crate::dal;
use crate::digest;
use crate::listing::{self, Asked};
use crate::tally::Tally;
use crate::time::ToldTime;

/// Objects as files.
#[derive(Debug)]
pub struct DirectoryStore {
    files: Operator,
    /// Canonical path of the folder that has to exist.
    root: PathBuf,
    /// Folder below it in which the keys begin.
    prefix: String,
    tally: Tally,
    time: ToldTime,
}

impl DirectoryStore {
    /// A store below `prefix` (may be empty, is made when needed) in the existing folder `path`.
    pub fn open(path: &Path, prefix: &str, now: Timestamp) -> Result<Self, StoreError> {
        let place = format!("directory {}", path.join(prefix).display());
        let failure = |kind| StoreError::new(kind, Operation::Open, &place, "");
        if !prefix.is_empty() {
            Key::new(prefix).map_err(|error| failure(ErrorKind::Misconfigured).caused_by(error))?;
        }
        // Looked at first, since opendal would create it.
        let root = fs::canonicalize(path).map_err(|error| match error.kind() {
            // The system would say the same in other words.
            io::ErrorKind::NotFound => failure(ErrorKind::MissingBucket),
            _ => failure(io_kind(&error)).caused_by(error),
        })?;
        if !root.is_dir() {
            return Err(failure(ErrorKind::MissingBucket));
        }
        let text = root.to_str().ok_or_else(|| failure(ErrorKind::Misconfigured).caused_by("the path is not UTF-8"))?;
        let files = Operator::new(Fs::default().root(text))
            .map_err(|error| failure(ErrorKind::Misconfigured).caused_by(error))?;
        let (tally, time) = (Tally::default(), ToldTime::from_job(now));
        Ok(Self { files, root, prefix: prefix.to_owned(), tally, time })
    }

    /// `text` (a key, a prefix of keys, a folder) as opendal's path below the root.
    fn below_prefix(&self, text: &str) -> String {
        if self.prefix.is_empty() { text.to_owned() } else { format!("{}/{text}", self.prefix) }
    }

    fn failure(&self, kind: ErrorKind, operation: Operation, object: &str) -> StoreError {
        StoreError::new(kind, operation, self.describe(), object)
    }

    fn io_failure(&self, operation: Operation, key: &Key) -> impl Fn(io::Error) -> StoreError {
        let (place, key) = (self.describe(), key.to_string());
        move |error| StoreError::new(io_kind(&error), operation, &place, &key).caused_by(error)
    }

    fn dal_failure(&self, operation: Operation, object: &str) -> impl Fn(opendal::Error) -> StoreError {
        let (place, object) = (self.describe(), object.to_owned());
        move |error| StoreError::new(dal::kind(&error), operation, &place, &object).caused_by(error)
    }

    /// Writes and publishes; [`Conditional::Refused`] when the key is taken, whatever lies there.
    async fn write(&self, key: &Key, body: Bytes, sha256: [u8; 32]) -> Result<Conditional, StoreError> {
        self.tally.count(Operation::Put);
        if digest::sha256(&body) != sha256 {
            return Err(self.failure(ErrorKind::Checksum, Operation::Put, key.as_str()));
        }
        let failed = self.io_failure(Operation::Put, key);
        let (parent, name) = key.parent_and_name();
        let parent = self.below_prefix(parent);
        let (root, relative) = (self.root.clone(), parent.clone());
        let folder = on_a_thread(move || make_folders(&root, &relative)).await.map_err(&failed)?;
        let random = getrandom::u64().map_err(|error| failed(io::Error::other(error)))?;
        let unfinished = format!("{UNFINISHED}{random:016x}");
        let path = format!("{}/{unfinished}", parent.trim_end_matches('/'));
        let outcome = match self.files.write(&path, body).await {
            Ok(_) => {
                let (folder, unfinished, name) = (folder.clone(), unfinished.clone(), name.to_owned());
                on_a_thread(move || publish(&folder, &unfinished, &name)).await.map_err(&failed)
            }
            Err(error) => Err(self.dal_failure(Operation::Put, key.as_str())(error)),
        };
        if outcome.is_err() {
            // What is left over is named so that nobody takes it for an object.
            let _ = on_a_thread(move || fs::remove_file(folder.join(unfinished))).await;
        }
        outcome
    }

    async fn read(&self, key: &Key, bytes_max: u64) -> Result<Bytes, StoreError> {
        self.tally.count(Operation::Get);
        let failure = |kind| self.failure(kind, Operation::Get, key.as_str());
        let info = self.stat(key).await?.ok_or_else(|| failure(ErrorKind::NotFound))?;
        if info.size > bytes_max.min(Key::OBJECT_BYTES_MAX) {
            return Err(failure(ErrorKind::TooLarge));
        }
        self.read_part(key, 0..info.size).await
    }

    /// The length of an object that is read in part.
    async fn size(&self, key: &Key) -> Result<u64, StoreError> {
        self.tally.count(Operation::Get);
        let none = || self.failure(ErrorKind::NotFound, Operation::Get, key.as_str());
        Ok(self.stat(key).await?.ok_or_else(none)?.size)
    }

    /// A range that the object has, piece by piece into its place: opendal's own whole would be in memory twice.
    async fn read_part(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let failed = self.dal_failure(Operation::Get, key.as_str());
        let reader = self.files.reader(&self.below_prefix(key.as_str())).await.map_err(&failed)?;
        let length = usize::try_from(range.end - range.start)
            .map_err(|error| self.failure(ErrorKind::TooLarge, Operation::Get, key.as_str()).caused_by(error))?;
        let mut bytes = Vec::with_capacity(length);
        reader.read_into(&mut bytes, range).await.map_err(failed)?;
        if bytes.len() != length {
            return Err(self.failure(ErrorKind::Truncated, Operation::Get, key.as_str()));
        }
        Ok(bytes.into())
    }

    /// opendal follows links: one that was planted below the root must not be read through.
    async fn stay_inside(&self, key: &Key) -> Result<(), StoreError> {
        let (root, path) = (self.root.clone(), self.root.join(self.below_prefix(key.as_str())));
        let inside = on_a_thread(move || match fs::canonicalize(path) {
            Ok(real) if real.starts_with(root) => Ok(()),
            Ok(_) => Err(Errno::XDEV.into()),
            // What is not there leads nowhere.
            Err(error) if io_kind(&error) == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
        inside.await.map_err(self.io_failure(Operation::Get, key))
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.stay_inside(key).await?;
        match self.files.stat(&self.below_prefix(key.as_str())).await {
            Ok(meta) if meta.is_file() => Ok(Some(dal::info(key.clone(), &meta))),
            Ok(_) => Ok(None),
            Err(error) if dal::kind(&error) == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.dal_failure(Operation::Head, key.as_str())(error)),
        }
    }
}

/// Calls that wait for a disk or a NAS must not hold up the tasks that report progress.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Makes each missing folder of `relative` durable in the one above it; the last one comes back.
fn make_folders(root: &Path, relative: &str) -> io::Result<PathBuf> {
    let mut folder = root.to_owned();
    for name in relative.split('/').filter(|name| !name.is_empty()) {
        let below = folder.join(name);
        match fs::create_dir(&below) {
            Ok(()) => sync_folder(&folder)?,
            // Another writer may have made it and not have synced it yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_folder(&folder)?,
            Err(error) => return Err(error),
        }
        folder = below;
    }
    // A link that was planted below the root must not lead an object out of it.
    if fs::canonicalize(&folder)?.starts_with(root) { Ok(folder) } else { Err(Errno::XDEV.into()) }
}

/// Gives the finished file its name, unless that is taken; either way the folder is durable afterwards.
fn publish(folder: &Path, unfinished: &str, name: &str) -> io::Result<Conditional> {
    let (from, to) = (folder.join(unfinished), folder.join(name));
    let outcome = match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
        Ok(()) => Conditional::Written,
        Err(Errno::EXIST) => Conditional::Refused,
        // File systems without this flag (NFS) can link, which does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(&from, &to) {
            Ok(()) => Conditional::Written,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Conditional::Refused,
            Err(error) => return Err(error),
        },
        Err(errno) => return Err(errno.into()),
    };
    match fs::remove_file(&from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_folder(folder)?;
    // What is read back, or read tonight, comes from the disk and not from memory.
    if outcome == Conditional::Written {
        let _ = rustix::fs::fadvise(File::open(to)?, 0, None, Advice::DontNeed);
    }
    Ok(outcome)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The kind of an error of the file system.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::CrossesDevices => {
            ErrorKind::Denied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::Full,
        io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::HostUnreachable => ErrorKind::Unavailable,
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

impl Store for DirectoryStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        Box::pin(async move {
            if self.write(key, body.clone(), sha256).await? == Conditional::Written {
                return Ok(Receipt::Taken);
            }
            let there = self.files.read(&self.below_prefix(key.as_str())).await;
            let there = there.map_err(self.dal_failure(Operation::Put, key.as_str()))?;
            if there.to_bytes() != body {
                return Err(self.failure(ErrorKind::AlreadyExists, Operation::Put, key.as_str()));
            }
            // The same bytes, by an earlier try or another writer, who may not have synced them.
            let path = self.root.join(self.below_prefix(key.as_str()));
            let synced = on_a_thread(move || File::open(path)?.sync_all()).await;
            synced.map(|()| Receipt::Proved).map_err(self.io_failure(Operation::Put, key))
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        Box::pin(self.read(key, Key::OBJECT_BYTES_MAX))
    }

    fn get_at_most<'a>(&'a self, key: &'a Key, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(self.read(key, bytes_max))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            if len == 0 {
                return Ok(Bytes::new());
            }
            // Asked before memory is set aside: the length may come from a damaged catalog.
            let size = self.size(key).await?;
            let end = offset.checked_add(len).filter(|end| *end <= size);
            let end = end.ok_or_else(|| self.failure(ErrorKind::Truncated, Operation::Get, key.as_str()))?;
            self.read_part(key, offset..end).await
        })
    }

    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        Box::pin(async move {
            let size = self.size(key).await?;
            Ok((self.read_part(key, 0..len.min(size)).await?, size))
        })
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        Box::pin(async move {
            self.tally.count(Operation::Head);
            self.stat(key).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            self.tally.count(Operation::List);
            let top = self.root.join(&self.prefix);
            let asked = Asked { prefix: prefix.to_owned(), after: after.map(str::to_owned) };
            on_a_thread(move || listing::objects(&top, &asked))
                .await
                .map_err(|error| self.failure(io_kind(&error), Operation::List, prefix).caused_by(error))
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        Box::pin(async move {
            self.tally.count(Operation::Delete);
            let path = self.below_prefix(key.as_str());
            self.files.delete(&path).await.map_err(self.dal_failure(Operation::Delete, key.as_str()))?;
            let (parent, _) = key.parent_and_name();
            let folder = self.root.join(self.below_prefix(parent));
            match on_a_thread(move || sync_folder(&folder)).await {
                Err(error) if io_kind(&error) != ErrorKind::NotFound => {
                    Err(self.io_failure(Operation::Delete, key)(error))
                }
                _ => Ok(()),
            }
        })
    }

    /// Why this is safe: the name of an unfinished file is drawn by the put that writes it, and nobody else ever opens
    /// it. No put lasts a day; one that did, because the time of the job or of the file system is wrong, would
    /// find its file gone when it gives it its name, and fail: an object is still whole or absent.
    fn clear_unfinished(&self, before: Timestamp, only_count: bool) -> Reply<'_, u64> {
        Box::pin(async move {
            self.tally.count(Operation::List);
            let top = self.root.join(&self.prefix);
            on_a_thread(move || {
                let left_over = listing::unfinished(&top, before)?;
                if !only_count {
                    left_over.iter().try_for_each(fs::remove_file)?;
                }
                Ok(left_over.len() as u64)
            })
            .await
            .map_err(|error| self.failure(io_kind(&error), Operation::Delete, UNFINISHED).caused_by(error))
        })
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        Box::pin(self.write(key, body, sha256))
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn has_clock(&self) -> bool {
        false
    }

    fn requests(&self) -> Requests {
        self.tally.total()
    }

    fn describe(&self) -> String {
        format!("directory {}", self.root.join(&self.prefix).display())
    }
}
