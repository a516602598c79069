//! Decisions without effects: retention, residency, schedule.
