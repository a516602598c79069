//! The wire between opendal and a server: counts, times and understands what goes over it.
//!
//! opendal retries, pages and looks up inside one call, and hides the headers. So its HTTP
//! transport is wrapped: here each request is counted, the server's `Date` is heard, a request
//! and its answer get time by their size, and a refusal is read while its code is still there.
//! TLS is OpenSSL's, by reqwest; the other path uses another engine.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dualsync_model::time::Timestamp;
use futures::Stream;
use http::header::{CONTENT_RANGE, DATE, HeaderMap, RANGE};
use http::{Method, Request, Response, StatusCode};
use opendal::{Buffer, Error, ErrorKind as DalKind, HttpBody, HttpTransport, Result};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::time::{Sleep, sleep, timeout};

use crate::contract::{ErrorKind, Key, Operation};
use crate::refusal::{Refusal, network_kind};
use crate::tally::Tally;
use crate::time::ToldTime;

tokio::task_local! {
    /// What the answers to the requests of one call may have; unset, what any object may.
    pub(crate) static BYTES_MAX: u64;

    /// How long the object is of which one call reads a part, where an answer tells.
    pub(crate) static LENGTH: Cell<Option<u64>>;
}

/// Bytes a second that a line has at least; a slower one counts as broken.
const SLOWEST: u64 = 32 * 1024;

/// A host that takes longer to take a connection, looking up its name included, is out of reach.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest body of a refusal that is read, bytes.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

/// Time for a request with a body of `len` bytes: `base`, and what a slow line needs.
pub(crate) fn time_for(base: Duration, len: u64) -> Duration {
    base.saturating_add(Duration::from_secs(len / SLOWEST))
}

/// A transport that keeps the books of one store.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    transport: ReqwestTransport,
    tally: Arc<Tally>,
    time: Arc<ToldTime>,
    /// Longest silence, before an answer as within one.
    silence: Duration,
}

impl Wire {
    /// A wire that counts in `tally`, sets `time`, and waits through a `silence` that long.
    pub(crate) fn new(tally: Arc<Tally>, time: Arc<ToldTime>, silence: Duration) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_MAX).build()?;
        Ok(Self { transport: client.into(), tally, time, silence })
    }
}

impl HttpTransport for Wire {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        self.tally.count(operation(&request));
        let in_part = request.headers().contains_key(RANGE);
        let limit = time_for(self.silence, request.body().len() as u64);
        let response = match timeout(limit, self.transport.fetch(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(told_apart(error)),
            Err(_) => return Err(silence()),
        };
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        if let Some(now) = date.and_then(http_date) {
            self.time.set_by_store(now);
        }
        if in_part && response.status() == StatusCode::OK {
            // opendal would take the whole object for the part, and after a broken read add it to what it has.
            return Err(Refusal::of_kind(ErrorKind::Unsupported).into());
        }
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::PARTIAL_CONTENT {
            // Outside of such a call nobody asks.
            let _ = LENGTH.try_with(|length| length.set(full_length(&parts.headers)));
        }
        if !parts.status.is_client_error() && !parts.status.is_server_error() {
            let most = BYTES_MAX.try_with(|most| *most).unwrap_or(Key::OBJECT_BYTES_MAX);
            return Ok(Response::from_parts(parts, watched(body, most, self.silence)));
        }
        let text = watched(body, REFUSAL_BYTES_MAX, self.silence).to_buffer().await.unwrap_or_default();
        let refusal = Refusal::read(parts.status.as_u16(), &text.to_bytes());
        if opendal_understands(parts.status) && refusal.kind() != ErrorKind::MissingBucket {
            return Ok(Response::from_parts(parts, whole(text)));
        }
        Err(refusal.into())
    }
}

/// What a part of an object says of its whole length.
fn full_length(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.trim().parse().ok()
}

/// Answers that its services tell apart themselves, by what was asked.
fn opendal_understands(status: StatusCode) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::PRECONDITION_FAILED, StatusCode::RANGE_NOT_SATISFIABLE].contains(&status)
}

/// A body that was read and is handed on.
fn whole(bytes: Buffer) -> HttpBody {
    let length = bytes.len() as u64;
    HttpBody::new(futures::stream::iter([Ok(bytes)]), Some(length))
}

/// What a request is for, as S3 and WebDAV put it.
fn operation(request: &Request<Buffer>) -> Operation {
    let query = request.uri().query().unwrap_or_default();
    match *request.method() {
        Method::HEAD => Operation::Head,
        Method::DELETE => Operation::Delete,
        Method::POST if query == "delete" => Operation::Delete,
        Method::GET if ["list-type=", "prefix=", "versions"].iter().any(|word| query.contains(word)) => Operation::List,
        Method::GET => Operation::Get,
        ref other if other.as_str() == "PROPFIND" => Operation::List,
        _ => Operation::Put,
    }
}

/// An error without an answer. Unknown names and bad certificates do not pass by themselves, so
/// opendal, which takes both for temporary, is told not to try again.
fn told_apart(error: Error) -> Error {
    let kind = network_kind(&error);
    if kind.may_retry() { error.set_temporary() } else { error.set_permanent() }
}

fn silence() -> Error {
    Error::new(DalKind::Unexpected, "no answer within the time limit")
        .set_source(std::io::Error::from(std::io::ErrorKind::TimedOut))
        .set_temporary()
}

fn http_date(text: &str) -> Option<Timestamp> {
    let date = opendal::raw::Timestamp::parse_rfc2822(text).ok()?;
    Some(Timestamp::from_seconds(date.into_inner().as_second()))
}

/// `body`, which may neither pause too long nor grow beyond `most` bytes.
fn watched(body: HttpBody, most: u64, silence: Duration) -> HttpBody {
    body.map_inner(move |pieces| Box::new(Watched { pieces, left: most, silence, alarm: Box::pin(sleep(silence)) }))
}

struct Watched {
    pieces: Box<dyn Stream<Item = Result<Buffer>> + Send + Sync + Unpin>,
    left: u64,
    silence: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Stream for Watched {
    type Item = Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Buffer>>> {
        let Poll::Ready(piece) = Pin::new(&mut self.pieces).poll_next(context) else {
            ready!(self.alarm.as_mut().poll(context));
            return Poll::Ready(Some(Err(silence())));
        };
        let silence = self.silence;
        self.alarm.as_mut().reset(tokio::time::Instant::now() + silence);
        Poll::Ready(piece.map(|piece| {
            let piece = piece.map_err(told_apart)?;
            let left = self.left.checked_sub(piece.len() as u64);
            self.left = left.ok_or_else(|| Error::from(Refusal::of_kind(ErrorKind::TooLarge)))?;
            Ok(piece)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_their_method_and_query_say() {
        let check = |method: &str, uri: &str, expected| {
            let request = Request::builder().method(method).uri(uri).body(Buffer::new()).unwrap();
            assert_eq!(operation(&request), expected, "{method} {uri}");
        };
        check("PUT", "http://h/b/k", Operation::Put);
        check("GET", "http://h/b/k", Operation::Get);
        check("GET", "http://h/b?list-type=2&prefix=p", Operation::List);
        check("GET", "http://h/b?versions", Operation::List);
        check("GET", "http://h/b/k?versionId=7", Operation::Get);
        check("HEAD", "http://h/b/k", Operation::Head);
        check("DELETE", "http://h/b/k", Operation::Delete);
        check("POST", "http://h/b?delete", Operation::Delete);
        check("PROPFIND", "http://h/dav/", Operation::List);
    }

    #[test]
    fn a_date_header_is_understood() {
        let expected: Timestamp = "2026-11-20T02:00:00Z".parse().unwrap();
        assert_eq!(http_date("Fri, 20 Nov 2026 02:00:00 GMT"), Some(expected));
        assert_eq!(http_date("soon"), None);
    }

    #[test]
    fn large_bodies_have_more_time_than_the_ten_seconds_of_opendal() {
        let minute = Duration::from_mins(1);
        assert_eq!(time_for(minute, 0), minute);
        assert!(time_for(minute, 64 << 20) > Duration::from_mins(30));
    }

    #[tokio::test]
    async fn a_body_is_cut_off_beyond_its_bound() {
        let pieces = || futures::stream::iter([Ok(Buffer::from(vec![1; 6])), Ok(Buffer::from(vec![2; 6]))]);
        let minute = Duration::from_mins(1);
        assert_eq!(watched(HttpBody::new(pieces(), None), 12, minute).to_buffer().await.unwrap().len(), 12);
        let error = watched(HttpBody::new(pieces(), None), 11, minute).to_buffer().await.unwrap_err();
        assert_eq!(crate::dal::kind(&error), ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_falls_silent_is_given_up() {
        let begins = futures::stream::iter([Ok(Buffer::from(vec![1; 6]))]);
        let pieces = futures::StreamExt::chain(begins, futures::stream::pending());
        let error = watched(HttpBody::new(pieces, None), 12, Duration::from_millis(5)).to_buffer().await.unwrap_err();
        assert_eq!(crate::dal::kind(&error), ErrorKind::Timeout);
        assert!(error.is_temporary());
    }
}
