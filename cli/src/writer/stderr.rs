//! What a writer says to people: kept in a bounded log file, its last lines kept for the error message.
//!
//! A log that cannot be written (a full disk, no state folder) costs the log, never the copy.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncRead;
use tokio::task::JoinHandle;

use super::lines::{Line, Lines};

/// Lines that are shown when a writer failed.
const TAIL_LINES: usize = 8;
/// Characters of one such line.
const TAIL_CHARS: usize = 400;
/// A log file ends here; a writer in an endless loop must not fill the disk of the source.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// The last lines so far, shared with the task that reads them.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first, without control characters.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, text: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

/// Reads `stream` to its end in the background; the file is created 0600 with the first line, and each
/// line is handed to `echo` as it comes, cleaned of control characters.
pub fn capture(
    stream: impl AsyncRead + Unpin + Send + 'static,
    log: &Path,
    echo: impl Fn(&str) + Send + 'static,
) -> (Tail, JoinHandle<()>) {
    let tail = Tail::default();
    let kept = tail.clone();
    let mut log = Log { path: log.to_owned(), file: None, left: LOG_BYTES_MAX };
    let task = tokio::spawn(async move {
        let mut lines = Lines::new(stream);
        loop {
            match lines.next().await {
                Ok(Line::Text(line) | Line::Cut(line)) => {
                    log.write(line);
                    if let Some(text) = clean(line) {
                        echo(&text);
                        kept.push(text);
                    }
                }
                // The rest of an endless line is not read: the pipe fills and the hang limit ends it.
                Ok(Line::TooLong(line)) => return clean(line).into_iter().for_each(|text| kept.push(text)),
                Ok(Line::End) | Err(_) => return,
            }
        }
    });
    (tail, task)
}

/// A line as it may be shown on a terminal; `None` for an empty one.
fn clean(line: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(TAIL_CHARS).collect();
    (!text.trim().is_empty()).then_some(text)
}

struct Log {
    path: std::path::PathBuf,
    file: Option<File>,
    left: u64,
}

impl Log {
    fn write(&mut self, line: &[u8]) {
        let length = line.len() as u64 + 1;
        if self.left < length {
            self.left = 0;
            return;
        }
        if self.file.is_none() {
            self.file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).ok();
        }
        let written = self.file.as_mut().map(|file| file.write_all(line).and_then(|()| file.write_all(b"\n")));
        self.left = if matches!(written, Some(Ok(()))) { self.left - length } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tail_is_bounded_and_the_log_is_private_and_whole() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = ('a'..='t').flat_map(|letter| ["line ".to_owned(), format!("{letter}\x1b[31m\n")]).collect();
        let (sender, echoed) = std::sync::mpsc::channel();
        let echo = move |line: &str| sender.send(line.to_owned()).unwrap();
        let (tail, task) = capture(std::io::Cursor::new(text.clone().into_bytes()), &log, echo);
        task.await.unwrap();
        assert_eq!(tail.lines().len(), TAIL_LINES);
        assert_eq!(echoed.iter().count(), 20);
        assert_eq!(tail.lines().last().unwrap(), "line t[31m");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), text);
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_keeps_the_tail() {
        let (tail, task) = capture(&b"why\n"[..], Path::new("/nonexistent/log"), |_| {});
        task.await.unwrap();
        assert_eq!(tail.lines(), ["why"]);
    }
}
