//! A toy S3 in memory, whose connection breaks when a test wants it to.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::scripted::{Asked, hear, refuses, says};

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// It is answered with an error of the server, and nothing was done.
    Refused,
    /// It is done, and the connection ends before the answer.
    AnswerLost,
    /// It is done, and the connection ends in the middle of the answer.
    AnswerCut,
}

type Objects = BTreeMap<String, Vec<u8>>;

pub struct Toy {
    pub endpoint: String,
    pub objects: Arc<Mutex<Objects>>,
    requests: Arc<AtomicUsize>,
}

impl Toy {
    /// A server whose request number `at` (from 0) has this mishap.
    pub fn run(at: usize, mishap: Mishap) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", socket.local_addr().unwrap());
        let (objects, requests) = (Arc::new(Mutex::new(Objects::new())), Arc::new(AtomicUsize::new(0)));
        let (shelf, counter) = (Arc::clone(&objects), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let Some(asked) = hear(&stream) else { continue };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                serve(&stream, &asked, &shelf, Some(mishap).filter(|_| number == at));
            }
        });
        Self { endpoint, objects, requests }
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: &TcpStream, asked: &Asked, objects: &Mutex<Objects>, mishap: Option<Mishap>) {
    let answer = match mishap {
        Some(Mishap::Refused) => refuses(503, "ServiceUnavailable"),
        _ => act(asked, &mut objects.lock().unwrap()),
    };
    let sent = match mishap {
        Some(Mishap::AnswerLost) => 0,
        Some(Mishap::AnswerCut) => answer.len() - 1,
        _ => answer.len(),
    };
    // A client that is gone already hears nothing, which is its own affair.
    let _ = stream.write_all(&answer.as_bytes()[..sent]);
}

fn act(asked: &Asked, objects: &mut Objects) -> String {
    let mut words = asked.head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path.strip_prefix("/b/").unwrap_or_default();
    match method {
        "PUT" => {
            objects.insert(key.to_owned(), asked.body.clone());
            says(200, &["ETag: \"toy\""], "")
        }
        "DELETE" => {
            objects.remove(key);
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
        }
        "GET" if query.contains("list-type=2") => list(objects),
        "GET" => objects.get(key).map_or_else(|| refuses(404, "NoSuchKey"), |body| part(asked, body)),
        _ => match objects.get(key) {
            Some(body) => format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()),
            None => "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_owned(),
        },
    }
}

fn list(objects: &Objects) -> String {
    let entry = |(key, body): (&String, &Vec<u8>)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-20T02:00:00Z</LastModified><Size>{}</Size></Contents>",
            body.len()
        )
    };
    let entries: Vec<String> = objects.iter().map(entry).collect();
    let document = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>", entries.concat());
    says(200, &["Content-Type: application/xml"], &document)
}

/// The object, or the range of it that was asked for; the test's objects are text.
fn part(asked: &Asked, body: &[u8]) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let Some((from, to)) = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return says(200, &[], text);
    };
    let from: usize = from.parse().unwrap();
    let end = to.parse().map_or(text.len(), |last: usize| last + 1);
    let range = format!("Content-Range: bytes {from}-{}/{}", end - 1, text.len());
    says(206, &[&range], &text[from..end])
}
