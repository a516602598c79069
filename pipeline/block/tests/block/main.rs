//! The block path from the outside: plain nights, faults, damage, the real program, and old repositories.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "../machine/mod.rs"]
mod machine;

mod support;

mod walk;

mod nights;

mod rotate;

mod slots;

mod prune;

mod undo;

mod versions;

mod locks;

mod shadowed;

mod stepping;

mod refusals;

mod evidence;

mod churn;

mod faults;

mod damage;

mod program;

mod golden;
