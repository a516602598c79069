//! The store client of the archive path.

pub mod contract;

mod error;

mod open;

mod probe;

pub mod secret;

mod credentials;

pub mod service;

pub mod budget;

mod wire;

mod refusal;

mod dal;

pub mod directory;

pub mod memory;

pub mod faulty;

mod tally;

mod time;

pub mod digest;

pub use open::open;
pub use probe::probe;
pub use secret::resolve_secret;
