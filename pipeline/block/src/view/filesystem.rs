//! The FUSE file system of a view: a folder with one file in it, [`IMAGE_NAME`].
//!
//! Each request is answered by a task of its own, so that a slow fetch holds up nobody else.
//! Whatever goes wrong is `EIO` to the reader (`ENOSPC` for a full overlay); the reason stays with
//! the view, which knows objects and not errno.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use tokio::runtime::Handle;

use super::overlay::{Overlay, OverlayError};
use super::source::BlockSource;

/// Name of the image in the view.
pub const IMAGE_NAME: &str = "image";

const IMAGE: INodeNo = INodeNo(2);
/// Nothing in a view ever changes but the image's bytes.
const FOREVER: Duration = Duration::from_hours(365 * 24);

/// Serves one view.
#[derive(Debug)]
pub(super) struct ViewFilesystem<S> {
    view: Arc<Overlay<S>>,
    runtime: Handle,
    owner: (u32, u32),
}

impl<S: BlockSource> ViewFilesystem<S> {
    /// Answers on `runtime`; the files belong to who runs the program.
    pub(super) fn new(view: Arc<Overlay<S>>, runtime: Handle) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { view, runtime, owner }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o500, 0),
            IMAGE => (FileType::RegularFile, 0o600, self.view.size_bytes()),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn errno(error: &OverlayError) -> Errno {
    tracing::debug!(error = %crate::fetch::sentence(error), "the view answers with an error");
    if matches!(error, OverlayError::Full) { Errno::ENOSPC } else { Errno::EIO }
}

impl<S: BlockSource> Filesystem for ViewFilesystem<S> {
    /// The loop device reads directly, and without this one request after the other: each waited for the store alone.
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // A kernel without it (before Linux 3.13) is slower, and nothing else.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(IMAGE).filter(|_| parent == INodeNo::ROOT && name == IMAGE_NAME) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _file: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if inode == IMAGE {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            reply.error(Errno::EISDIR);
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if inode != IMAGE {
            return reply.error(Errno::EISDIR);
        }
        let view = Arc::clone(&self.view);
        self.runtime.spawn(async move {
            match view.read(offset, size.into()).await {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _file: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if inode != IMAGE {
            return reply.error(Errno::EISDIR);
        }
        let (view, data) = (Arc::clone(&self.view), data.to_vec());
        self.runtime.spawn(async move {
            match view.write(offset, &data).await {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    /// The overlay dies with the view: there is nothing to make durable.
    fn fsync(&self, _request: &Request, _inode: INodeNo, _file: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _request: &Request, _inode: INodeNo, _file: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, _file: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (IMAGE, FileType::RegularFile, IMAGE_NAME),
        ];
        for (next, (inode, kind, name)) in (1_u64..).zip(entries) {
            if next > offset && reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
