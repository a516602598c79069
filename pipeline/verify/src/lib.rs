//! Do both copies say the same?
//!
//! Takes what the two programs print about the two copies of one point, merges the two ordered
//! streams, and makes a [`report::Report`]: every difference, the side that is wrong where that is
//! known, and what only one side could witness. Promises: memory is bounded whatever the size of
//! the point; a stream that ends early, out of order or with nonsense never counts as agreement;
//! each figure comes from what was read back, none from a cache. It deliberately links neither
//! path, does no I/O beyond pulling from the iterators it is given, knows no clock, and prints
//! nothing.

pub mod side;

pub mod pair;

pub mod stream;

pub mod merge;

pub mod compare;

mod links;

pub mod difference;

mod judge;

pub mod explain;

pub mod exclude;

pub mod witness;

pub mod verdict;

pub mod examine;

pub mod chain;

pub mod report;

#[cfg(test)]
mod samples;
