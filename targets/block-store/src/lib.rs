//! The store client of the block path.

pub mod contract;

mod error;

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

pub mod memory;

pub mod faulty;

mod clock;

mod requests;

pub mod pause;

pub mod digest;

pub use capability::probe;
pub use secret::resolve_secret;
pub use target::open;
