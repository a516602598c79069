//! The file system inside a stored image, read without downloading the image.
//!
//! ```text
//! store ◀─ blocks on demand ─ CachedImage ◀─ Overlay ◀─ FUSE ◀─ loop device ◀─ ext4, xfs, btrfs ◀─ reader
//!          (this program)                                       or fuse2fs                        (a child)
//! ```
//!
//! This program shows the image as a file; a child of it, the reader ([`inside`]), mounts that file
//! read-only where nobody else sees it, walks it and prints what it found. Two processes, because a
//! program that reads a file system which it serves itself can never be killed: its threads wait
//! for each other inside the kernel. When either dies, the mounts, the loop device and the view
//! are gone with it.

mod cache;
mod filesystem;
pub mod inside;
mod overlay;
mod reader;
mod serve;
pub mod sort;
mod source;

pub use self::cache::{CachedImage, DamagedRange, REACH_BYTES_MAX, ReadError};
pub use self::filesystem::IMAGE_NAME;
pub use self::overlay::{OVERLAY_BYTES_MAX, Overlay, OverlayError};
pub use self::reader::{Reader, ReaderError, Seen, Setup};
pub use self::serve::{ServeError, Served, sweep};
pub use self::source::{Block, BlockSource, Damage, Unavailable};
