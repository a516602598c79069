//! The program as a whole, on directory targets and on stores that fail, checked with stock tools.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod evidence;
mod faults;
mod golden;
mod keys;
mod locks;
mod memory;
mod mended;
mod nights;
mod one_file;
mod overlap;
mod prune;
mod recover;
mod reuse;
mod shadowed;
mod site;
mod stepping;
mod stock;
mod undo;
mod versions;
