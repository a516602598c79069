//! The program `dualsync-block`.
fn main() {}
