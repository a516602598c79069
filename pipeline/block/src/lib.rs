//! Path one: block snapshots.

pub mod files;

pub mod facts;

pub mod view;

pub mod device;

pub mod ext4;

pub mod image;

pub mod points;

pub mod maps;

pub mod repository;

pub mod cache;

pub mod fetch;

pub mod manifest;

pub mod pagetable;

pub mod page;

pub mod pack;

pub mod document;

pub mod names;

pub mod seal;

pub mod keys;

pub mod codec;

pub mod digest;

pub mod cursor;

pub mod format;
