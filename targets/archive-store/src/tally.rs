//! What a store was asked for so far.

use std::sync::{Mutex, PoisonError};

use dualsync_model::event::Requests;

use crate::contract::Operation;

/// Running totals, shared by all tasks that use a store.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Requests>);

impl Tally {
    /// Counts one request.
    pub(crate) fn count(&self, operation: Operation) {
        let mut total = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match operation {
            Operation::Open => {}
            Operation::Put => total.put += 1,
            Operation::Get => total.get += 1,
            Operation::Head => total.head += 1,
            Operation::List => total.list += 1,
            Operation::Delete => total.delete += 1,
        }
    }

    /// The totals.
    pub(crate) fn total(&self) -> Requests {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
