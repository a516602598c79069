//! A directory as a store: a NAS mount, a second disk, or the folder of a test.
//!
//! An object appears whole or not at all: it is written under a temporary name in its own folder,
//! synced, renamed without replacing, and the folder is synced. A crash leaves at most a `.tmp-`
//! file, which no listing shows. Nothing is ever overwritten, and no path, planted link or `..`
//! leads out: every name is resolved beneath the opened root (openat2(2), `RESOLVE_BENEATH`).
//! The root itself is never created: an unmounted NAS is an error, not an empty folder to fill.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::contract::{
    Answer, ErrorKind, Key, OBJECT_BYTES_MAX, ObjectInfo, Operation, Seen, Setting, Store, StoreError, TEMPORARY,
};
use crate::digest::sha256;
use crate::leftovers;
use crate::requests::Counter;
use crate::walk;

/// Objects as files below one folder.
#[derive(Debug)]
pub struct DirectoryStore {
    place: Arc<Place>,
    clock: Clock,
    requests: Counter,
}

/// The opened root; shared with the blocking threads that work in it.
#[derive(Debug)]
struct Place {
    root: OwnedFd,
    path: PathBuf,
    prefix: String,
}

impl DirectoryStore {
    /// The existing folder `path`; objects lie below `prefix` in it, which is made when needed.
    pub fn open(path: &Path, prefix: &str, now: Timestamp) -> Result<Self, StoreError> {
        let name = format!("directory {}", path.join(prefix).display());
        let refuse = |kind| StoreError::new(kind, Operation::Open, &name, "");
        if !prefix.is_empty() {
            Key::new(prefix).map_err(|error| refuse(ErrorKind::Misconfigured).because(error))?;
        }
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| match errno {
                // The kind says what the system would say once more.
                Errno::NOENT => refuse(ErrorKind::MissingBucket),
                Errno::NOTDIR => refuse(ErrorKind::MissingBucket).because(io::Error::from(errno)),
                other => refuse(kind_of(other)).because(io::Error::from(other)),
            })?;
        let place = Arc::new(Place { root, path: path.to_owned(), prefix: prefix.to_owned() });
        Ok(Self { place, clock: Clock::new(now), requests: Counter::default() })
    }

    /// Counts the request and does `work` on a thread that may block.
    fn run<'a, T: Send + 'static>(
        &'a self,
        operation: Operation,
        object: &str,
        work: impl FnOnce(&Place) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        let object = object.to_owned();
        Box::pin(async move {
            self.requests.add(operation);
            let place = Arc::clone(&self.place);
            let result = tokio::task::spawn_blocking(move || work(&place)).await;
            let fault = match result {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(fault)) => fault,
                Err(stopped) => Fault { kind: ErrorKind::Other, source: Some(io::Error::other(stopped)) },
            };
            let error = StoreError::new(fault.kind, operation, self.describe(), object);
            Err(match fault.source {
                Some(source) => error.because(source),
                None => error,
            })
        })
    }
}

impl Store for DirectoryStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        let name = key.clone();
        self.run(Operation::Put, key.as_str(), move |place| {
            if place.write(&name, &body, &sha256)? || place.confirm(&name, &body)? {
                Ok(())
            } else {
                Err(ErrorKind::AlreadyExists.into())
            }
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        let name = key.clone();
        self.run(Operation::Get, key.as_str(), move |place| read_whole(place.file(&name)?))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        if len == 0 {
            return Box::pin(async { Ok(Bytes::new()) });
        }
        let name = key.clone();
        self.run(Operation::Get, key.as_str(), move |place| read_range(&place.file(&name)?, offset, len))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        let name = key.clone();
        self.run(Operation::Head, key.as_str(), move |place| match place.file(&name) {
            Ok(file) => {
                let meta = file.metadata()?;
                let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
                let modified = Timestamp::new(meta.mtime(), nanos).unwrap_or_default();
                Ok(Some(ObjectInfo { key: name, size: meta.len(), modified }))
            }
            Err(Fault { kind: ErrorKind::NotFound, .. }) => Ok(None),
            Err(fault) => Err(fault),
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        let wanted = prefix.to_owned();
        let after = after.map(str::to_owned);
        self.run(Operation::List, prefix, move |place| {
            let Some(base) = place.folder("", false)? else { return Ok(Vec::new()) };
            Ok(walk::objects(&base, &wanted, after.as_deref())?)
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        let name = key.clone();
        self.run(Operation::Delete, key.as_str(), move |place| {
            let (parent, last) = split(&name);
            let Some(folder) = place.folder(parent, false)? else { return Ok(()) };
            match rustix::fs::unlinkat(&folder, last, AtFlags::empty()) {
                Ok(()) => Ok(rustix::fs::fsync(&folder)?),
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.run(Operation::Delete, "", move |place| {
            let Some(base) = place.folder("", false)? else { return Ok(0) };
            Ok(leftovers::clear(&base, &temporary_name()?)?)
        })
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        let name = key.clone();
        self.run(Operation::Put, key.as_str(), move |place| place.write(&name, &body, &sha256))
    }

    fn setting<'a>(&'a self, _: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        self.run(Operation::Setting, scratch.as_str(), |_| {
            Ok(Seen::Absent("a directory has no such setting".to_owned()))
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn has_clock(&self) -> bool {
        false
    }

    fn requests(&self) -> Requests {
        self.requests.total()
    }

    fn describe(&self) -> String {
        format!("directory {}", self.place.path.join(&self.place.prefix).display())
    }
}

impl Place {
    /// Writes `body`; `false` when the name is taken.
    ///
    /// The order is the promise: bytes durable, then the name, then the folder that holds the name.
    fn write(&self, key: &Key, body: &[u8], digest: &[u8; 32]) -> Result<bool, Fault> {
        if sha256(body) != *digest {
            return Err(ErrorKind::Checksum.into());
        }
        let (parent, last) = split(key);
        let folder = self.folder(parent, true)?.ok_or(ErrorKind::Other)?;
        let temporary = temporary_name()?;
        let written = write_synced(&folder, &temporary, body).and_then(|()| publish(&folder, &temporary, last));
        match written {
            // The folder is synced even when the name was taken: its writer may not have come that far.
            Ok(new) => {
                rustix::fs::fsync(&folder)?;
                Ok(new)
            }
            Err(errno) => {
                // The first failure is the one to report; a temporary file left over does no harm.
                let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
                Err(errno.into())
            }
        }
    }

    /// Whether the object that is there has these bytes; makes it durable if so.
    fn confirm(&self, key: &Key, body: &[u8]) -> Result<bool, Fault> {
        let mut file = self.file(key)?;
        if file.metadata()?.len() != body.len() as u64 || read_all(&mut file)? != body {
            return Ok(false);
        }
        file.sync_all()?;
        Ok(true)
    }

    /// The opened object; [`ErrorKind::NotFound`] also for a folder of that name.
    fn file(&self, key: &Key) -> Result<File, Fault> {
        let path = if self.prefix.is_empty() { key.as_str().to_owned() } else { format!("{}/{key}", self.prefix) };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(ErrorKind::NotFound.into()),
            Err(errno) => return Err(errno.into()),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// The folder `relative` below the prefix, opened; `None` when it is not there and not to be made.
    ///
    /// Each folder that is made is made durable in the folder above before anything is put into it.
    fn folder(&self, relative: &str, make: bool) -> Result<Option<OwnedFd>, Fault> {
        let mut folder = self.root.try_clone()?;
        for name in self.prefix.split('/').chain(relative.split('/')).filter(|name| !name.is_empty()) {
            if make {
                match rustix::fs::mkdirat(&folder, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                    Ok(()) | Err(Errno::EXIST) => rustix::fs::fsync(&folder)?,
                    Err(errno) => return Err(errno.into()),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            folder = match rustix::fs::openat2(&folder, name, flags, Mode::empty(), inside()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) if !make => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(Some(folder))
    }
}

fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

fn split(key: &Key) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

fn temporary_name() -> Result<String, Fault> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{TEMPORARY}{random:016x}"))
}

fn write_synced(folder: &OwnedFd, name: &str, body: &[u8]) -> Result<(), io::Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder.as_fd(), name, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?;
    let mut file = File::from(file);
    leftovers::hold(&file);
    file.write_all(body)?;
    file.sync_all()
}

/// Gives the temporary file its name unless that is taken; `false` when it is, and the temporary file is gone.
fn publish(folder: &OwnedFd, temporary: &str, name: &str) -> Result<bool, io::Error> {
    match rustix::fs::renameat_with(folder, temporary, folder, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => remove(folder, temporary).map(|()| false),
        // NFS and some FUSE file systems know no flags for rename; they have hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let linked = rustix::fs::linkat(folder, temporary, folder, name, AtFlags::empty());
            let new = match linked {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno.into()),
            };
            remove(folder, temporary).map(|()| new)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn remove(folder: &OwnedFd, name: &str) -> Result<(), io::Error> {
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
}

fn read_all(file: &mut File) -> Result<Vec<u8>, io::Error> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_whole(mut file: File) -> Result<Bytes, Fault> {
    if file.metadata()?.len() > OBJECT_BYTES_MAX {
        return Err(ErrorKind::TooLarge.into());
    }
    Ok(read_all(&mut file)?.into())
}

fn read_range(file: &File, offset: u64, len: u64) -> Result<Bytes, Fault> {
    // The length comes from a stored table: it is compared with the file before memory is set aside.
    let end = offset.checked_add(len).ok_or(ErrorKind::Truncated)?;
    if end > file.metadata()?.len() {
        return Err(ErrorKind::Truncated.into());
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // Read into memory that nobody zeroed first.
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(ErrorKind::Truncated.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes.into())
}

/// What went wrong, before it is known of what.
struct Fault {
    kind: ErrorKind,
    source: Option<io::Error>,
}

impl From<ErrorKind> for Fault {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let kind = match (error.kind(), Errno::from_io_error(&error)) {
            (io::ErrorKind::UnexpectedEof, _) => ErrorKind::Truncated,
            (_, Some(errno)) => kind_of(errno),
            (_, None) => ErrorKind::Other,
        };
        Self { kind, source: Some(error) }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorKind::Full,
        // A link that leads out of the root is refused by openat2 with EXDEV.
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::XDEV | Errno::LOOP => ErrorKind::Denied,
        Errno::NOENT => ErrorKind::NotFound,
        Errno::STALE | Errno::HOSTDOWN | Errno::NOTCONN | Errno::TIMEDOUT => ErrorKind::Unavailable,
        Errno::NOTSUP | Errno::NOSYS => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}
