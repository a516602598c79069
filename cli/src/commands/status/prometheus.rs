//! A text file for the textfile collector of Prometheus' node exporter
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). The names are documented in `docs/semantics.md`
//! and never change their meaning.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::{Status, replace, standings};
use crate::status::{Level, SideStatus, SourceStatus};

/// Replaces the file at `path`; a collector sees the old one or the new one.
pub fn write(path: &Path, status: &Status) -> io::Result<()> {
    replace(path, &text(status))
}

/// One family of metrics: its name, what it is, its lines.
struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a line; a value that is not known has none.
    fn line(&mut self, labels: &[(&str, &str)], value: Option<impl ToString>) {
        let Some(value) = value else { return };
        let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{}{labels} {}", self.name, value.to_string());
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let family = |out: &mut String, name: &'static str, help: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    };
    let mut add = |name: &'static str, help: &str, lines: &dyn Fn(&mut Family<'_>)| {
        family(&mut out, name, help);
        lines(&mut Family { out: &mut out, name });
    };
    add("dualsync_status_timestamp_seconds", "When the stores were asked, Unix time.", &|family| {
        family.line(&[], Some(status.at.seconds()));
    });
    add("dualsync_target_up", "1 when the store answered, else 0.", &|family| {
        for target in &status.targets {
            let labels = [("target", target.target.as_str()), ("mechanism", target.mechanism)];
            family.line(&labels, Some(u8::from(target.answered)));
        }
    });
    add("dualsync_source_level", "0 ok, 1 warning, 2 critical, 3 not known.", &|family| {
        for source in &status.sources {
            family.line(&[("source", source.source.as_str())], Some(number(source.level)));
        }
    });
    add(
        "dualsync_source_state",
        "1 for the state that holds: which sides have a good copy that is not too old.",
        &|family| {
            for source in &status.sources {
                for (state, value) in standings(source) {
                    family.line(&[("source", source.source.as_str()), ("state", state)], Some(value));
                }
            }
        },
    );
    sides(&mut add, status);
    add(
        "dualsync_last_verify_timestamp_seconds",
        "When a point of the source was last verified, Unix time.",
        &|family| {
            for source in &status.sources {
                family.line(
                    &[("source", source.source.as_str())],
                    source.last_verify.map(dualsync_model::time::Timestamp::seconds),
                );
            }
        },
    );
    let report = status.evidence.as_ref();
    add("dualsync_report_number", "Number of the newest report of verify that this host made.", &|family| {
        family.line(&[], report.map(|report| report.number));
    });
    add("dualsync_report_timestamp_seconds", "When it was made, Unix time.", &|family| {
        family.line(&[], report.map(|report| report.at.seconds()));
    });
    add("dualsync_report_kept", "Number of stores that confirmed that they keep it.", &|family| {
        family.line(&[], report.map(|report| report.kept.len()));
    });
    out
}

/// A state and how many of a side are in it.
type Count = (&'static str, fn(&SideStatus) -> usize);

/// The metrics that each side of a source has.
fn sides(add: &mut impl FnMut(&'static str, &str, &dyn Fn(&mut Family<'_>)), status: &Status) {
    let each = |family: &mut Family<'_>,
                extra: &[(&str, &str)],
                value: &dyn Fn(&SourceStatus, &SideStatus) -> Option<String>| {
        for source in &status.sources {
            for (mechanism, side) in source.copies.iter() {
                let own = [
                    ("source", source.source.as_str()),
                    ("mechanism", mechanism.as_str()),
                    ("country", side.country.as_str()),
                ];
                family.line(&[&own, extra].concat(), value(source, side));
            }
        }
    };
    add(
        "dualsync_newest_copy_timestamp_seconds",
        "Snapshot time of the newest good copy, Unix time; absent when there is none.",
        &|family| {
            each(family, &[], &|_, side| side.newest.as_ref().map(|newest| newest.created_at.seconds().to_string()));
        },
    );
    add("dualsync_newest_copy_age_seconds", "Age of the newest good copy when the stores were asked.", &|family| {
        each(family, &[], &|_, side| side.newest.as_ref().map(|newest| newest.age_s.to_string()));
    });
    add(
        "dualsync_contract_dates",
        "Dates of the contract: green there, amber replaced by an earlier day, red missing.",
        &|family| {
            let of: [Count; 3] = [
                ("green", |side| side.contract.green),
                ("amber", |side| side.contract.amber),
                ("red", |side| side.contract.red),
            ];
            for (state, count) in of {
                each(family, &[("state", state)], &|_, side| side.answered.then(|| count(side).to_string()));
            }
        },
    );
    add(
        "dualsync_bad_copies",
        "Kept copies that are damaged, and copies that are missing although their date is needed.",
        &|family| {
            let of: [Count; 2] = [("damaged", |side| side.damaged.len()), ("missing", |side| side.missing.len())];
            for (state, count) in of {
                each(family, &[("state", state)], &|_, side| side.answered.then(|| count(side).to_string()));
            }
        },
    );
}

/// The number of a level, as Nagios has them.
const fn number(level: Level) -> u8 {
    match level {
        Level::Ok => 0,
        Level::Warning => 1,
        Level::Critical => 2,
        Level::Unknown => 3,
    }
}
