//! Do both copies say the same: merges two ordered streams of facts into a verdict.
