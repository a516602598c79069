//! Puts a view up: a FUSE mount that only this program and its reader can see.
//!
//! As root the mount is attached nowhere: it lives in descriptors (fsopen(2), fsmount(2)) and ends
//! with the last of them, so `kill -9` leaves nothing. Otherwise `fusermount3` mounts it on a
//! private folder below the job's state; what a killed program left there is taken down by the
//! next one ([`sweep`]).
//!
//! The program that serves must never read through its own view: killed in the middle, it would
//! wait for itself. It opens descriptors with `O_PATH` at most; reading is the work of a child.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use tokio::runtime::Handle;

use super::filesystem::ViewFilesystem;
use super::overlay::Overlay;
use super::source::BlockSource;

/// Why a view could not be put up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A private folder could not be made.
    #[error("cannot use the folder '{folder}'")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// FUSE is not there or not allowed.
    #[error("cannot show the stored image through FUSE")]
    Fuse {
        /// What the system said.
        source: io::Error,
    },
}

/// A view that is up. Dropping it takes it down once no reader holds it any more.
#[derive(Debug)]
pub struct Served {
    root: Option<OwnedFd>,
    session: Option<BackgroundSession>,
    place: Place,
}

/// The private folder of one view, removed with it.
#[derive(Debug)]
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        take_down(&self.0);
    }
}

impl Served {
    /// Shows `view`, with folders below `state`; requests are answered on `runtime`.
    pub fn start<S: BlockSource>(view: Arc<Overlay<S>>, runtime: Handle, state: &Path) -> Result<Self, ServeError> {
        let place = make_place(state)?;
        let filesystem = ViewFilesystem::new(view, runtime);
        let fuse = |source: io::Error| ServeError::Fuse { source };
        if rustix::process::geteuid().is_root() {
            let (device, root) = mount_nowhere().map_err(fuse)?;
            let session = Session::from_fd(filesystem, device, SessionACL::Owner, Config::default()).map_err(fuse)?;
            let session = session.spawn().map_err(fuse)?;
            return Ok(Self { root: Some(root), session: Some(session), place });
        }
        let at = place.0.join("view");
        let mut options = Config::default();
        options.mount_options = vec![
            MountOption::FSName("dualsync".to_owned()),
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::NoExec,
        ];
        let session = Session::new(filesystem, &at, &options).map_err(fuse)?.spawn().map_err(fuse)?;
        let root = openat(CWD, &at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(|errno| fuse(errno.into()))?;
        Ok(Self { root: Some(root), session: Some(session), place })
    }

    /// The root folder of the view, to be given to the reader.
    pub fn root(&self) -> io::Result<OwnedFd> {
        match &self.root {
            Some(root) => root.try_clone(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// An empty private folder where the reader may mount.
    pub fn mount_point(&self) -> PathBuf {
        self.place.0.join("tree")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The descriptor first: a mount that is in use is not taken down.
        self.root = None;
        if let Some(session) = self.session.take() {
            // Its thread ends when the kernel lets go of the mount. It is not waited for: a reader
            // that was just killed may hold it a moment longer.
            drop(session);
        }
    }
}

/// Mounts FUSE without a place in any namespace; returns the server's and the user's end.
fn mount_nowhere() -> io::Result<(OwnedFd, OwnedFd)> {
    let device = OwnedFd::from(File::options().read(true).write(true).open("/dev/fuse")?);
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "dualsync")?;
    fsconfig_set_string(&context, "fd", device.as_raw_fd().to_string())?;
    fsconfig_set_string(&context, "rootmode", "40000")?;
    fsconfig_set_string(&context, "user_id", rustix::process::geteuid().as_raw().to_string())?;
    fsconfig_set_string(&context, "group_id", rustix::process::getegid().as_raw().to_string())?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok((device, root))
}

/// Folder of views below the state of a job.
fn views(state: &Path) -> PathBuf {
    state.join("views")
}

fn make_place(state: &Path) -> Result<Place, ServeError> {
    let mut random = [0; 8];
    let failed = |folder: &Path| {
        let folder = folder.to_owned();
        |source| ServeError::Folder { folder, source }
    };
    let views = views(state);
    getrandom::fill(&mut random).map_err(|error| failed(&views)(io::Error::other(error)))?;
    // Named by process, so that a sweep knows whose it is.
    let place = views.join(format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(random)));
    for folder in [place.join("view"), place.join("tree")] {
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
    }
    Ok(Place(place))
}

/// Takes down and removes what programs left behind that are no longer running.
pub fn sweep(state: &Path) {
    let Ok(entries) = fs::read_dir(views(state)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split_once('-')).and_then(|(id, _)| id.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            take_down(&entry.path());
        }
    }
}

fn take_down(place: &Path) {
    for folder in [place.join("tree"), place.join("view")] {
        if fs::remove_dir(&folder).is_err() {
            let mut unmount = Command::new("fusermount3");
            unmount.arg("-u").arg("-z").arg("-q").arg(&folder);
            let _ = unmount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            let _ = fs::remove_dir(&folder);
        }
    }
    let _ = fs::remove_dir(place);
}
