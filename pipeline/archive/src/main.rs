//! The program `dualsync-archive`.
fn main() {}
