//! The store client of the block path.

pub mod contract;

mod error;

mod target;

pub mod secret;

mod requests;

mod clock;

pub mod digest;

pub mod directory;

mod walk;

pub mod memory;

pub mod faulty;

pub use target::open;
