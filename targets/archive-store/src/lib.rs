//! The store client of the archive path.

pub mod contract;

mod error;

mod dal;

mod tally;

mod time;

pub mod digest;

pub mod directory;

pub mod memory;

pub mod faulty;

pub mod secret;

mod open;

pub use open::open;
