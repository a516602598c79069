//! What was typed and what it means.
//!
//! [`file`] holds the words of the configuration file as they were typed, [`settings`] what they
//! mean, with every default. This crate promises that a mistake names file, line, key and what was
//! expected, that an unknown key is an error, and that a key whose feature is not built yet is
//! refused with that reason. It reads the configuration file and the provider table, nothing else:
//! no key, no store, no clock.

pub mod settings;

pub mod file;

pub mod target;

pub mod source;

pub mod schedule;

pub mod calendar;

pub mod compression;

pub mod manual;

pub mod units;

pub mod providers;

pub mod error;

mod layers;

mod lines;

pub use error::ConfigError;
pub use settings::Settings;
