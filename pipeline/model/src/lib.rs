//! Plain data that both paths and all tools speak.
//!
//! Ids, times, paths, and what crosses the pipe between `dualsync` and its two writers:
//! a [`job::Job`] goes in, [`event::Event`] lines come out. This crate promises that the same
//! bytes mean the same thing on both sides of a pipe. It deliberately does no I/O, no
//! cryptography and nothing asynchronous, and depends on serde and thiserror only, since it is
//! the one crate that both paths link.

pub mod time;

pub mod path;

pub mod id;

pub mod slice;

pub mod secret;

pub mod job;

pub mod keys;

pub mod fact;

pub mod event;

pub mod outcome;

/// Version of the job and event lines; a writer refuses any other.
pub const PROTOCOL: u32 = 1;
