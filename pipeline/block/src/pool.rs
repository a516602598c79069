//! The fixed buffers that packs are made in: the largest part of the program's memory, and a hard limit.
//!
//! [`BufferPool::take`] waits until one is free, so that a slow store slows reading down instead of
//! filling memory. A buffer goes back when it is dropped, also from inside a request body.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::format::pack;

/// A few buffers of one pack each.
#[derive(Clone, Debug)]
pub struct BufferPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Mutex<Free>,
    returned: Condvar,
}

#[derive(Debug)]
struct Free {
    buffers: Vec<Vec<u8>>,
    /// Buffers that may still be made.
    unmade: usize,
}

impl BufferPool {
    /// A pool of at most `count` buffers, made when they are needed.
    pub fn new(count: usize) -> Self {
        let free = Free { buffers: Vec::new(), unmade: count };
        Self(Arc::new(Shared { free: Mutex::new(free), returned: Condvar::new() }))
    }

    /// An empty buffer; waits for one. Only for threads that may wait.
    pub fn take(&self) -> Buffer {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(mut bytes) = free.buffers.pop() {
                bytes.clear();
                return Buffer { bytes, pool: Arc::clone(&self.0) };
            }
            if free.unmade > 0 {
                free.unmade -= 1;
                return Buffer { bytes: Vec::with_capacity(pack::BYTES_MAX), pool: Arc::clone(&self.0) };
            }
            free = self.0.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A buffer of the pool; it goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Shared>,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.buffers.push(std::mem::take(&mut self.bytes));
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_buffers_than_allowed() {
        let pool = BufferPool::new(2);
        let one = pool.take();
        let mut two = pool.take();
        two.push(7);
        let waiter = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().is_empty()
        });
        drop(bytes::Bytes::from_owner(two));
        assert!(waiter.join().unwrap(), "a buffer that comes back is empty");
        drop(one);
        let free = pool.0.free.lock().unwrap();
        assert_eq!((free.buffers.len(), free.unmade), (2, 0));
    }
}
