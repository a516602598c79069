//! Standard output: event lines, each whole and flushed, and the sign of life between them.
//!
//! Promises that `status` comes twice a second while something moves and every 20 seconds while nothing
//! does, whatever the rest of the program waits for. The only file besides `main.rs` that prints. When
//! nobody reads any more, the program has no purpose: [`Events::is_broken`] says so.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dualsync_model::event::{Event, Finding, Status, Warning};
use dualsync_model::path::RawPath;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(500);
/// A sign of life after so many ticks without progress.
const QUIET_TICKS: u32 = 40;

/// Where event lines go; cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    out: Mutex<Box<dyn Write + Send>>,
    phase: Mutex<String>,
    progress: Progress,
    broken: AtomicBool,
}

/// Counts for `status` lines; zero totals are unknown.
#[derive(Default)]
pub struct Progress {
    /// Bytes of the source or the stored point that are done.
    pub bytes_done: AtomicU64,
    /// Bytes in all.
    pub bytes_total: AtomicU64,
    /// Entries done.
    pub items_done: AtomicU64,
    /// Entries in all.
    pub items_total: AtomicU64,
    /// Bytes sent or fetched.
    pub transferred_bytes: AtomicU64,
}

impl Events {
    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Shared {
            out: Mutex::new(Box::new(out)),
            phase: Mutex::new("starting".to_owned()),
            progress: Progress::default(),
            broken: AtomicBool::new(false),
        }))
    }

    /// Writes to standard output.
    pub fn to_stdout() -> Self {
        Self::new(io::stdout())
    }

    /// Prints one line. A failure is remembered, and nothing is printed after it.
    pub fn emit(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("plain data into memory cannot fail");
        line.push(b'\n');
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_broken() && out.write_all(&line).and_then(|()| out.flush()).is_err() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Prints a warning.
    pub fn warn(&self, code: &str, message: impl Into<String>, path: Option<&RawPath>) {
        self.emit(&Event::Warning(Warning { code: code.to_owned(), message: message.into(), path: path.cloned() }));
    }

    /// Prints a finding.
    pub fn finding(&self, finding: Finding) {
        self.emit(&Event::Finding(finding));
    }

    /// Says what is going on, and prints it at once.
    pub fn phase(&self, phase: &str) {
        phase.clone_into(&mut self.0.phase.lock().unwrap_or_else(PoisonError::into_inner));
        self.emit(&Event::Status(self.status()));
    }

    /// The counters.
    pub fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Whether the reader is gone.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }

    /// Prints `status` lines from a thread of its own until the guard is dropped.
    pub fn heartbeat(&self) -> Heartbeat {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (events, stopped) = (self.clone(), stop.clone());
        let thread = std::thread::spawn(move || beat(&events, &stopped));
        Heartbeat { stop, thread: Some(thread) }
    }

    fn status(&self) -> Status {
        let progress = &self.0.progress;
        let known = |total: &AtomicU64| Some(total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        Status {
            phase: self.0.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_done: progress.bytes_done.load(Ordering::Relaxed),
            bytes_total: known(&progress.bytes_total),
            items_done: progress.items_done.load(Ordering::Relaxed),
            items_total: known(&progress.items_total),
            transferred_bytes: progress.transferred_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Stops the sign of life when dropped.
pub struct Heartbeat {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only prints; had it panicked, the job itself would still be good.
            drop(thread.join());
        }
    }
}

fn beat(events: &Events, stop: &(Mutex<bool>, Condvar)) {
    let mut last = events.status();
    let mut quiet = 0;
    let mut stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        (stopped, _) = stop.1.wait_timeout(stopped, TICK).unwrap_or_else(PoisonError::into_inner);
        if *stopped {
            return;
        }
        let status = events.status();
        quiet += 1;
        if status != last || quiet >= QUIET_TICKS {
            events.emit(&Event::Status(status.clone()));
            (last, quiet) = (status, 0);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Collects what is printed.
    #[derive(Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn events(&self) -> Vec<Event> {
            let text = self.0.lock().unwrap().clone();
            text.split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_whole_and_carry_the_counters() {
        let sink = Sink::default();
        let events = Events::new(sink.clone());
        events.progress().bytes_done.store(7, Ordering::Relaxed);
        events.phase("reading");
        events.warn("changed", "it moved", Some(&RawPath::new("a")));
        let printed = sink.events();
        let Event::Status(status) = &printed[0] else { panic!("{printed:?}") };
        assert_eq!((status.phase.as_str(), status.bytes_done, status.bytes_total), ("reading", 7, None));
        assert!(matches!(&printed[1], Event::Warning(warning) if warning.code == "changed"));
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let events = Events::new(Closed);
        assert!(!events.is_broken());
        events.phase("reading");
        assert!(events.is_broken());
    }

    #[test]
    fn the_heartbeat_ends_with_its_guard() {
        let events = Events::new(Sink::default());
        drop(events.heartbeat());
        assert_eq!(Arc::strong_count(&events.0), 1);
    }
}
