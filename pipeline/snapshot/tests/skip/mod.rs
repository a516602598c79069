//! How a test says that this host cannot run it.

/// Prints the reason and gives `None`; with `DUALSYNC_NO_SKIP=1` that is a failure.
pub fn skip<T>(reason: &str) -> Option<T> {
    assert!(std::env::var_os("DUALSYNC_NO_SKIP").is_none_or(|value| value != "1"), "must not be skipped: {reason}");
    println!("skipped: {reason}");
    None
}
