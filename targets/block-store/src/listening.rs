//! Hears the time that a server tells in the `Date` header of each answer (RFC 9110, 6.6.1).

use std::sync::Arc;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use dualsync_model::time::Timestamp;

use crate::clock::Clock;

/// The clock that a [`Listener`] sets and a store reads.
#[derive(Clone, Debug)]
pub(crate) struct Told(Arc<Clock>);

impl Told {
    /// Not told yet: the job's time.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Arc::new(Clock::new(now)))
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0
    }
}

/// Sits in the SDK and sets the clock. It changes no request and no answer.
#[derive(Debug)]
pub(crate) struct Listener(Told);

impl Listener {
    /// A listener that tells `told`.
    pub(crate) const fn new(told: Told) -> Self {
        Self(told)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Listener {
    fn name(&self) -> &'static str {
        "store time"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(time) = context.response().headers().get("date").and_then(http_date) {
            self.0.clock().hear(time);
        }
        Ok(())
    }
}

fn http_date(text: &str) -> Option<Timestamp> {
    DateTime::from_str(text, DateTimeFormat::HttpDate).ok().map(|time| Timestamp::from_seconds(time.secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_a_time_and_nonsense_is_none() {
        let expected = "2026-11-20T02:00:00Z".parse().unwrap();
        assert_eq!(http_date("Fri, 20 Nov 2026 02:00:00 GMT"), Some(expected));
        assert_eq!(http_date("yesterday"), None);
    }
}
