//! The only file that prints: results on standard output, everything else on standard error.
//!
//! For people or as JSON lines, never both. A reader that went away (`| head`) is no error; a disk
//! that is full is one, and [`Output::written`] tells at the end.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use dualsync_model::event::Status;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::Global;
use crate::human;
use crate::mechanism::{Mechanism, Pair};

/// Where no terminal is, a line of progress appears at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// How this call speaks.
#[derive(Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    colour: bool,
    bars: Option<MultiProgress>,
    failed: RefCell<Option<io::Error>>,
}

/// Prints what a program says to people while it works; it goes along to the task that reads it.
#[derive(Clone, Debug)]
pub struct Echo {
    bars: Option<MultiProgress>,
}

impl Echo {
    /// One line, with the program's name in front.
    pub fn line(&self, program: &str, line: &str) {
        err(self.bars.as_ref(), &format!("{program}: {line}"));
    }
}

/// How good or bad a line is; for people a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// Good.
    Ok,
    /// To be looked at.
    Warn,
    /// Bad.
    Fail,
}

impl Light {
    /// The word and its colour.
    const fn word(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "32"),
            Self::Warn => ("warn", "33"),
            Self::Fail => ("FAIL", "31"),
        }
    }
}

impl Output {
    /// As the options and the two streams ask for.
    pub fn new(global: &Global) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = io::stderr().is_terminal();
        let bars = (terminal && !global.json && !global.quiet)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colour: !plain && terminal && io::stdout().is_terminal(),
            bars,
            failed: RefCell::new(None),
        }
    }

    /// JSON only, for a command line that could not be understood.
    pub const fn for_json() -> Self {
        Self { json: true, quiet: false, verbose: false, colour: false, bars: None, failed: RefCell::new(None) }
    }

    /// Whether JSON was asked for.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether the result goes to a terminal and nowhere else: secrets may be shown there.
    pub fn is_for_eyes(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// A line of the result, for people.
    pub fn say(&self, line: &str) {
        if !self.json {
            self.out(&format!("{line}\n"));
        }
    }

    /// A line of the result with its light in front, for people.
    pub fn lit(&self, light: Light, line: &str) {
        let (word, colour) = light.word();
        self.say(&format!("{}  {line}", self.painted(colour, &format!("{word:<4}"))));
    }

    /// A table of the result, its heading first, for people.
    pub fn table<const N: usize>(&self, heading: [&str; N], rows: &[[String; N]]) {
        for line in human::table(heading, rows) {
            self.say(&line);
        }
    }

    /// One line of JSON; nothing for people.
    pub fn json(&self, value: &impl Serialize) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(line) => self.out(&format!("{line}\n")),
                Err(error) => self.note_failure(error.into()),
            }
        }
    }

    /// Text that is the same for everyone: a manual page, a completion script.
    pub fn raw(&self, text: &[u8]) {
        self.write(io::stdout().lock(), text);
    }

    /// What happens now, for people who watch.
    pub fn note(&self, line: &str) {
        if !self.json && !self.quiet {
            self.err(line);
        }
    }

    /// What only `-v` shows.
    pub fn detail(&self, line: &str) {
        if !self.json && self.verbose {
            self.err(line);
        }
    }

    /// The programs' own words as they come, where `-v` asks for them.
    pub fn echo(&self) -> Option<Echo> {
        (self.verbose && !self.json).then(|| Echo { bars: self.bars.clone() })
    }

    /// Something that did not stop the work; on standard error, since a result may be one JSON value.
    pub fn warn(&self, message: &str) {
        if self.json {
            self.json_error(&serde_json::json!({"message_type": "warning", "message": message}));
        } else {
            self.err(&format!("{} {message}", self.painted("33", "warning:")));
        }
    }

    /// The last words: an error sentence, lines that explain it, a hint.
    pub fn error(&self, message: &str, details: &[String], hint: Option<&str>) {
        self.err(&format!("{} {message}", self.painted("31", "error:")));
        for line in details {
            self.err(&format!("  | {line}"));
        }
        if let Some(hint) = hint {
            self.err(&format!("{} {hint}", self.painted("36", "hint:")));
        }
    }

    /// The last words as JSON, on standard error.
    pub fn json_error(&self, value: &impl Serialize) {
        self.err(&serde_json::to_string(value).unwrap_or_default());
    }

    /// Asks on the terminal; `None` where there is nobody to ask.
    pub async fn ask(&self, question: &str) -> Option<bool> {
        let answer = self.answer(&format!("{question} [y/N] ")).await?;
        Some(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a word to be typed, for what cannot be made good again; `None` where there is nobody to ask.
    pub async fn ask_for_word(&self, question: &str, word: &str) -> Option<bool> {
        let answer = self.answer(&format!("{question} Type {word} to go on: ")).await?;
        Some(answer == word)
    }

    /// A line from the terminal. A signal that comes instead is heard: the thread that waits is another one.
    async fn answer(&self, question: &str) -> Option<String> {
        if self.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let _ = write!(io::stderr(), "{question}");
        let answer = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).map(|_| answer)
        });
        let answer = answer.await.ok()?.ok()?;
        Some(answer.trim().to_owned())
    }

    /// Progress of the sides that work.
    pub fn progress(&self, subject: &str, sides: &Pair<bool>) -> Progress<'_> {
        let bar = |mechanism: Mechanism| {
            let bars = self.bars.as_ref().filter(|_| *sides.get(mechanism))?;
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_prefix(format!("{subject} {mechanism:<7}", mechanism = mechanism.as_str()));
            Some(bar)
        };
        Progress {
            output: self,
            subject: subject.to_owned(),
            sides: Pair::new(|mechanism| Side { bar: bar(mechanism), phase: String::new(), shown: None }),
        }
    }

    /// The first line of the result that could not be written, if there is one.
    pub fn written(&self) -> io::Result<()> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn out(&self, text: &str) {
        let print = || self.write(io::stdout().lock(), text.as_bytes());
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    fn err(&self, line: &str) {
        err(self.bars.as_ref(), line);
    }

    fn write(&self, mut stream: impl Write, bytes: &[u8]) {
        if let Err(error) = stream.write_all(bytes).and_then(|()| stream.flush()) {
            self.note_failure(error);
        }
    }

    fn note_failure(&self, error: io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

/// A line on standard error, above the bars. Where that is gone there is nobody to tell.
fn err(bars: Option<&MultiProgress>, line: &str) {
    let print = || {
        let _ = writeln!(io::stderr().lock(), "{line}");
    };
    match bars {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
}

/// Two bars on a terminal, now and then a line elsewhere, JSON lines with `--json`.
#[derive(Debug)]
pub struct Progress<'a> {
    output: &'a Output,
    subject: String,
    sides: Pair<Side>,
}

#[derive(Debug)]
struct Side {
    bar: Option<ProgressBar>,
    phase: String,
    shown: Option<Instant>,
}

/// One `status` line of `--json`.
#[derive(Serialize)]
struct StatusLine<'a> {
    message_type: &'static str,
    subject: &'a str,
    mechanism: &'static str,
    #[serde(flatten)]
    status: &'a Status,
}

impl Progress<'_> {
    /// A side told how far it is.
    pub fn update(&mut self, mechanism: Mechanism, status: &Status) {
        // A program at its very beginning has no word yet.
        let named = status.phase.is_empty().then(|| Status { phase: "starting".to_owned(), ..status.clone() });
        let status = named.as_ref().unwrap_or(status);
        let line = StatusLine { message_type: "status", subject: &self.subject, mechanism: mechanism.as_str(), status };
        self.output.json(&line);
        let side = self.sides.get_mut(mechanism);
        let changed = side.phase != status.phase;
        side.phase.clone_from(&status.phase);
        if let Some(bar) = &side.bar {
            draw(bar, status);
        } else if changed || side.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY) {
            side.shown = Some(Instant::now());
            self.output.note(&format!("{} {mechanism}: {}", self.subject, plain(status)));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        for mechanism in Mechanism::BOTH {
            if let Some(bar) = self.sides.get_mut(mechanism).bar.take() {
                bar.finish_and_clear();
            }
        }
    }
}

fn draw(bar: &ProgressBar, status: &Status) {
    let template = match status.bytes_total {
        Some(total) => {
            bar.set_length(total.max(1));
            "{prefix} {msg:10} [{bar:30}] {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        None => "{prefix} {msg:10} {spinner} {binary_bytes}  {binary_bytes_per_sec}",
    };
    if bar.message() != status.phase || bar.position() == 0 {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(status.phase.clone());
    }
    bar.set_position(status.bytes_done);
}

fn plain(status: &Status) -> String {
    let done = match status.bytes_total {
        Some(total) => format!("{} of {}", human::bytes(status.bytes_done), human::bytes(total)),
        None => human::bytes(status.bytes_done),
    };
    format!("{}, {done}, {} transferred", status.phase, human::bytes(status.transferred_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_without_a_terminal_is_one_sentence() {
        let status = Status { phase: "reading".into(), bytes_done: 1024, transferred_bytes: 5, ..Status::default() };
        assert_eq!(plain(&status), "reading, 1.0 KiB, 5 B transferred");
        let status = Status { bytes_total: Some(2048), ..status };
        assert_eq!(plain(&status), "reading, 1.0 KiB of 2.0 KiB, 5 B transferred");
    }

    #[test]
    fn a_status_line_carries_exact_numbers_and_its_side() {
        let status = Status { phase: "reading".into(), bytes_done: 1025, ..Status::default() };
        let line = StatusLine { message_type: "status", subject: "web", mechanism: "block", status: &status };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"message_type":"status","subject":"web","mechanism":"block","phase":"reading","bytes_done":1025,"items_done":0,"transferred_bytes":0}"#
        );
    }
}
