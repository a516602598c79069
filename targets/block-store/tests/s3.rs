//! The bucket store: on a real server where there is one, and against prepared answers for what
//! a real server cannot be made to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod support {
    pub mod canned;
    pub mod garage;
    pub mod port;
}

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, Store, StoreError};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::pause::Pause;
use dualsync_block_store::probe;
use dualsync_block_store::retry::{Patience, RetryingStore};
use dualsync_block_store::s3::{Bucket, Limits, S3Store};
use dualsync_model::event::CapabilityState;
use dualsync_model::time::Timestamp;
use support::canned::{Canned, answer, refusal};
use support::garage::{BUCKET, Garage, REGION};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn store(endpoint: &str, key: &str, secret: &str, bucket: &str) -> S3Store {
    let credentials = Credentials::new(key, secret, None, None, "test");
    S3Store::open(Bucket { endpoint, region: REGION, bucket, prefix: "web-01" }, credentials, NOW).unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn put_error(store: &S3Store) -> StoreError {
    let body = Bytes::from_static(b"body");
    store.put(&key("k"), body.clone(), sha256(&body)).await.unwrap_err()
}

#[tokio::test]
async fn each_refusal_of_a_server_has_its_kind_and_its_sentence() {
    for (status, code, kind, sentence) in [
        ("403 Forbidden", "InvalidAccessKeyId", ErrorKind::BadCredentials, "does not accept the access key"),
        ("403 Forbidden", "SignatureDoesNotMatch", ErrorKind::BadCredentials, "does not accept the access key"),
        ("403 Forbidden", "AccessDenied", ErrorKind::Denied, "may not do that"),
        ("403 Forbidden", "RequestTimeTooSkewed", ErrorKind::ClockSkew, "clock of this host"),
        ("404 Not Found", "NoSuchBucket", ErrorKind::MissingBucket, "bucket or directory does not exist"),
        ("400 Bad Request", "BadDigest", ErrorKind::Checksum, "do not fit their digest"),
        ("503 Slow Down", "SlowDown", ErrorKind::Throttled, "slow down"),
        ("500 Internal Server Error", "InternalError", ErrorKind::Unavailable, "cannot be reached or failed"),
        ("507 Insufficient Storage", "InsufficientStorage", ErrorKind::Full, "no space left"),
    ] {
        let server = Canned::start(vec![refusal(status, code)]);
        let error = put_error(&store(&server.endpoint, "AKIA", "secret", "b")).await;
        assert_eq!(error.kind(), kind, "{code}");
        let text = error.to_string();
        assert!(text.starts_with("cannot write 'k' in bucket b/web-01 at http://127.0.0.1:"), "{text}");
        assert!(text.contains(sentence) && !error.hint().is_empty(), "{text}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(code), "{cause}");
        assert_eq!(server.requests().len(), 1, "the SDK does not retry behind our back");
    }
}

#[tokio::test]
async fn a_put_is_one_request_with_its_digest_and_an_unsigned_payload() {
    let server = Canned::start(vec![answer("200 OK", "Date: Fri, 20 Nov 2026 02:00:00 GMT\r\n", "")]);
    let store = store(&server.endpoint, "AKIA", "secret", "b");
    assert!(!store.has_clock());
    store.put(&key("packs/aa"), Bytes::from_static(b"abc"), sha256(b"abc")).await.unwrap();
    let [request] = &server.requests()[..] else { panic!("one request") };
    assert!(request.line.starts_with("PUT /b/web-01/packs/aa"), "{}", request.line);
    assert_eq!(request.body, b"abc");
    let has = |wanted: &str| request.headers.iter().any(|header| header.eq_ignore_ascii_case(wanted));
    assert!(has("x-amz-checksum-sha256: ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="), "{:?}", request.headers);
    assert!(has("x-amz-content-sha256: UNSIGNED-PAYLOAD"), "{:?}", request.headers);
    assert!(store.has_clock());
    let told: Timestamp = "2026-11-20T02:00:00Z".parse().unwrap();
    assert!((0..60).contains(&store.now().seconds_since(told)));
    assert_eq!((store.requests().put, store.requests().total()), (1, 1));
}

#[tokio::test]
async fn an_unknown_host_is_told_from_a_closed_port() {
    let error = put_error(&store("https://nonexistent.invalid", "AKIA", "secret", "b")).await;
    assert_eq!(error.kind(), ErrorKind::UnknownHost, "{error:?}");
    assert!(!error.may_retry());
    let closed = format!("http://127.0.0.1:{}", support::port::free());
    let error = put_error(&store(&closed, "AKIA", "secret", "b")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.may_retry());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, private) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .args([&private, &"-out".into(), &cert])
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl req: {}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl")
        .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"])
        .args([&cert, &"-key".into(), &private])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned())).unwrap();
    let error = put_error(&store(&format!("https://localhost:{port}"), "AKIA", "secret", "b")).await;
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(error.kind(), ErrorKind::BadCertificate, "{error:?}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_a_broken_connection_and_not_a_short_object() {
    let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nonly this".to_owned();
    let server = Canned::start(vec![short]);
    let error = store(&server.endpoint, "AKIA", "secret", "b").get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_object_beyond_all_bounds_is_not_read_into_memory() {
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n".to_owned();
    let server = Canned::start(vec![endless]);
    let error = store(&server.endpoint, "AKIA", "secret", "b").get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_whole_object_in_the_place_of_a_part_is_not_taken_for_it() {
    let server = Canned::start(vec![answer("200 OK", "", "0123456789")]);
    let error = store(&server.endpoint, "AKIA", "secret", "b").get_range(&key("k"), 2, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_longer_than_the_limit() {
    // The kernel accepts the connection; nobody ever answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap());
    let limits = Limits { base: Duration::from_millis(20), ..Limits::default() };
    let error = put_error(&store(&endpoint, "AKIA", "secret", "b").with_limits(limits)).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_retry() && error.kind().is_ambiguous());
}

fn page(keys: &[&str], next: Option<&str>) -> String {
    let object = |key: &&str| {
        format!(
            "<Contents><Key>web-01/{key}</Key><LastModified>2026-11-20T02:00:00.000Z</LastModified><Size>3</Size></Contents>"
        )
    };
    let objects: String = keys.iter().map(object).collect();
    let token = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>")).unwrap_or_default();
    let more = next.is_some();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name><IsTruncated>{more}</IsTruncated>{token}{objects}</ListBucketResult>"
    );
    answer("200 OK", "Content-Type: application/xml\r\n", &body)
}

#[tokio::test]
async fn a_listing_goes_over_all_pages_and_counts_each() {
    let server = Canned::start(vec![page(&["p/b", "p/a"], Some("t1")), page(&["p/d", "p//x", "p/c"], None)]);
    let store = store(&server.endpoint, "AKIA", "secret", "b");
    let found = store.list("p/", Some("p/a")).await.unwrap();
    assert_eq!(found.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["p/b", "p/c", "p/d"]);
    assert!(found.iter().all(|info| info.size == 3 && info.modified.to_string() == "2026-11-20T02:00:00Z"));
    assert_eq!(store.requests().list, 2);
    let [first, second] = &server.requests()[..] else { panic!("two requests") };
    assert!(
        first.line.contains("start-after=web-01%2Fp%2Fa") && !first.line.contains("continuation"),
        "{}",
        first.line
    );
    assert!(second.line.contains("continuation-token=t1"), "{}", second.line);
}

#[tokio::test]
async fn a_server_that_sends_the_same_page_for_ever_is_an_error() {
    let server = Canned::start(vec![page(&["p/a"], Some("t1"))]);
    let store = store(&server.endpoint, "AKIA", "secret", "b");
    assert_eq!(store.list("p/", None).await.unwrap_err().kind(), ErrorKind::Other);
}

#[tokio::test]
async fn a_real_server_tells_wrong_keys_secrets_and_buckets_apart() {
    let Some(garage) = Garage::start() else { return };
    let (id, secret) = (&garage.access_key, &garage.secret_key);
    let check = async |store: S3Store, expected| {
        let error = put_error(&store).await;
        assert_eq!(error.kind(), expected, "{error:?}");
    };
    check(store(&garage.endpoint, "GK000000000000000000000000", secret, BUCKET), ErrorKind::BadCredentials).await;
    check(store(&garage.endpoint, id, "0000", BUCKET), ErrorKind::BadCredentials).await;
    check(store(&garage.endpoint, id, secret, "no-such-bucket"), ErrorKind::MissingBucket).await;
    let credentials = Credentials::new(id, secret, None, None, "test");
    let place = Bucket { endpoint: &garage.endpoint, region: "elsewhere", bucket: BUCKET, prefix: "" };
    check(S3Store::open(place, credentials, NOW).unwrap(), ErrorKind::Misconfigured).await;
}

#[tokio::test]
async fn a_real_server_takes_a_pack_in_one_request() {
    let Some(garage) = Garage::start() else { return };
    let store = store(&garage.endpoint, &garage.access_key, &garage.secret_key, BUCKET);
    let pack: Bytes = (0..9_000_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    store.put(&key("packs/ab/pack"), pack.clone(), sha256(&pack)).await.unwrap();
    assert_eq!(store.get(&key("packs/ab/pack")).await.unwrap(), pack);
    assert_eq!(store.get_range(&key("packs/ab/pack"), 30 << 20, 4096).await.unwrap(), pack[30 << 20..][..4096]);
    assert_eq!(store.requests().total(), 3);
}

#[tokio::test]
async fn a_real_server_is_probed_and_left_clean() {
    let Some(garage) = Garage::start() else { return };
    let store = store(&garage.endpoint, &garage.access_key, &garage.secret_key, BUCKET);
    let seen = probe(&store, NOW).await.unwrap();
    let state = |name: &str| seen.iter().find(|capability| capability.name == name).unwrap().state;
    assert_eq!(state("round_trip"), CapabilityState::Enforced, "{seen:?}");
    assert_eq!(state("checksum"), CapabilityState::Enforced, "{seen:?}");
    assert_ne!(state("conditional_put"), CapabilityState::Failed, "{seen:?}");
    assert_eq!(state("versioning"), CapabilityState::Absent, "{seen:?}");
    assert_eq!(state("object_lock"), CapabilityState::Absent, "{seen:?}");
    // The job of this test lives in another year than the server.
    assert_eq!(state("clock"), CapabilityState::Failed, "{seen:?}");
    assert_eq!(state("delete"), CapabilityState::Enforced, "{seen:?}");
    assert!(store.list("", None).await.unwrap().is_empty());
}

/// The tries that `endpoint` costs somebody who waits for a listing, and what is said in the end.
async fn brief_tries(endpoint: &str, limits: Limits) -> (u64, ErrorKind) {
    let inner = Arc::new(store(endpoint, "AKIA", "secret", "b").with_limits(limits));
    let at_once = Pause::new(|_| Box::pin(std::future::ready(())));
    let patient = RetryingStore::new(inner, Patience::brief(), at_once);
    let kind = patient.list("", None).await.unwrap_err().kind();
    (patient.requests().total(), kind)
}

#[tokio::test]
async fn a_port_where_nobody_listens_costs_three_tries() {
    let endpoint = format!("http://127.0.0.1:{}", support::port::free());
    let limits = Limits::of_patience(Patience::brief());
    assert_eq!(limits.base, Duration::from_secs(15));
    assert_eq!(brief_tries(&endpoint, limits).await, (3, ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_server_that_never_answers_costs_three_tries() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Taken and kept open, and never answered.
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.push(stream.unwrap());
            told.send(kept.len()).unwrap();
        }
    });
    let limits = Limits { base: Duration::from_millis(200), ..Limits::default() };
    assert_eq!(brief_tries(&endpoint, limits).await, (3, ErrorKind::Timeout));
    assert!(heard.try_iter().count() >= 1, "it was asked");
}
