//! Retention: a list of dates, not counts.
//!
//! What both stores hold, the rule and `now` go in; out comes, for each copy, keep with its reasons
//! or drop with its reason, and for each date of the contract whether it is there. Both are judged
//! for each mechanism by itself, and a decision on one side looks at the other side only to keep
//! more. Nothing here deletes: a plan is printed, approved and applied elsewhere.
//!
//! What is forged or wrong can only make it keep more: the first good point of a date counts, so
//! that newer ones cannot push it out; points from the future and points whose time disagrees with
//! the store's count for nothing and stay.

pub mod copy;

pub mod rule;

pub mod facts;

pub mod reason;

pub mod window;

pub mod horizon;

mod side;

pub mod contract;

pub mod plan;
