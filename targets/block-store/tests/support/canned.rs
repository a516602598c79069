//! An HTTP server that gives prepared answers, for what no real server can be made to do on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A request, as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
}

/// The server; it ends with the test program.
pub struct Canned {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Canned {
    /// Gives `answers` in turn, one for each request, the last one again and again.
    pub fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut answers = answers.into_iter().peekable();
            let mut last = String::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Some(request) = read(&mut reader) else { continue };
                seen.lock().unwrap().push(request);
                last = answers.next().unwrap_or(last);
                let _ = (&stream).write_all(last.as_bytes());
            }
        });
        Self { endpoint, requests }
    }

    /// What came in so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(reader: &mut impl std::io::BufRead) -> Option<Request> {
    let mut lines = reader.by_ref().lines();
    let line = lines.next()?.ok()?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length = headers.iter().find_map(|header| header.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    reader.take(length.unwrap_or(0)).read_to_end(&mut body).ok()?;
    Some(Request { line, headers, body })
}

/// An answer with a body; the connection ends with it.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// An error as S3 sends it.
pub fn refusal(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>canned</Message></Error>");
    answer(status, "Content-Type: application/xml\r\n", &body)
}
