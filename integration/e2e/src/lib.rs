//! End-to-end tests: real programs, real stores, real file systems.
