//! Lines of a bounded length: a program that prints without end must not fill our memory.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Longest line a writer may print, the newline not counted.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// One line, without its newline.
    Text(&'a [u8]),
    /// The line is longer than [`LINE_BYTES_MAX`]; what was read of it.
    TooLong(&'a [u8]),
    /// The end came in the middle of a line.
    Cut(&'a [u8]),
    /// The end.
    End,
}

/// Cuts a stream into lines.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(128 << 10, reader), line: Vec::new() }
    }

    /// The next line. When the future is dropped half-way, bytes may be lost: only give up on it
    /// to give up on the stream.
    pub async fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(if self.line.is_empty() { Line::End } else { Line::Cut(&self.line) });
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(available.len());
            let fits = taken.min(LINE_BYTES_MAX - self.line.len());
            self.line.extend_from_slice(&available[..fits]);
            if fits < taken {
                return Ok(Line::TooLong(&self.line));
            }
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Line::Text(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(input);
        let mut seen = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::End => return seen,
                Line::Text(text) => seen.push(format!("text {}", String::from_utf8_lossy(text))),
                Line::Cut(text) => seen.push(format!("cut {}", String::from_utf8_lossy(text))),
                Line::TooLong(text) => {
                    seen.push(format!("long {}", text.len()));
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stream_is_cut_at_newlines_and_a_missing_last_one_is_noticed() {
        assert_eq!(all(b"a\n\nbc\n").await, ["text a", "text ", "text bc"]);
        assert_eq!(all(b"a\nb").await, ["text a", "cut b"]);
        assert_eq!(all(b"").await, [""; 0]);
    }

    #[tokio::test]
    async fn a_line_may_be_as_long_as_the_limit_and_not_a_byte_longer() {
        let mut input = vec![b'x'; LINE_BYTES_MAX];
        input.push(b'\n');
        assert_eq!(all(&input).await.len(), 1);
        input.insert(0, b'x');
        assert_eq!(all(&input).await, [format!("long {LINE_BYTES_MAX}")]);
    }
}
