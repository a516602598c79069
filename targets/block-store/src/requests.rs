//! Counts requests; safe to share between tasks.

use std::sync::atomic::{AtomicU64, Ordering};

use dualsync_model::event::Requests;

use crate::contract::Operation;

/// A counter for each kind of request.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
    delete: AtomicU64,
}

impl Counter {
    /// One request more; a look at a setting costs as much as a look-up and is counted as one.
    pub(crate) fn add(&self, operation: Operation) {
        let counter = match operation {
            Operation::Put => &self.put,
            Operation::Get => &self.get,
            Operation::List => &self.list,
            Operation::Head | Operation::Setting => &self.head,
            Operation::Delete => &self.delete,
            Operation::Open => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    pub(crate) fn total(&self) -> Requests {
        Requests {
            put: self.put.load(Ordering::Relaxed),
            get: self.get.load(Ordering::Relaxed),
            list: self.list.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
        }
    }
}
