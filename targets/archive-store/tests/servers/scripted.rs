//! A server that says what a test wants to hear, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// One request: its head, line by line, and its body.
#[derive(Debug)]
pub struct Asked {
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.iter().skip(1).filter_map(|line| line.split_once(": "));
        headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub struct Scripted {
    pub endpoint: String,
    asked: Receiver<Asked>,
}

impl Scripted {
    /// Answers the n-th request with the n-th of `lines`, and all further ones with the last.
    pub fn run(lines: Vec<String>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", socket.local_addr().unwrap());
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            for (number, stream) in socket.incoming().map_while(Result::ok).enumerate() {
                let Some(request) = hear(&stream) else { break };
                let answer = lines.get(number).or(lines.last()).cloned().unwrap_or_default();
                // The test may have gone, and so may the client: both are none of this thread's business.
                let _ = tell.send(request);
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { endpoint, asked }
    }

    /// Everything that was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

/// Reads one request; `None` when the client has gone.
pub fn hear(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked { head: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim_end().is_empty() {
            break;
        }
        asked.head.push(line.trim_end().to_owned());
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    reader.take(length).read_to_end(&mut asked.body).ok()?;
    Some(asked)
}

/// A whole answer, after which the connection ends.
pub fn says(status: u16, headers: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let status = format!("HTTP/1.1 {status} Said");
    let head = [&[status.as_str(), "Connection: close", &length], headers].concat().join("\r\n");
    format!("{head}\r\n\r\n{body}")
}

/// A refusal in S3's form.
pub fn refuses(status: u16, code: &str) -> String {
    let document = format!("<Error><Code>{code}</Code><Message>as scripted</Message></Error>");
    says(status, &["Content-Type: application/xml"], &document)
}
