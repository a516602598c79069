//! One side's lines, taken one by one: facts pass through in order, everything else is counted.
//!
//! A stream is believed only as long as it keeps to the protocol. The first line out of order,
//! the first error, a line that does not belong to `facts` or `check`, or an end without `summary`
//! ends it, and the side is incomplete from that path on.

use std::collections::HashMap;
use std::error::Error;

use dualsync_model::event::{Event, Failure, Finding, Requests};
use dualsync_model::fact::Fact;
use dualsync_model::path::RawPath;
use serde::Serialize;

/// Most findings that are kept; all are counted.
pub const FINDINGS_MAX: usize = 10_000;

/// Everything one side said, apart from its facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SideRead {
    /// Entries it listed.
    pub entries: u64,
    /// Files whose content it read from its store and hashed, in this job.
    pub content_files: u64,
    /// Their bytes.
    pub content_bytes: u64,
    /// Stored bytes it fetched.
    pub fetched_bytes: u64,
    /// Stored objects it checked or read.
    pub objects: u64,
    /// Requests to its store, in all.
    pub requests: u64,
    /// Warnings it gave.
    pub warnings: u64,
    /// Findings, with those that were not kept; what is said twice about one object is one.
    pub findings_total: u64,
    /// The first [`FINDINGS_MAX`] of them.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// How it ended.
    pub end: End,
}

/// How a side's stream ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// It was never begun: there is no copy on this side.
    #[default]
    Absent,
    /// With its summary: everything was said.
    Complete,
    /// With an error line.
    Failed {
        /// The program's exit code.
        exit_code: u8,
        /// The fixed word.
        code: String,
        /// What failed on what.
        message: String,
    },
    /// Without one: died, hung, garbage, out of order.
    Broken {
        /// What was seen.
        problem: String,
    },
}

impl SideRead {
    /// Files that damage keeps this side from telling of: they are hit by the damaged objects that the point
    /// needs and of which nothing closer is known.
    pub(crate) fn blame(&mut self, untold: &[RawPath]) {
        if !matches!(&self.end, End::Failed { code, .. } if code == "damaged") {
            return;
        }
        let known: Vec<_> = self.findings.iter().filter(|found| !found.paths.is_empty()).map(object).collect();
        let is_open = |found: &&mut Finding| !found.points.is_empty() && !known.contains(&found.object);
        self.findings.iter_mut().filter(is_open).for_each(|found| found.paths = untold.to_vec());
    }
}

fn object(finding: &Finding) -> String {
    finding.object.clone()
}

/// A side that broke the order of its facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum OrderError {
    #[error("'{path}' comes after '{last}': the facts are out of order")]
    Descends { path: RawPath, last: RawPath },
    #[error("'{path}' comes twice")]
    Duplicate { path: RawPath },
}

/// The facts of one side; what else it says is in [`Stream::into_read`].
pub struct Stream<I> {
    lines: I,
    last: Option<RawPath>,
    read: SideRead,
    /// Which finding told of this object and kind; those that were not kept stand there too.
    told: HashMap<(String, String), usize>,
    ended: bool,
}

impl<I, E> Stream<I>
where
    I: Iterator<Item = Result<Event, E>>,
    E: Error,
{
    /// Reads from `lines`, which come from one job.
    pub fn new(lines: I) -> Self {
        Self { lines, last: None, read: SideRead::default(), told: HashMap::new(), ended: false }
    }

    /// Whether the stream has ended with its summary; false until it has ended.
    pub fn is_complete(&self) -> bool {
        self.read.end == End::Complete
    }

    /// What was said, once the facts have been pulled; pulls what is left of them first.
    pub fn into_read(mut self) -> SideRead {
        while self.next().is_some() {}
        self.read
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        self.read.end = end;
    }

    fn broken(&mut self, problem: String) {
        self.end(End::Broken { problem });
    }

    fn take_fact(&mut self, fact: Fact) -> Option<Fact> {
        if let Err(error) = in_order(self.last.as_ref(), &fact.path) {
            self.broken(error.to_string());
            return None;
        }
        self.last = Some(fact.path.clone());
        self.read.entries += 1;
        if fact.sha256.is_some() {
            self.read.content_files += 1;
            self.read.content_bytes = self.read.content_bytes.saturating_add(fact.size);
        }
        Some(fact)
    }

    /// `check` tells what is wrong with an object, `facts` whom it hits: together they are one finding.
    fn take_finding(&mut self, finding: Finding) {
        let number = self.told.len();
        let place = *self.told.entry((finding.object.clone(), finding.kind.clone())).or_insert(number);
        if place < number {
            if let Some(known) = self.read.findings.get_mut(place).filter(|known| known.paths.is_empty()) {
                known.problem = finding.problem;
                known.paths = finding.paths;
            }
            return;
        }
        self.read.findings_total += 1;
        if self.read.findings.len() < FINDINGS_MAX {
            self.read.findings.push(finding);
        }
    }
}

fn in_order(last: Option<&RawPath>, path: &RawPath) -> Result<(), OrderError> {
    match last.map(|last| last.cmp(path)) {
        None | Some(std::cmp::Ordering::Less) => Ok(()),
        Some(std::cmp::Ordering::Equal) => Err(OrderError::Duplicate { path: path.clone() }),
        Some(std::cmp::Ordering::Greater) => {
            Err(OrderError::Descends { path: path.clone(), last: last.cloned().unwrap_or_default() })
        }
    }
}

impl<I, E> Iterator for Stream<I>
where
    I: Iterator<Item = Result<Event, E>>,
    E: Error,
{
    type Item = Fact;

    fn next(&mut self) -> Option<Fact> {
        while !self.ended {
            match self.lines.next() {
                None => self.broken("it ended without a summary".to_owned()),
                Some(Err(error)) => self.broken(with_causes(&error)),
                Some(Ok(Event::Fact(fact))) => {
                    if let Some(fact) = self.take_fact(*fact) {
                        return Some(fact);
                    }
                }
                Some(Ok(Event::Finding(finding))) => self.take_finding(finding),
                Some(Ok(Event::Warning(_))) => self.read.warnings += 1,
                Some(Ok(Event::Hello(_) | Event::Status(_))) => {}
                Some(Ok(Event::Summary(summary))) => {
                    self.read.fetched_bytes = summary.fetched_bytes;
                    self.read.objects = summary.objects;
                    self.read.requests = Requests::total(summary.requests);
                    self.end(End::Complete);
                }
                Some(Ok(Event::Error(Failure { exit_code, code, message, .. }))) => {
                    self.end(End::Failed { exit_code, code, message });
                }
                Some(Ok(
                    Event::Prepared(_)
                    | Event::Committed(_)
                    | Event::Repository(_)
                    | Event::Point(_)
                    | Event::Capability(_)
                    | Event::Retired(_)
                    | Event::Pruned(_)
                    | Event::Evidence(_)
                    | Event::KeySlot(_),
                )) => self.broken("it sent a line that does not belong to this job".to_owned()),
            }
        }
        None
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Lines, file, finding, summary};

    fn read(lines: Lines) -> (Vec<String>, SideRead) {
        let mut stream = Stream::new(lines.into_iter());
        let paths = stream.by_ref().map(|fact| fact.path.to_string()).collect();
        (paths, stream.into_read())
    }

    fn fact(path: &str) -> Event {
        Event::Fact(Box::new(file(path, "x")))
    }

    fn problem(lines: Lines) -> String {
        match read(lines).1.end {
            End::Broken { problem } => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_that_says_everything_is_complete_and_counted() {
        let warning =
            Event::Warning(dualsync_model::event::Warning { code: "clock".into(), message: "slow".into(), path: None });
        let (paths, read) = read(vec![
            Ok(Event::Finding(finding("packs/1", "missing"))),
            Ok(fact("a")),
            Ok(warning),
            Ok(fact("b")),
            Ok(Event::Summary(summary())),
        ]);
        assert_eq!(paths, ["a", "b"]);
        assert_eq!((read.entries, read.content_files, read.content_bytes, read.warnings), (2, 2, 2, 1));
        assert_eq!((read.fetched_bytes, read.objects, read.requests), (4096, 3, 5));
        assert_eq!((read.findings_total, read.findings.len(), read.end), (1, 1, End::Complete));
    }

    #[test]
    fn order_and_doubles_end_the_stream_and_name_the_path() {
        let wrong = problem(vec![Ok(fact("a/b")), Ok(fact("a")), Ok(fact("c")), Ok(Event::Summary(summary()))]);
        assert!(wrong.contains("'a' comes after 'a/b'"), "{wrong}");
        assert!(problem(vec![Ok(fact("a")), Ok(fact("a")), Ok(Event::Summary(summary()))]).contains("'a' comes twice"));
        assert_eq!(read(vec![Ok(fact("b")), Ok(fact("a")), Ok(fact("c"))]).0, ["b"]);
    }

    #[test]
    fn an_early_end_is_never_complete() {
        assert!(problem(vec![Ok(fact("a"))]).contains("without a summary"));
        assert!(problem(vec![]).contains("without a summary"));
        let cause = std::io::Error::other("line 7 is not JSON");
        assert_eq!(problem(vec![Ok(fact("a")), Err(cause), Ok(Event::Summary(summary()))]), "line 7 is not JSON");
        let failure = Failure { exit_code: 12, code: "wrong_key".into(), message: "no".into(), hint: None };
        let (_, read) = read(vec![Ok(Event::Error(failure))]);
        assert!(matches!(read.end, End::Failed { exit_code: 12, .. }));
    }

    #[test]
    fn a_line_of_another_job_ends_the_stream() {
        let strange = Event::Prepared(dualsync_model::event::Prepared { sequence: 1, added_bytes: 1 });
        assert!(problem(vec![Ok(fact("a")), Ok(strange), Ok(Event::Summary(summary()))]).contains("does not belong"));
    }

    #[test]
    fn what_is_wrong_and_whom_it_hits_are_one_finding() {
        let seen = Finding { paths: Vec::new(), ..finding("packs/1", "missing") };
        let hits = Finding { problem: "hits 2 files".into(), ..finding("packs/1", "missing") };
        let lines =
            [seen.clone(), finding("packs/1", "forged"), hits.clone(), seen].map(|found| Ok(Event::Finding(found)));
        let read = read(lines.into_iter().chain([Ok(Event::Summary(summary()))]).collect()).1;
        assert_eq!((read.findings, read.findings_total), (vec![hits, finding("packs/1", "forged")], 2));
    }

    #[test]
    fn findings_are_counted_beyond_those_kept() {
        let many = FINDINGS_MAX + 5;
        let lines = (0..many).map(|number| Ok(Event::Finding(finding(&format!("packs/{number}"), "missing"))));
        let read = read(lines.chain([Ok(Event::Summary(summary()))]).collect()).1;
        assert_eq!((read.findings.len(), read.findings_total), (FINDINGS_MAX, many as u64));
    }
}
