//! Path one: block snapshots.

pub mod device;

pub mod ext4;

pub mod manifest;

pub mod pagetable;

pub mod names;

pub mod document;

pub mod page;

pub mod pack;

pub mod seal;

pub mod keys;

pub mod codec;

pub mod digest;

pub mod cursor;

pub mod format;
