//! Gives big buffers back to the system when they are freed.
//!
//! glibc raises its limit for separate mappings each time a big buffer is freed, up to 32 MiB; from then on
//! volumes and frames come from heaps of which little is ever returned. Reading back 300,000 files held
//! 353 MiB that way, and 100 MiB with a fixed limit. The program keeps under 256 MiB, so it fixes
//! the limit. Other C libraries map big buffers separately anyway.
#![expect(unsafe_code, reason = "mallopt(3) has no safe wrapper")]

/// Buffers of at least this size are mapped separately.
#[cfg(target_env = "gnu")]
const SEPARATE_BYTES_MIN: std::ffi::c_int = 256 << 10;

/// `M_MMAP_THRESHOLD` of `malloc.h`.
#[cfg(target_env = "gnu")]
const M_MMAP_THRESHOLD: std::ffi::c_int = -3;

/// `M_TRIM_THRESHOLD` of `malloc.h`.
#[cfg(target_env = "gnu")]
const M_TRIM_THRESHOLD: std::ffi::c_int = -1;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
}

/// Fixes the limits for this process; `false` when the C library refuses, which costs memory only.
pub fn return_big_buffers() -> bool {
    #[cfg(target_env = "gnu")]
    {
        [M_MMAP_THRESHOLD, M_TRIM_THRESHOLD].into_iter().all(|parameter| {
            // SAFETY: mallopt(3) takes two integers by value, and sets a parameter of the allocator under its lock.
            unsafe { mallopt(parameter, SEPARATE_BYTES_MIN) == 1 }
        })
    }
    #[cfg(not(target_env = "gnu"))]
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_takes_the_limits() {
        assert!(return_big_buffers());
    }
}
