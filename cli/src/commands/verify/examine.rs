//! Starts what reads a point back on both sides and hands their lines to the comparison.
//!
//! First the stored objects are looked at (`check`), then, unless only they were asked for, both copies
//! are read back (`facts`) and compared while they come: the comparison pulls, so the slower side sets the
//! pace and memory holds a few lines of each.

use std::cell::RefCell;

use anyhow::Context;
use dualsync_model::event::Event;
use dualsync_model::id::PointId;
use dualsync_model::job::{CheckTask, Depth, FactsTask, Task};
use dualsync_model::slice::Slice;
use dualsync_verify::examine::{Examined, check_only, compare, one_sided};
use dualsync_verify::exclude::Exclude;
use dualsync_verify::pair::Copies;
use dualsync_verify::report::Scope;
use dualsync_verify::side::Both;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use super::{is_deep, scope};
use crate::app::App;
use crate::args::VerifyArgs;
use crate::listen::listen;
use crate::mechanism::{Mechanism, Pair};
use crate::output::Progress;
use crate::retention::side_of;
use crate::writer::{Writer, WriterError};

/// Lines that wait between a writer and the comparison.
const LINES_WAITING: usize = 1024;

type Line = Result<Event, WriterError>;

/// Everything that is found about `copies`; `targets` names who holds them.
pub async fn examine(
    app: &App<'_>,
    args: &VerifyArgs,
    slice: Option<Slice>,
    copies: &Copies,
    targets: &Both<Option<String>>,
) -> anyhow::Result<Examined> {
    let bench = Bench { app, args, slice, copies, targets };
    let Some(first) = copies.block.as_ref().or(copies.archive.as_ref()) else { return Ok(Examined::default()) };
    let there = Pair::new(|mechanism| copies.get(side_of(mechanism)).is_some());
    let progress = RefCell::new(app.output.progress(&first.point.to_string(), &there));
    let (block, archive) =
        tokio::join!(bench.check(Mechanism::Block, &progress), bench.check(Mechanism::Archive, &progress));
    if matches!(scope(args, slice), Scope::Objects(_) | Scope::Presence) {
        return Ok(match (block, archive) {
            (Some(block), Some(archive)) => check_only(block.whole().into_iter(), archive.whole().into_iter()),
            (Some(checked), None) => one_sided(side_of(Mechanism::Block), checked.whole().into_iter()),
            (None, Some(checked)) => one_sided(side_of(Mechanism::Archive), checked.whole().into_iter()),
            (None, None) => Examined::default(),
        });
    }
    bench.read_back(block, archive, &first.point, &progress).await
}

/// What the look at the stored objects said.
struct Checked {
    /// Its findings, as lines.
    findings: Vec<Line>,
    /// How it ended: a summary, or why not.
    end: Line,
}

impl Checked {
    /// As the whole stream of a side.
    fn whole(self) -> Vec<Line> {
        self.findings.into_iter().chain([self.end]).collect()
    }

    /// Whether it was done; damage that it found is a result, no failure.
    fn is_done(&self) -> bool {
        match &self.end {
            Ok(Event::Error(failure)) => failure.code == "damaged",
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

struct Bench<'a> {
    app: &'a App<'a>,
    args: &'a VerifyArgs,
    slice: Option<Slice>,
    copies: &'a Copies,
    targets: &'a Both<Option<String>>,
}

impl Bench<'_> {
    /// Looks at the stored objects of one copy; `None` where there is none.
    async fn check(&self, mechanism: Mechanism, progress: &RefCell<Progress<'_>>) -> Option<Checked> {
        let point = self.copies.get(side_of(mechanism)).as_ref()?;
        let deep = is_deep(self.args);
        let task = Task::Check(CheckTask {
            point: Some(point.point.clone()),
            depth: if deep { Depth::Objects } else { Depth::Presence },
            slice: self.slice,
        });
        let writer = self.start(mechanism, task).await;
        let heard = listen(writer, |status| progress.borrow_mut().update(mechanism, status)).await;
        let findings = heard.findings.into_iter().map(|finding| Ok(Event::Finding(finding))).collect();
        let end = heard.error.map_or_else(|| Ok(Event::Summary(heard.summary.unwrap_or_default())), as_line);
        Some(Checked { findings, end })
    }

    async fn start(&self, mechanism: Mechanism, task: Task) -> Result<Writer, WriterError> {
        let name = self.targets.get(side_of(mechanism)).as_deref().unwrap_or_default();
        match self.app.settings.targets.get(name) {
            Some(target) => self.app.start(target, None, task).await,
            None => Err(WriterError::silent(mechanism, "its target")),
        }
    }

    /// Reads back what is there and compares it.
    async fn read_back(
        &self,
        block: Option<Checked>,
        archive: Option<Checked>,
        point: &PointId,
        progress: &RefCell<Progress<'_>>,
    ) -> anyhow::Result<Examined> {
        let (block_lines, block) = self.lines(Mechanism::Block, block, point, progress);
        let (archive_lines, archive) = self.lines(Mechanism::Archive, archive, point, progress);
        let copies = (self.copies.block.as_ref(), self.copies.archive.as_ref());
        let comparison = match copies {
            (Some(block), Some(archive)) => {
                let exclude = Exclude::new(&archive.exclude).context("the archive copy cannot be compared")?;
                let frozen = block.frozen && archive.frozen;
                spawn_blocking(move || compare(exclude, frozen, block_lines, archive_lines))
            }
            (Some(_), None) => spawn_blocking(move || one_sided(side_of(Mechanism::Block), block_lines)),
            (None, _) => spawn_blocking(move || one_sided(side_of(Mechanism::Archive), archive_lines)),
        };
        let (found, (), ()) = tokio::join!(comparison, block, archive);
        found.context("the comparison failed")
    }

    /// The lines of one side, and the work that makes them come.
    fn lines<'a>(
        &'a self,
        mechanism: Mechanism,
        checked: Option<Checked>,
        point: &'a PointId,
        progress: &'a RefCell<Progress<'_>>,
    ) -> (Lines, impl Future<Output = ()> + 'a) {
        let (sender, receiver) = channel(LINES_WAITING);
        let task = FactsTask {
            point: point.clone(),
            slice: self.slice,
            kernel_mount: self.app.settings.source(point.source().as_str()).is_some(),
        };
        let work = async move {
            let Some(checked) = checked else { return };
            let done = checked.is_done();
            for line in checked.findings {
                // The comparison went away: it has what it needs.
                let _ = sender.send(line).await;
            }
            if !done {
                let _ = sender.send(checked.end).await;
                return;
            }
            let writer = self.start(mechanism, Task::Facts(task)).await;
            pump(mechanism, writer, &sender, progress).await;
        };
        (Lines(receiver), work)
    }
}

/// Hands on what a writer says until it ends or nobody listens any more.
async fn pump(
    mechanism: Mechanism,
    writer: Result<Writer, WriterError>,
    sender: &Sender<Line>,
    progress: &RefCell<Progress<'_>>,
) {
    let mut writer = match writer {
        Ok(writer) => writer,
        Err(error) => return drop(sender.send(as_line(error)).await),
    };
    loop {
        let line = match writer.next().await {
            Ok(Event::Status(status)) => {
                progress.borrow_mut().update(mechanism, &status);
                continue;
            }
            Ok(event) => Ok(event),
            Err(error) => as_line(error),
        };
        let last = matches!(line, Err(_) | Ok(Event::Summary(_) | Event::Error(_)));
        if sender.send(line).await.is_err() || last {
            return;
        }
    }
}

/// What a writer said itself is a line of the protocol; everything else is an error of the stream.
fn as_line(error: WriterError) -> Line {
    match error {
        WriterError::Failed { failure, .. } => Ok(Event::Error(failure)),
        error => Err(error),
    }
}

/// The receiving end, for a thread that may wait.
struct Lines(Receiver<Line>);

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        self.0.blocking_recv()
    }
}
