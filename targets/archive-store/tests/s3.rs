//! S3 by way of opendal: what goes over the wire, what comes back, and how failures are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod servers {
    pub mod garage;
    pub mod loopback;
    pub mod scripted;
}

use std::collections::HashMap;
use std::error::Error as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use dualsync_archive_store::contract::{ErrorKind, Key, Lock, Receipt, Store, StoreError};
use dualsync_archive_store::digest::sha256;
use dualsync_archive_store::probe;
use dualsync_archive_store::service::{Patience, Service, ServiceStore};
use dualsync_model::event::CapabilityState;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;
use servers::garage::{BUCKET, Garage, REGION};
use servers::scripted::{Scripted, refuses, says};

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// Tries often, waits next to nothing.
const HASTY: Patience = Patience {
    again_max: 3,
    wait_min: Duration::from_micros(10),
    wait_max: Duration::from_micros(20),
    total: Duration::from_mins(1),
    silence: Duration::from_mins(1),
};

fn s3(endpoint: &str, id: &str, secret: &str, bucket: &str, region: &str) -> ServiceStore {
    with_patience(HASTY, endpoint, id, secret, bucket, region)
}

fn with_patience(
    patience: Patience,
    endpoint: &str,
    id: &str,
    secret: &str,
    bucket: &str,
    region: &str,
) -> ServiceStore {
    let options = [
        ("endpoint", endpoint),
        ("region", region),
        ("bucket", bucket),
        ("root", "web-01"),
        ("access_key_id", id),
        ("secret_access_key", secret),
        ("checksum_algorithm", "md5"),
        ("disable_config_load", "true"),
        ("disable_ec2_metadata", "true"),
    ];
    let options: HashMap<String, String> = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let service = Service { scheme: "s3".to_owned(), options, name: format!("bucket {bucket} at {endpoint}") };
    ServiceStore::open(service, patience, NOW).unwrap()
}

fn scripted(lines: Vec<String>) -> (Scripted, ServiceStore) {
    let server = Scripted::run(lines);
    let store = s3(&server.endpoint, "AKIA", "secret", "b", REGION);
    (server, store)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &dyn Store) -> Result<Receipt, StoreError> {
    store.put(&key("volumes/1"), Bytes::from_static(b"abc"), sha256(b"abc")).await
}

#[tokio::test]
async fn a_write_is_one_request_with_its_md5() {
    let (server, store) = scripted(vec![says(200, &["Date: Fri, 20 Nov 2026 02:00:00 GMT", "ETag: \"x\""], "")]);
    assert!(!store.has_clock());
    put(&store).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].head[0].starts_with("PUT /b/web-01/volumes/1"), "{:?}", asked[0].head);
    assert_eq!(asked[0].body, b"abc");
    assert_eq!(asked[0].header("content-md5"), Some("kAFQmDzST7DWlj99KOF/cg=="));
    assert_eq!((store.requests().put, store.requests().total()), (1, 1));
    assert!(store.has_clock());
    assert!((0..60).contains(&store.now().seconds_since("2026-11-20T02:00:00Z".parse().unwrap())));
}

#[tokio::test]
async fn a_write_is_proved_by_an_answer_that_has_the_digest_of_what_arrived() {
    let check = async |etag: &[&str], expected| {
        let (server, store) = scripted(vec![says(200, etag, "")]);
        assert_eq!(put(&store).await.unwrap(), expected, "{etag:?}");
        assert_eq!(server.asked().len(), 1);
    };
    check(&["ETag: \"900150983cd24fb0d6963f7d28e17f72\""], Receipt::Proved).await;
    // One bit was spoilt on the way, or the store encrypts with a key of its own, or it was sent in parts.
    check(&["ETag: \"2bb225f0ba9a58930757a868ed57d9a3\""], Receipt::Taken).await;
    check(&["ETag: \"900150983cd24fb0d6963f7d28e17f72-1\""], Receipt::Taken).await;
    check(&[], Receipt::Taken).await;
    // The answer was lost, and the object was read.
    let found = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n".to_owned();
    let (_server, store) = scripted(vec![refuses(500, "InternalError"), found, says(200, &[], "abc")]);
    assert_eq!(put(&store).await.unwrap(), Receipt::Proved);
}

#[tokio::test]
async fn reads_and_looks_are_one_request_each() {
    let (server, store) = scripted(vec![
        says(200, &[], "0123456789"),
        says(206, &["Content-Range: bytes 2-4/10"], "234"),
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n".to_owned(),
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ]);
    let volume = key("volumes/1");
    assert_eq!(store.get(&volume).await.unwrap(), b"0123456789"[..]);
    assert_eq!(store.get_range(&volume, 2, 3).await.unwrap(), b"234"[..]);
    assert_eq!(store.head(&volume).await.unwrap().unwrap().size, 10);
    assert_eq!(store.head(&volume).await.unwrap(), None);
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[1].header("range"), Some("bytes=2-4"));
    let requests = store.requests();
    assert_eq!((requests.get, requests.head, requests.total()), (2, 2, 4));
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_only_passing_ones_are_repeated() {
    for (status, code, kind, tries) in [
        (403, "InvalidAccessKeyId", ErrorKind::BadCredentials, 1),
        (403, "SignatureDoesNotMatch", ErrorKind::BadCredentials, 1),
        (403, "AccessDenied", ErrorKind::Denied, 1),
        (403, "RequestTimeTooSkewed", ErrorKind::ClockSkew, 1),
        (404, "NoSuchBucket", ErrorKind::MissingBucket, 1),
        (400, "BadDigest", ErrorKind::Checksum, 1),
        (507, "InsufficientStorage", ErrorKind::Full, 1),
        (503, "SlowDown", ErrorKind::Throttled, 4),
    ] {
        let (server, store) = scripted(vec![refuses(status, code)]);
        let error = put(&store).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        assert!(error.to_string().starts_with("writing 'volumes/1' at bucket b at http://"), "{error}");
        assert!(format!("{:?}", error.source().unwrap()).contains(code), "{error:?}");
        assert!(!error.hint().is_empty());
        assert_eq!(server.asked().len(), tries, "{code}");
        let (server, store) = scripted(vec![refuses(status, code)]);
        assert_eq!(store.list("p/", None).await.unwrap_err().kind(), kind, "{code}");
        assert_eq!(server.asked().len(), tries, "{code}");
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_looked_for_and_not_repeated() {
    let found = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n".to_owned();
    let (server, store) = scripted(vec![refuses(500, "InternalError"), found, says(200, &[], "abc")]);
    put(&store).await.unwrap();
    let methods: Vec<_> =
        server.asked().iter().map(|asked| asked.head[0].split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET"]);
}

#[tokio::test]
async fn a_write_that_did_not_arrive_is_repeated_and_other_bytes_are_an_error() {
    let missing = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
    let (server, store) = scripted(vec![refuses(502, ""), missing, says(200, &[], "")]);
    put(&store).await.unwrap();
    assert_eq!(server.asked().len(), 3);
    let longer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n".to_owned();
    let (_server, store) = scripted(vec![refuses(502, ""), longer]);
    assert_eq!(put(&store).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_body_that_ends_early_is_read_on_from_there() {
    let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123".to_owned();
    let (server, store) = scripted(vec![short.clone(), says(206, &["Content-Range: bytes 4-9/10"], "456789")]);
    assert_eq!(store.get(&key("v")).await.unwrap(), b"0123456789"[..]);
    let asked = server.asked();
    assert_eq!((asked.len(), store.requests().get, asked[1].header("range")), (2, 2, Some("bytes=4-")));
    // A server that answers with the whole instead must not have it added to the first part.
    let (_server, store) = scripted(vec![short.clone(), says(200, &[], "0123456789")]);
    assert_eq!(store.get(&key("v")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let (_server, store) = scripted(vec![short, refuses(500, "InternalError")]);
    assert_eq!(store.get(&key("v")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_range_beyond_the_end_is_no_reason_to_try_again() {
    for answer in [refuses(416, "InvalidRange"), says(206, &["Content-Range: bytes 7-9/10"], "789")] {
        let (server, store) = scripted(vec![answer]);
        assert_eq!(store.get_range(&key("v"), 7, 5).await.unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_beginning_tells_how_long_the_object_is() {
    let begins = |length| says(206, &[&format!("Content-Range: bytes 0-3/{length}")], "0123");
    let (server, store) = scripted(vec![begins("10")]);
    assert_eq!(store.beginning(&key("v"), 4).await.unwrap(), (Bytes::from("0123"), 10));
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0].header("range")), (1, Some("bytes=0-3")));
    // One that is shorter, and one whose length the answer does not tell.
    let (server, store) = scripted(vec![begins("4"), begins("4")]);
    assert_eq!(store.beginning(&key("v"), 9).await.unwrap(), (Bytes::from("0123"), 4));
    assert_eq!(server.asked().len(), 2);
    let look = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n".to_owned();
    let (_server, store) = scripted(vec![begins("*"), look]);
    assert_eq!(store.beginning(&key("v"), 4).await.unwrap(), (Bytes::from("0123"), 10));
    let (server, store) = scripted(vec![refuses(404, "NoSuchKey")]);
    assert_eq!(store.beginning(&key("v"), 4).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(server.asked().len(), 1);
}

fn page(names: &[&str], next: Option<&str>) -> String {
    let object = |name: &&str| {
        format!(
            "<Contents><Key>web-01/{name}</Key><LastModified>2026-11-20T02:00:00.000Z</LastModified><ETag>x</ETag><Size>3</Size></Contents>"
        )
    };
    let objects: String = names.iter().map(object).collect();
    let token = next.map_or(String::new(), |next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    let more = next.is_some();
    let document = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{objects}</ListBucketResult>");
    says(200, &["Content-Type: application/xml"], &document)
}

#[tokio::test]
async fn a_listing_is_all_pages_or_an_error() {
    let (server, store) = scripted(vec![page(&["p/web/2", "p/web/3"], Some("t1")), page(&["p/web/4"], None)]);
    let found = store.list("p/we", Some("p/web/1")).await.unwrap();
    assert_eq!(found.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["p/web/2", "p/web/3", "p/web/4"]);
    assert!(found.iter().all(|info| info.size == 3 && info.modified.to_string() == "2026-11-20T02:00:00Z"));
    let asked = server.asked();
    assert_eq!((asked.len(), store.requests().list, store.requests().total()), (2, 2, 2));
    assert!(asked[0].head[0].contains("prefix=web-01/p/we") && asked[0].head[0].contains("start-after="), "{asked:?}");
    let (_server, store) = scripted(vec![page(&["p/web/2"], Some("t1")), refuses(403, "AccessDenied")]);
    assert_eq!(store.list("p/", None).await.unwrap_err().kind(), ErrorKind::Denied);
}

fn page_of_versions(entries: &[(&str, &str, &str, bool)]) -> String {
    let one = |(kind, key, id, is_latest): &(&str, &str, &str, bool)| {
        format!(
            "<{kind}><Key>web-01/{key}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest><Size>3</Size><LastModified>2026-11-20T02:00:00.000Z</LastModified></{kind}>"
        )
    };
    let entries: String = entries.iter().map(one).collect();
    let document = format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{entries}</ListVersionsResult>");
    says(200, &["Content-Type: application/xml"], &document)
}

#[tokio::test]
async fn an_object_goes_with_all_its_versions_and_a_lock_is_counted() {
    let gone = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned();
    let locked = "<Error><Code>AccessDenied</Code><Message>forbidden by object lock</Message></Error>";
    let versions = page_of_versions(&[
        ("DeleteMarker", "volumes/1", "v3", true),
        ("Version", "volumes/1", "v2", false),
        ("Version", "volumes/1", "v1", false),
        ("Version", "volumes/10", "x1", true),
    ]);
    let (server, store) = scripted(vec![versions.clone(), gone.clone(), says(403, &[], locked), gone.clone()]);
    let purged = store.purge(&key("volumes/1")).await.unwrap();
    assert_eq!((purged.locked, purged.locked_bytes), (1, 3));
    let asked: Vec<_> = server.asked().iter().map(|asked| asked.head[0].clone()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[0].contains("versions") && asked[0].contains("prefix=web-01/volumes/1"), "{asked:?}");
    for id in ["v1", "v2", "v3"] {
        let is_it = |line: &&String| line.starts_with("DELETE ") && line.contains(&format!("versionId={id}"));
        assert_eq!(asked.iter().filter(is_it).count(), 1, "{asked:?}");
    }
    let (_server, store) = scripted(vec![versions]);
    let listed = store.versions("volumes/").await.unwrap().unwrap();
    let told: Vec<_> = listed.iter().map(|one| (one.id.as_str(), one.is_marker)).collect();
    // All of the same second: the one on top comes last all the same.
    assert_eq!(told, [("v1", false), ("v2", false), ("v3", true), ("x1", false)]);

    // A bucket that keeps none, or says that it cannot tell: the object itself goes.
    for answer in [page_of_versions(&[("Version", "volumes/1", "null", true)]), refuses(501, "NotImplemented")] {
        let (server, store) = scripted(vec![answer.clone(), gone.clone()]);
        assert_eq!(store.purge(&key("volumes/1")).await.unwrap().locked, 0);
        let asked = server.asked();
        assert!(asked[1].head[0].starts_with("DELETE /b/web-01/volumes/1 "), "{asked:?}");
        let (_server, store) = scripted(vec![answer]);
        assert_eq!(store.versions("volumes/").await.unwrap(), None);
    }
    // Without the right to do it, it is not a lock.
    let versions = page_of_versions(&[("Version", "volumes/1", "v1", true)]);
    let (_server, store) = scripted(vec![versions, refuses(403, "AccessDenied")]);
    assert_eq!(store.purge(&key("volumes/1")).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_version_is_read_and_locked_by_its_id() {
    let said = ["x-amz-object-lock-mode: COMPLIANCE", "x-amz-object-lock-retain-until-date: 2026-12-20T02:00:00Z"];
    let (server, store) = scripted(vec![says(200, &said, "")]);
    let lock = Lock { mode: LockMode::Compliance, until: "2026-12-20T02:00:00Z".parse().unwrap() };
    let (key, id) = (key("volumes/1"), "a/b+c");
    store.lock(&key, Some(id), lock).await.unwrap();
    assert_eq!(store.lock_of(&key, Some(id)).await.unwrap(), Some(lock));
    assert_eq!(store.lock_of(&key, None).await.unwrap(), Some(lock));
    let asked = server.asked();
    let lines: Vec<_> = asked.iter().map(|asked| asked.head[0].trim_end_matches(" HTTP/1.1")).collect();
    let at = "/b/web-01/volumes/1";
    let version = "versionId=a%2Fb%2Bc";
    assert_eq!(lines, [format!("PUT {at}?retention&{version}"), format!("HEAD {at}?{version}"), format!("HEAD {at}")],);
    let (server, store) = scripted(vec![says(200, &[], "good")]);
    assert_eq!(store.get_version(&key, "v1", 4).await.unwrap(), b"good"[..]);
    assert_eq!(store.get_version(&key, "v1", 3).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(server.asked()[0].head[0].contains("versionId=v1"));
}

#[tokio::test]
async fn an_unknown_host_and_a_closed_port_are_two_things() {
    let store = s3("https://nonexistent.invalid", "AKIA", "secret", "b", REGION);
    let error = put(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownHost, "{error:?}");
    assert_eq!(store.list("", None).await.unwrap_err().kind(), ErrorKind::UnknownHost);
    assert_eq!(store.requests().total(), 2, "an unknown name is not asked for again");
    let closed = format!("http://127.0.0.1:{}", servers::loopback::unused_port());
    let error = put(&s3(&closed, "AKIA", "secret", "b", REGION)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_self_made_certificate_is_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (certificate, private) = (at("certificate.pem"), at("private.pem"));
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    let made =
        Command::new("openssl").args(request.split(' ')).args(["-out", &certificate, "-keyout", &private]).output();
    assert!(made.unwrap().status.success());
    let mut server = Command::new("openssl")
        .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert", &certificate, "-key", &private])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("ACCEPT ")).unwrap();
    let port = line.rsplit(':').next().unwrap();
    let store = s3(&format!("https://localhost:{port}"), "AKIA", "secret", "b", REGION);
    let (written, listed) = (put(&store).await, store.list("", None).await);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BadCertificate);
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::BadCertificate);
    assert_eq!(store.requests().total(), 2);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_its_time_and_its_tries() {
    // Connections are accepted by the kernel and never looked at.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap());
    let patience = Patience { silence: Duration::from_millis(10), again_max: 1, ..HASTY };
    let store = with_patience(patience, &endpoint, "AKIA", "secret", "b", REGION);
    let error = store.get(&key("volumes/1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(store.requests().get, 2);
}

/// A person's patience, with the waits of a test.
fn brief(silence: Duration) -> Patience {
    Patience { wait_min: HASTY.wait_min, wait_max: HASTY.wait_max, silence, ..Patience::brief() }
}

#[tokio::test]
async fn who_waits_hears_after_three_tries_that_nobody_answers() {
    let closed = format!("http://127.0.0.1:{}", servers::loopback::unused_port());
    // The kernel takes these connections, and nobody ever looks at them.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}", hole.local_addr().unwrap());
    let minute = Duration::from_mins(1);
    for (endpoint, silence, kind) in
        [(&closed, minute, ErrorKind::Unavailable), (&mute, Duration::from_millis(20), ErrorKind::Timeout)]
    {
        let check = async |verb: &str, call: &dyn Fn(ServiceStore) -> Asked| {
            let (error, requests) = call(with_patience(brief(silence), endpoint, "AKIA", "secret", "b", REGION)).await;
            assert_eq!((error.kind(), requests), (kind, 3), "{verb} at {endpoint}: {error:?}");
        };
        check("list", &|store| Box::pin(async move { told(&store, store.list("points/", None).await) })).await;
        check("get", &|store| Box::pin(async move { told(&store, store.get(&key("repo.json")).await) })).await;
        check("head", &|store| Box::pin(async move { told(&store, store.head(&key("repo.json")).await) })).await;
        check("put", &|store| Box::pin(async move { told(&store, put(&store).await) })).await;
        check("probe", &|store| Box::pin(async move { told(&store, probe(&store, NOW).await) })).await;
    }
}

type Asked = std::pin::Pin<Box<dyn Future<Output = (StoreError, u64)>>>;

/// How a call failed, and how many requests there were.
fn told<T: std::fmt::Debug>(store: &ServiceStore, outcome: Result<T, StoreError>) -> (StoreError, u64) {
    (outcome.unwrap_err(), store.requests().total())
}

#[tokio::test]
async fn a_real_server_takes_a_volume_in_one_request() {
    let Some(garage) = Garage::run() else { return };
    let store = s3(&garage.endpoint, &garage.id, &garage.secret, BUCKET, REGION);
    let volume: Bytes = (0..17_000_000_u32).flat_map(|n| n.wrapping_mul(0x85eb_ca6b).to_be_bytes()).collect();
    let name = key("volumes/web/00001.tar.zst.age");
    assert_eq!(store.put(&name, volume.clone(), sha256(&volume)).await.unwrap(), Receipt::Proved);
    assert_eq!(store.get(&name).await.unwrap(), volume);
    assert_eq!(store.get_range(&name, 60 << 20, 100).await.unwrap(), volume[60 << 20..][..100]);
    assert_eq!(store.requests().total(), 3);
}

#[tokio::test]
async fn a_service_that_is_not_built_in_is_told_clearly() {
    let service = Service { scheme: "ftp".to_owned(), options: HashMap::new(), name: "ftp target nas".to_owned() };
    let error = ServiceStore::open(service, HASTY, NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("opening ftp target nas failed: the store or this build"), "{error}");
}

#[tokio::test]
async fn a_real_server_tells_wrong_keys_secrets_buckets_and_regions_apart() {
    let Some(garage) = Garage::run() else { return };
    let check = async |id: &str, secret: &str, bucket: &str, region: &str, expected| {
        let error = put(&s3(&garage.endpoint, id, secret, bucket, region)).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
    };
    let Garage { id, secret, .. } = &garage;
    check("GK111111111111111111111111", secret, BUCKET, REGION, ErrorKind::BadCredentials).await;
    check(id, "1111", BUCKET, REGION, ErrorKind::BadCredentials).await;
    check(id, secret, "nowhere", REGION, ErrorKind::MissingBucket).await;
    check(id, secret, BUCKET, "elsewhere", ErrorKind::Misconfigured).await;
}

#[tokio::test]
async fn a_real_server_is_probed_and_nothing_is_left() {
    let Some(garage) = Garage::run() else { return };
    let store = s3(&garage.endpoint, &garage.id, &garage.secret, BUCKET, REGION);
    let found = probe(&store, NOW).await.unwrap();
    let state = |name: &str| found.iter().find(|capability| capability.name == name).unwrap().state;
    assert_eq!(state("round_trip"), CapabilityState::Enforced, "{found:?}");
    assert_eq!(state("delete"), CapabilityState::Enforced, "{found:?}");
    assert_ne!(state("conditional_put"), CapabilityState::Failed, "{found:?}");
    assert_eq!(state("clock"), CapabilityState::Failed, "the job of this test is from another year: {found:?}");
    assert_eq!(store.list("", None).await.unwrap(), []);
}
