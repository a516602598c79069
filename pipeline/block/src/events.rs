//! Standard output: JSON lines, and a sign of life even when there is nothing to say.
//!
//! [`Events`] owns the output; each line is written whole and flushed. [`Events::start_pulse`] prints
//! `status` twice a second while the numbers move and every 20 seconds when they do not, so that
//! whoever waits can tell work from a hang. A reader that is gone is remembered, not fatal: the end
//! of standard input is what stops a backup from committing.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dualsync_model::event::{Event, Status, Warning};

/// Between two looks at the numbers.
const PULSE: Duration = Duration::from_millis(500);
/// Looks without a change after which a status is printed all the same: 20 s.
const QUIET_PULSES: u32 = 40;

/// How far the work is; shared with every thread that works.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<&'static str>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    items_done: AtomicU64,
    items_total: AtomicU64,
    transferred: AtomicU64,
}

impl Progress {
    /// Begins a phase; the counts go on.
    pub fn phase(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Says how much there is in all, and begins to count at zero.
    pub fn begin(&self, phase: &'static str, bytes_total: u64, items_total: u64) {
        self.phase(phase);
        self.bytes_done.store(0, Ordering::Relaxed);
        self.items_done.store(0, Ordering::Relaxed);
        self.bytes_total.store(bytes_total, Ordering::Relaxed);
        self.items_total.store(items_total, Ordering::Relaxed);
    }

    /// Some of it is done.
    pub fn add(&self, bytes: u64, items: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.items_done.fetch_add(items, Ordering::Relaxed);
    }

    /// Takes the numbers of somebody who counts alone.
    pub fn set(&self, status: &Status) {
        self.bytes_done.store(status.bytes_done, Ordering::Relaxed);
        self.items_done.store(status.items_done, Ordering::Relaxed);
    }

    /// Bytes went to or came from the store.
    pub fn transfer(&self, bytes: u64) {
        self.transferred.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The numbers now.
    pub(crate) fn status(&self) -> Status {
        let known = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed)).filter(|total| *total > 0);
        Status {
            phase: (*self.phase.lock().unwrap_or_else(PoisonError::into_inner)).to_owned(),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: known(&self.bytes_total),
            items_done: self.items_done.load(Ordering::Relaxed),
            items_total: known(&self.items_total),
            transferred_bytes: self.transferred.load(Ordering::Relaxed),
        }
    }
}

struct Output {
    to: Box<dyn Write + Send>,
    /// The last line was printed.
    ended: bool,
}

/// The one writer of event lines.
#[derive(Clone)]
pub struct Events {
    output: Arc<Mutex<Output>>,
    broken: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Events {
    /// Events on `output`.
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        let output = Output { to: output, ended: false };
        Self { output: Arc::new(Mutex::new(output)), broken: Arc::default(), progress: Arc::default() }
    }

    /// Prints one line; nothing after the last one, `summary` or `error`. A pulse that was told to stop may be in the
    /// middle of a status on another thread, and whoever reads takes a line after the last one for garbage.
    pub fn say(&self, event: &Event) {
        let written = serde_json::to_vec(event).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            if output.ended {
                return Ok(());
            }
            output.ended = matches!(event, Event::Summary(_) | Event::Error(_));
            output.to.write_all(&line)?;
            output.to.flush()
        });
        if let Err(error) = written
            && !self.broken.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, "nobody reads the event lines any more");
        }
    }

    /// Prints a warning.
    pub fn warn(&self, code: &str, message: impl Into<String>) {
        self.say(&Event::Warning(Warning { code: code.to_owned(), message: message.into(), path: None }));
    }

    /// Whether a line could not be written.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The numbers that [`Self::start_pulse`] prints.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Prints `status` lines until the answer is dropped.
    pub fn start_pulse(&self) -> Pulse {
        let events = self.clone();
        Pulse(tokio::spawn(async move {
            let (mut ticks, mut rhythm) = (tokio::time::interval(PULSE), Rhythm::default());
            loop {
                ticks.tick().await;
                let status = events.progress.status();
                if rhythm.is_due(&status) {
                    events.say(&Event::Status(status));
                }
            }
        }))
    }
}

/// Decides at each pulse whether a status is said.
#[derive(Default)]
struct Rhythm {
    last: Option<Status>,
    quiet: u32,
}

impl Rhythm {
    fn is_due(&mut self, status: &Status) -> bool {
        self.quiet += 1;
        let is_due = self.last.as_ref() != Some(status) || self.quiet >= QUIET_PULSES;
        if is_due {
            (self.last, self.quiet) = (Some(status.clone()), 0);
        }
        is_due
    }
}

/// Keeps status lines coming; they stop when it is dropped.
pub struct Pulse(tokio::task::JoinHandle<()>);

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An output that a test can read.
    #[derive(Clone, Default)]
    pub struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// Events on a new output, and that output.
        pub fn events() -> (Events, Self) {
            let lines = Self::default();
            (Events::new(Box::new(lines.clone())), lines)
        }

        /// Every line so far.
        pub fn all(&self) -> Vec<Event> {
            let bytes = self.0.lock().unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    #[test]
    fn a_status_is_due_when_numbers_move_and_at_the_latest_after_half_a_minute() {
        let (progress, mut rhythm) = (Progress::default(), Rhythm::default());
        let mut due_in = |pulses: u32| (0..pulses).filter(|_| rhythm.is_due(&progress.status())).count();
        assert_eq!(due_in(3), 1, "the first comes at once, the same numbers not again");
        progress.begin("reading", 100, 2);
        progress.add(50, 1);
        assert_eq!(due_in(3), 1);
        let half_a_minute = u32::try_from(Duration::from_secs(30).as_millis() / PULSE.as_millis()).unwrap();
        assert_eq!(due_in(half_a_minute), 1, "a sign of life without news");
    }

    #[tokio::test]
    async fn a_status_tells_the_numbers() {
        let (events, lines) = Lines::events();
        events.progress().begin("reading", 100, 0);
        events.progress().add(50, 1);
        events.progress().transfer(7);
        let pulse = events.start_pulse();
        while lines.all().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(pulse);
        let Some(Event::Status(status)) = lines.all().pop() else { panic!("a status was expected") };
        let expected = Status {
            phase: "reading".to_owned(),
            bytes_done: 50,
            bytes_total: Some(100),
            items_done: 1,
            items_total: None,
            transferred_bytes: 7,
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn nothing_comes_after_the_last_line() {
        let (events, lines) = Lines::events();
        let late = Event::Status(events.progress().status());
        events.say(&late);
        events.say(&Event::Summary(dualsync_model::event::Summary::default()));
        events.say(&late);
        let told = lines.all();
        assert!(matches!(told.as_slice(), [Event::Status(_), Event::Summary(_)]), "{told:?}");
    }

    #[test]
    fn a_reader_that_is_gone_is_remembered() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let events = Events::new(Box::new(Gone));
        assert!(!events.is_broken());
        events.warn("clock", "late");
        assert!(events.is_broken());
    }
}
