//! The store client of the block path: a bucket through Amazon's SDK, or a directory.
//!
//! [`open`] turns a target of the job into a [`contract::Store`]: [`s3::S3Store`] or
//! [`directory::DirectoryStore`], inside [`bandwidth::LimitedStore`] where there is a limit, inside
//! [`retry::RetryingStore`]. [`probe`] finds out what the place really does. The crate shares no
//! code with the archive path's client, so that a fault in one cannot be a fault in both.
//!
//! # Why a put is safe
//!
//! The one promise is: after `Ok` the object is there, whole and durable; after `Err` it is whole
//! or absent. What could break it, and what stands in the way:
//!
//! - **Power cut.** A directory gets the bytes under a temporary name, syncs the file, renames it,
//!   syncs the folder, and each new folder is synced in the one above before anything is put in.
//!   A cut before the rename leaves a `.tmp-` file that no listing shows. A bucket gets each object
//!   in one request, and answers when it has it.
//! - **Full disk.** Space runs out while the temporary file is written or synced: it is removed, the
//!   error is [`contract::ErrorKind::Full`], and no object has changed.
//! - **Lost answer.** A request may succeed and its answer never arrive. The retrying store looks
//!   first: the object with these bytes is success, other bytes are an error, none is a second try.
//!   The second try sends the very same bytes, so that even two arrivals are one object.
//! - **Two writers.** Keys name their content or carry random bytes, so two writers of one key have
//!   the same bytes. A directory still renames without replacing, and compares when the name is taken.
//! - **Bytes changed on the way.** The SHA-256 travels with the body; servers that check it refuse a
//!   wrong one, [`probe`] finds out which do, and the caller reads back where they do not.
//!
//! What a put does not promise: that a bucket refuses to replace an object. No caller needs it.

pub mod contract;

mod error;

pub mod versions;

mod target;

pub mod capability;

pub mod secret;

pub mod credentials;

pub mod retry;

pub mod bandwidth;

pub mod s3;

mod classify;

mod listening;

pub mod directory;

mod walk;

mod leftovers;

pub mod memory;

pub mod faulty;

mod clock;

mod requests;

pub mod pause;

pub mod digest;

pub use capability::probe;
pub use secret::resolve_secret;
pub use target::open;
