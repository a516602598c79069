//! One line for Nagios and its kin, with performance data, and their four exit codes
//! (<https://nagios-plugins.org/doc/guidelines.html>).

use std::fmt::Write as _;

use dualsync_model::outcome::Exit;

use super::Status;
use crate::exit::Ending;
use crate::status::{self, Level};

/// The line, ended.
pub fn line(status: &Status) -> String {
    let mut told = Vec::new();
    for source in &status.sources {
        for (mechanism, side) in source.copies.iter() {
            let problems = side.problems.iter();
            told.extend(
                problems.map(|problem| format!("{} {mechanism} in {}: {problem}", source.source, side.country)),
            );
        }
    }
    let summary = status::summary(&status.sources);
    let words = if told.is_empty() { summary } else { format!("{}; {summary}", told.join("; ")) };
    format!("DUALSYNC {} - {} |{}\n", word(status.level), plain(&words), performance(status))
}

/// The line of a check that could not be made.
pub fn unknown(error: &anyhow::Error) -> String {
    format!("DUALSYNC {} - {}\n", word(Level::Unknown), plain(&format!("{error:#}")))
}

/// A Nagios plugin ends with 0 to 3; no other command of dualsync gives these numbers that meaning.
pub fn ending(level: Level) -> Ending {
    let code = match level {
        Level::Ok => 0,
        Level::Warning => 1,
        Level::Critical => 2,
        Level::Unknown => 3,
    };
    Ending { exits: vec![Exit::from_code(code)], message: None, details: Vec::new(), hint: None }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "OK",
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
        Level::Unknown => "UNKNOWN",
    }
}

/// The bar and the line's end have a meaning of their own.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter == '|' || letter.is_control() { ' ' } else { letter }).collect()
}

/// `'LABEL'=VALUE[UNIT];WARN;CRITICAL;MIN`; `U` for what is not known.
fn performance(status: &Status) -> String {
    let mut text = String::new();
    for source in &status.sources {
        let name = &source.source;
        let limits = source.thresholds.map_or_else(
            || ";;".to_owned(),
            |limits| format!(";{};{}", limits.warn.as_secs(), limits.critical.as_secs()),
        );
        for (mechanism, side) in source.copies.iter() {
            let age = side.newest.as_ref().map_or_else(|| "U".to_owned(), |newest| format!("{}s", newest.age_s));
            let gaps = if side.answered { side.contract.red.to_string() } else { "U".to_owned() };
            // Writing to a String cannot fail.
            let _ = write!(text, " '{name}_{mechanism}_age'={age}{limits};0 '{name}_{mechanism}_gaps'={gaps};;0;0");
        }
    }
    text
}
