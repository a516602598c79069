//! Retention: a list of dates, not counts.

pub mod rule;
