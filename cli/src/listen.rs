//! Hears one writer to its end and keeps what it said.

use dualsync_model::event::{
    Capability, Event, Evidence, Finding, Point, Pruned, Repository, Retired, Status, Summary, Warning,
};
use dualsync_model::keys::KeySlot;

use crate::human;
use crate::writer::{Writer, WriterError};

/// Everything that was said up to the end, good or bad: what came before a failure still counts.
#[derive(Debug, Default)]
pub struct Heard {
    /// Of `init`.
    pub repository: Option<Repository>,
    /// Of `list`.
    pub points: Vec<Point>,
    /// Of `probe`.
    pub capabilities: Vec<Capability>,
    /// Of `prune`: what became of each copy.
    pub retired: Vec<Retired>,
    /// Of `prune`: the whole.
    pub pruned: Option<Pruned>,
    /// Of `evidence`.
    pub evidence: Vec<Evidence>,
    /// Of `keys`.
    pub key_slots: Vec<KeySlot>,
    /// Missing or wrong objects.
    pub findings: Vec<Finding>,
    /// What did not stop the work.
    pub warnings: Vec<Warning>,
    /// The last line of a job that was done.
    pub summary: Option<Summary>,
    /// Why it was not.
    pub error: Option<WriterError>,
}

/// A warning in one line.
pub fn words(warning: &Warning) -> String {
    match &warning.path {
        Some(path) => human::about(&path.to_string(), &warning.message),
        None => warning.message.clone(),
    }
}

/// Hears a writer that takes no commands; `progress` is told each status as it comes.
pub async fn listen(started: Result<Writer, WriterError>, mut progress: impl FnMut(&Status)) -> Heard {
    let mut heard = Heard::default();
    let mut writer = match started {
        Ok(writer) => writer,
        Err(error) => return Heard { error: Some(error), ..heard },
    };
    loop {
        match writer.next().await {
            Ok(Event::Status(status)) => progress(&status),
            Ok(Event::Warning(warning)) => heard.warnings.push(warning),
            Ok(Event::Repository(repository)) => heard.repository = Some(repository),
            Ok(Event::Point(point)) => heard.points.push(*point),
            Ok(Event::Capability(capability)) => heard.capabilities.push(capability),
            Ok(Event::Finding(finding)) => heard.findings.push(finding),
            Ok(Event::Retired(retired)) => heard.retired.push(retired),
            Ok(Event::Pruned(pruned)) => heard.pruned = Some(pruned),
            Ok(Event::Evidence(evidence)) => heard.evidence.push(evidence),
            Ok(Event::KeySlot(slot)) => heard.key_slots.push(slot),
            Ok(Event::Summary(summary)) => {
                heard.summary = Some(summary);
                return heard;
            }
            Ok(Event::Hello(_) | Event::Prepared(_) | Event::Committed(_) | Event::Fact(_) | Event::Error(_)) => {
                heard.error = Some(writer.reject("an event that this verb does not have"));
                return heard;
            }
            Err(error) => {
                heard.error = Some(error);
                return heard;
            }
        }
    }
}
