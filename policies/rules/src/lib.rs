//! Decisions without effects: facts, a rule and `now` go in, decisions with reasons come out.
//!
//! This crate promises that the same input gives the same answer, so that decisions can be pinned
//! by files a person reads. It reads no clock, no network, no disk and no time zone database:
//! whoever calls it brings the time, the scheduled slots and the table of providers.

pub mod mechanism;

pub mod schedule;

pub mod retention;

pub mod country;

pub mod endpoint;

pub mod providers;

pub mod residency;
