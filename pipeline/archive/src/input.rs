//! Standard input: the job, and the command that a backup waits for.
//!
//! Promises that the end of input is told from a command, since it must never count as `commit`.

use std::io::BufRead;

use tokio::sync::mpsc;

use dualsync_model::job::Command;

/// No job is longer.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The lines of standard input, read by a thread of its own.
pub struct Input(mpsc::Receiver<String>);

impl Input {
    /// Begins to read. The thread ends with the input, or is left behind when the program ends.
    pub fn new(reader: impl BufRead + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        std::thread::spawn(move || pass_lines(reader, &sender));
        Self(receiver)
    }

    /// The next line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        self.0.recv().await
    }

    /// The next command. The end of input and a line that is no command mean `abort`.
    pub async fn command(&mut self) -> Command {
        let line = self.line().await;
        line.and_then(|line| serde_json::from_str(&line).ok()).unwrap_or(Command::Abort)
    }
}

fn pass_lines(mut reader: impl BufRead, sender: &mpsc::Sender<String>) {
    loop {
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        // A last line without its end was cut off: half a `commit` is none.
        if !matches!(read, Ok(length) if length > 0 && line.last() == Some(&b'\n')) {
            return;
        }
        let Ok(line) = String::from_utf8(line) else { return };
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn command(text: &'static str) -> Command {
        Input::new(text.as_bytes()).command().await
    }

    #[tokio::test]
    async fn only_a_whole_commit_line_is_a_commit() {
        assert_eq!(command("{\"command\":\"commit\"}\n").await, Command::Commit);
        for text in
            ["", "{\"command\":\"commit\"}", "{\"command\":\"abort\"}\n", "commit\n", "\n", "{\"command\":\"com\n"]
        {
            assert_eq!(command(text).await, Command::Abort, "{text:?}");
        }
    }

    #[tokio::test]
    async fn lines_come_one_by_one() {
        let mut input = Input::new(&b"job\n{\"command\":\"commit\"}\n"[..]);
        assert_eq!(input.line().await.unwrap(), "job\n");
        assert_eq!(input.command().await, Command::Commit);
        assert_eq!(input.command().await, Command::Abort);
    }
}
