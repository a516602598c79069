//! Waiting, as an argument: programs wait on tokio's clock, tests only note for how long.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to let time pass.
pub struct Pause(Box<dyn Fn(Duration) -> Waiting + Send + Sync>);

impl Pause {
    /// Really waits.
    pub fn real() -> Self {
        Self::new(|wait| Box::pin(tokio::time::sleep(wait)))
    }

    /// Calls `wait` instead.
    pub fn new(wait: impl Fn(Duration) -> Waiting + Send + Sync + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Ends when `wait` is over.
    pub(crate) async fn pass(&self, wait: Duration) {
        (self.0)(wait).await;
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}
