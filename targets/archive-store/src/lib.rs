//! The store client of the archive path: opendal with S3 and directories, and other services as features.
//!
//! A path calls [`open`] with the target of its job and gets a [`contract::Store`]. Behind it are
//! [`service::ServiceStore`] or [`directory::DirectoryStore`], and [`budget::BudgetedStore`] before them
//! where the job has a limit. [`probe`] shows what a place does as opposed to what it says. Not one
//! line is shared with the block path's client: what is wrong here is right there, or wrong differently.
//!
//! # How a put survives
//!
//! An object is a sealed buffer that goes out in one call. Of its put, this holds:
//!
//! | what happens | what is then true, and why |
//! |---|---|
//! | power cut, directory | before the rename there is only an `.unfinished-` file, which is no key; after it file, folder and every new folder above are synced |
//! | power cut, bucket | one request is one object: the server has it or has not |
//! | disk full | the unfinished file is removed, nothing else was touched; the error says `full` and is not retried |
//! | answer lost | the object is looked for: same bytes, success; other bytes, an error; absent, the same buffer is sent again |
//! | two writers | a directory renames without replacing, and compares; in a bucket keys are random or name their content, so both wrote the same |
//! | bytes change before they leave | the SHA-256 is computed again over what is sent, and must fit |
//! | bytes change on the way | S3 is given the Content-MD5, and what it says has arrived is compared (`Receipt`); for other services the length is looked up; where nothing is proved the path reads back; in all cases the reader's digests have the last word |
//!
//! opendal's `Writer` is not used: it can be written to after an error, and then stores a shortened
//! object without saying so. opendal's retry layer is used for all but writes.

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

mod locks;

mod dal;

pub mod directory;

mod listing;

pub mod memory;

pub mod faulty;

mod tally;

mod time;

pub mod digest;

pub use open::open;
pub use probe::{probe, probe_lock};
pub use secret::resolve_secret;
