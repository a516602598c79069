//! Several requests at once, never more than a fixed number.
//!
//! Requests of one item keep their order, since each item is one future; items have none among each other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::prune::error::PruneError;

/// Requests under way at the same time: a deletion is nearly all waiting, and stores slow down whoever sends too many.
pub const AT_ONCE: usize = 8;

/// So many items become futures at a time, which cost more memory than what they are made of.
pub const PORTION: usize = 1024;

/// What is done about one item.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, PruneError>> + Send + 'a>>;

/// Ends when every one of `works` has, and shows each result to `done`; with the first error it ends at once, and what is under
/// way is given up.
pub async fn at_once<T>(works: Vec<Work<'_, T>>, mut done: impl FnMut(T) + Send) -> Result<(), PruneError> {
    let mut waiting = works.into_iter();
    let mut under_way: Vec<Work<'_, T>> = Vec::new();
    loop {
        under_way.extend(waiting.by_ref().take(AT_ONCE - under_way.len()));
        if under_way.is_empty() {
            return Ok(());
        }
        let ended = poll_fn(|context| {
            for at in 0..under_way.len() {
                if let Poll::Ready(ended) = under_way[at].as_mut().poll(context) {
                    drop(under_way.remove(at));
                    return Poll::Ready(ended);
                }
            }
            Poll::Pending
        });
        done(ended.await?);
    }
}
