//! The stage for end-to-end tests: a site with real programs, real stores and real file systems.
//!
//! Nothing of dualsync is linked but the protocol's data; the programs are started as people start
//! them, from the folder that `DUALSYNC_BIN_DIR` names (built one package at a time by
//! `scripts/test`). A test that needs something this machine lacks says so and passes, unless
//! `DUALSYNC_NO_SKIP=1`, which CI sets: then it fails.
//!
//! The helpers panic: this crate is compiled for tests only.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod needs;

pub mod programs;

pub mod image;

pub mod bucket;

pub mod objects;

pub mod clockfile;

pub mod garage;

pub mod rgw;

pub mod tree;

pub mod site;

pub mod calendar;

pub mod weather;

pub mod kept;

pub mod qr;

pub mod lost;

pub mod nights;
