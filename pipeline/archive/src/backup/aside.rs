//! Runs an iterator on a thread of its own, a little ahead of who takes from it.
//!
//! The walk asks the kernel and the parent's catalog is unpacked and parsed: side by side, a night in which nothing changed
//! takes little more than the longer of the two. What is ahead is bounded: an entry of the walk holds its folder open.

use std::sync::mpsc::sync_channel;

/// Items handed over at once: waking a thread costs more than one of them.
const BATCH: usize = 32;
/// Batches that wait; one more is being filled, and one being taken.
const WAITING: usize = 2;

/// The same items in the same order. What is not taken any more when this is dropped is not asked for; a panic ends the stream
/// with one, too.
pub fn aside<T: Send + 'static>(source: impl Iterator<Item = T> + Send + 'static) -> impl Iterator<Item = T> {
    let (sender, receiver) = sync_channel(WAITING);
    let thread = tokio::task::spawn_blocking(move || {
        let mut source = source;
        loop {
            let batch: Vec<T> = source.by_ref().take(BATCH).collect();
            let is_last = batch.len() < BATCH;
            if sender.send(batch).is_err() || is_last {
                return;
            }
        }
    });
    let mut ended = Some(thread);
    std::iter::from_fn(move || {
        let batch = receiver.recv().ok();
        if batch.is_none() {
            let thread = ended.take()?;
            let outcome = tokio::runtime::Handle::current().block_on(thread);
            assert!(outcome.is_ok(), "a thread of the backup ended unexpectedly");
        }
        batch
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn on_a_thread<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        tokio::task::spawn_blocking(work).await
    }

    #[tokio::test]
    async fn all_items_come_in_their_order() {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 100 * BATCH] {
            let taken = on_a_thread(move || aside(0..count).collect::<Vec<_>>()).await.unwrap();
            assert_eq!(taken, (0..count).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn little_is_ahead_and_nothing_is_asked_for_once_nobody_takes() {
        let (sender, asked) = std::sync::mpsc::channel();
        let endless = (0_usize..).inspect(move |number| sender.send(*number).unwrap());
        assert_eq!(on_a_thread(move || aside(endless).take(1).count()).await.unwrap(), 1);
        // The channel ends when the iterator is dropped.
        let asked = asked.iter().count();
        assert!(asked <= (WAITING + 3) * BATCH, "{asked}");
    }

    #[tokio::test]
    async fn a_panic_is_no_end() {
        let broken = (0..10).inspect(|number| assert!(*number < 5));
        assert!(on_a_thread(move || aside(broken).count()).await.is_err());
    }
}
