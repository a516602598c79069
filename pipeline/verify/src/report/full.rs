//! The report as text for people, whole: what [`Report::text`] tells, and what stands around it.

use std::fmt::{self, Write};

use super::around::{Grade, TargetFacts};
use super::{Report, html};

impl Report {
    /// Text of several lines, each ended; nothing of it is printed here.
    pub fn full_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_full(&mut text);
        text
    }

    fn write_full(&self, out: &mut String) -> fmt::Result {
        let title = self.title();
        writeln!(out, "{title}\n{}\n", "=".repeat(title.chars().count()))?;
        writeln!(out, "Made {} by dualsync {}", self.created_at.whole_second(), self.around.version)?;
        writeln!(out, "{} {}", html::word(self.grade()), self.headline())?;
        for reason in self.reasons() {
            writeln!(out, "  {} {}", mark(reason.grade), reason.words)?;
        }
        writeln!(out, "\nCompared now\n")?;
        out.push_str(&self.text());
        self.write_reading_text(out)?;
        writeln!(out, "\nWhere the copies are")?;
        for target in &self.around.targets {
            write_target(out, target)?;
        }
        writeln!(out, "\nWhat the two copies share")?;
        for shared in &self.around.shared {
            writeln!(out, "  {} {}: {}", mark(shared.statement.grade), shared.subject, shared.statement.words)?;
        }
        self.write_chain_text(out)?;
        writeln!(out, "\nExit code {}", self.exit_words())
    }

    fn write_reading_text(&self, out: &mut String) -> fmt::Result {
        let reading = &self.around.reading;
        writeln!(out, "\nRead back: {}", reading.sentence(self.created_at))?;
        for copy in &reading.copies {
            write!(out, "  {} {} {}: ", copy.business_date, copy.point, copy.mechanism)?;
            write!(out, "{} of {} parts", copy.slices_read, reading.slices)?;
            match copy.oldest_at {
                Some(at) => write!(out, ", the oldest {}", at.whole_second())?,
                None => write!(out, ", not all yet")?,
            }
            match copy.compared_at {
                Some(at) => writeln!(out, "; all files compared {}", at.whole_second())?,
                None => writeln!(out, "; files not all compared yet")?,
            }
        }
        writeln!(out, "\nRestore drills")?;
        for drill in &self.around.drills {
            match &drill.restore {
                None => writeln!(out, "  {}: none yet", drill.source)?,
                Some(restore) => writeln!(
                    out,
                    "  {}: {} from the {} copy at {}, {}, {}",
                    drill.source,
                    restore.point,
                    restore.from,
                    restore.at.whole_second(),
                    super::bytes(restore.bytes),
                    if restore.verified { "all came back" } else { "NOT all came back" }
                )?,
            }
        }
        Ok(())
    }

    fn write_chain_text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nChain of reports")?;
        match &self.around.previous {
            Some(previous) => writeln!(out, "  the report before: SHA-256 {previous}")?,
            None => writeln!(out, "  the report before: none")?,
        }
        for shelf in &self.around.chain {
            let newest = shelf.newest.map_or_else(|| "none".to_owned(), |number| number.to_string());
            writeln!(out, "  {}: {} reports, the newest {newest}", shelf.target, shelf.reports)?;
            if let Some(away) = &shelf.away {
                writeln!(out, "    away: {away}")?;
            }
            for fault in &shelf.faults {
                writeln!(out, "    FAULT: report {} {}", fault.number, fault.problem)?;
            }
        }
        Ok(())
    }
}

fn write_target(out: &mut String, target: &TargetFacts) -> fmt::Result {
    writeln!(out, "  {} ({} copies)", target.target, target.mechanism)?;
    let mut line = |label: &str, value: &str| writeln!(out, "    {label:<16} {value}");
    line("country", &format!("{}, {}", target.country, target.basis.text()))?;
    line("provider", target.provider.as_deref().unwrap_or("not named"))?;
    if let Some(region) = &target.region {
        line("region", region)?;
    }
    line("place", &target.place)?;
    line("encryption", &target.encryption)?;
    line("repository", target.repository.as_deref().unwrap_or("not known"))?;
    for (label, value) in &target.keys {
        line(label, value)?;
    }
    if let Some(away) = &target.away {
        line("state", &format!("the store did not answer: {away}"))?;
    }
    match &target.newest {
        Some(newest) => line("newest manifest", &format!("number {}, SHA-256 {}", newest.sequence, newest.sha256))?,
        None => line("newest manifest", "none yet")?,
    }
    for statement in &target.statements {
        writeln!(out, "    {} {}", mark(statement.grade), statement.words)?;
    }
    Ok(())
}

const fn mark(grade: Grade) -> &'static str {
    match grade {
        Grade::Green => "good ",
        Grade::Amber => "amber",
        Grade::Red => "RED  ",
    }
}
