//! Path one: block snapshots.

pub mod device;

pub mod ext4;
