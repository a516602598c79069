//! The command as people and scripts meet it: real processes, fake writers.
//!
//! The fakes show what the real programs cannot be made to show (death, silence, garbage) and let each
//! exit code and each JSON line be pinned; what needs real copies is tested in `integration/e2e`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail; helpers of tests are not marked as such")]

mod site;

mod usage;

mod config;

mod run;

mod manual;

mod prune;

mod delete;

mod points;

mod verify;

mod evidence;

mod rotation;

mod status;

mod keys;

mod restore;

mod setup;

mod stop;

mod semantics;
