//! Path one: block snapshots.
//!
//! A volume is cut into blocks of fixed size; new ones are compressed, sealed and packed, a map says
//! which block is stored where, and a manifest, written last, makes the copy exist. The modules
//! stand in reading order and use only what stands below them:
//!
//! 1. [`program`] runs one job; [`trouble`] sorts what went wrong.
//! 2. The verbs: [`mod@init`], [`rotate`], [`admit`], [`mod@backup`], [`mod@restore`], [`mod@facts`] and [`files`] through [`view`],
//!    [`mod@prune`], [`evidence`], [`mod@check`], [`mod@list`], [`mod@probe`].
//! 3. What is stored, read back: [`reading`], [`image`], [`records`], [`history`], [`heartbeat`], [`points`], [`marks`], [`repository`], [`unlock`], [`slot`], [`wrap`], [`keyfile`], [`secret`].
//! 4. The objects: [`manifest`], [`checkpoint`], [`maps`], [`pagetable`], [`page`], [`pack`], [`document`].
//! 5. The bytes: [`seal`], [`keys`], [`codec`], [`digest`], [`format`](mod@format).
//!
//! Beside them [`device`] and [`ext4`] read the source, and [`events`] owns standard output, [`moment`] measures time. The
//! archive path is another program; nothing here may be shared with it but `dualsync-model`.

pub mod program;

pub mod init;

pub mod rotate;

pub mod admit;

pub mod backup;

pub mod restore;

pub mod tree;

pub mod facts;

pub mod files;

pub mod view;

pub mod prune;

pub mod evidence;

pub mod check;

pub mod list;

pub mod probe;

pub mod trouble;

pub mod reading;

pub mod image;

pub mod records;

pub mod history;

pub mod heartbeat;

pub mod locking;

pub mod locked;

pub mod points;

pub mod marks;

pub mod maps;

pub mod repository;

pub mod unlock;

pub mod slot;

pub mod wrap;

pub mod keyfile;

pub mod secret;

pub mod cache;

pub mod fetch;

pub mod shadow;

pub mod stack;

pub mod checkpoint;

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

pub mod filesystem;

pub mod device;

pub mod ext4;

pub mod pool;

pub mod moment;

pub mod events;
