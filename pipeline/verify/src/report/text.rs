//! The report for people.

use std::fmt::{self, Write};

use dualsync_model::event::Finding;

use super::{ContractRow, ContractState, CopyReport, PointReport, Report, Scope};
use crate::difference::{Difference, words};
use crate::side::Side;
use crate::stream::End;
use crate::witness::OneSided;

/// Lines of a list that are shown; the JSON has more.
const SHOWN_MAX: usize = 50;

/// Why a list of files is not there.
pub(super) const NAMELESS: &str =
    "names of files are left out, since this is kept in clear; details.json beside it on the host has them";

impl Report {
    /// Text of several lines, each ended; nothing of it is printed here.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        for point in &self.points {
            point.write(out)?;
            writeln!(out)?;
        }
        self.write_contract(out)?;
        self.write_turn(out)?;
        writeln!(out, "Verdict: {} (exit {}: {})", self.verdict().as_str(), self.exit().code(), self.exit())
    }
}

impl Report {
    /// A line a date; the dates before a side's first point are one line, since nothing is to be seen there.
    fn write_contract(&self, out: &mut String) -> fmt::Result {
        if self.contract.is_empty() {
            return Ok(());
        }
        writeln!(out, "Contract")?;
        let alike = |a: &ContractRow, b: &ContractRow| {
            [a, b].iter().all(|row| row.state == ContractState::BeforeStart)
                && (&a.source, a.mechanism, &a.reason) == (&b.source, b.mechanism, &b.reason)
        };
        for rows in self.contract.chunk_by(alike) {
            if let [row] = rows {
                write_row(out, row, &row.date.to_string(), self.lateness(row))?;
            } else {
                write_row(out, &rows[0], &format!("{} dates", rows.len()), None)?;
            }
        }
        writeln!(out)
    }
}

impl Report {
    /// Of a verify that was a turn of the rotation: what it read, and how far the whole is.
    fn write_turn(&self, out: &mut String) -> fmt::Result {
        let Some(turn) = &self.around.turn else { return Ok(()) };
        writeln!(out, "Rotation of {}: part {} of the stored objects of every kept point", turn.date, turn.slice)?;
        for at in &turn.targets {
            let result = at.failure.clone().unwrap_or_else(|| format!("{} missing or wrong", at.findings.len()));
            let read = format!("{} objects of {} points, {}", at.objects, at.points, bytes(at.fetched_bytes));
            writeln!(out, "  {}: {read}; {result}", at.target)?;
            for finding in &at.findings {
                writeln!(out, "    {finding}")?;
            }
        }
        writeln!(out, "Read back: {}\n", self.around.reading.sentence(self.created_at))
    }
}

fn write_row(out: &mut String, row: &ContractRow, dates: &str, late: Option<String>) -> fmt::Result {
    let state = match row.state {
        ContractState::Green if late.is_some() => "amber",
        ContractState::Green => "green",
        ContractState::Amber => "amber",
        ContractState::Red => "RED",
        ContractState::BeforeStart => "before start",
    };
    let reason = if row.reason.is_empty() { String::new() } else { format!(", {}", row.reason) };
    let reason = late.map_or(reason.clone(), |late| format!("{reason}, {late}"));
    writeln!(out, "  {} {dates} {} in {}: {state}{reason}", row.source, row.mechanism, row.country)
}

impl PointReport {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}: {}", self.point, self.verdict.as_str())?;
        let stood = if self.frozen { "frozen" } else { "not frozen" };
        writeln!(
            out,
            "  snapshot {} by {}, {stood}, for {}",
            self.snapshot_id, self.snapshot_method, self.business_date
        )?;
        writeln!(out, "  compared: {}", scope(self.scope))?;
        for (side, copy) in self.copies.iter() {
            write_copy(out, side, copy)?;
        }
        if self.compared {
            let witness = &self.witness;
            write!(out, "  both say the same of {} entries; ", witness.entries)?;
            writeln!(
                out,
                "{} files ({}) have one SHA-256 on both sides",
                witness.content_files,
                bytes(witness.content_bytes)
            )?;
        }
        self.write_differences(out)?;
        for (reason, count) in &self.explained {
            writeln!(out, "  explained: {count} {}", reason.text())?;
        }
        self.write_one_sided(out)?;
        self.write_findings(out)
    }

    fn write_differences(&self, out: &mut String) -> fmt::Result {
        let differences = &self.differences;
        if differences.total == 0 {
            return Ok(());
        }
        if differences.first.is_empty() {
            return writeln!(out, "  differences: {}; {NAMELESS}", differences.counts());
        }
        writeln!(out, "  differences: {}", differences.total)?;
        for difference in differences.first.iter().take(SHOWN_MAX) {
            write_difference(out, difference)?;
        }
        write_more(out, differences.total, differences.first.len())
    }

    fn write_one_sided(&self, out: &mut String) -> fmt::Result {
        let witness = &self.witness;
        for (what, count) in [
            ("file contents", witness.content),
            ("extended attributes", witness.xattrs),
            ("link targets and device numbers", witness.targets),
            ("entries after a side had ended", witness.unheard),
        ] {
            write_one_sided(out, what, count)?;
        }
        if witness.times_to_the_second > 0 {
            writeln!(out, "  compared to the second only: times of {} entries", witness.times_to_the_second)?;
        }
        if witness.links_unchecked > 0 {
            writeln!(out, "  not compared: hard links of {} entries, too many groups", witness.links_unchecked)?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String) -> fmt::Result {
        for (side, copy) in self.copies.iter() {
            if copy.read.findings_total == 0 {
                continue;
            }
            writeln!(out, "  findings on the {side} side: {}", copy.read.findings_total)?;
            for finding in copy.read.findings.iter().take(SHOWN_MAX) {
                write_finding(out, finding)?;
            }
            write_more(out, copy.read.findings_total, copy.read.findings.len())?;
        }
        Ok(())
    }
}

pub(super) fn scope(scope: Scope) -> String {
    match scope {
        Scope::Full => "every entry and all content, read back from both stores".to_owned(),
        Scope::Slice(slice) => format!("every entry, and the content of slice {slice}, read back from both stores"),
        Scope::Objects(None) => {
            "nothing; the stored bytes of every object were checked against their digests".to_owned()
        }
        Scope::Objects(Some(slice)) => {
            format!("nothing; the stored bytes of the objects of slice {slice} were checked against their digests")
        }
        Scope::Presence => "nothing; every object was looked for in the listing".to_owned(),
    }
}

fn write_copy(out: &mut String, side: Side, copy: &CopyReport) -> fmt::Result {
    writeln!(out, "  {side} copy in {} ({})", copy.target.target, copy.target.country)?;
    match (&copy.manifest, copy.sequence) {
        (Some(manifest), Some(sequence)) => writeln!(out, "    manifest {sequence}: {manifest}")?,
        _ => writeln!(out, "    no manifest")?,
    }
    let read = &copy.read;
    let content = bytes(read.content_bytes);
    write!(out, "    read back: {} entries, {} files ({content}); ", read.entries, read.content_files)?;
    write!(out, "{} fetched, {} objects, {} requests", bytes(read.fetched_bytes), read.objects, read.requests)?;
    if read.warnings > 0 {
        write!(out, ", {} warnings", read.warnings)?;
    }
    match &read.end {
        End::Complete => writeln!(out),
        End::Absent => writeln!(out, "; no copy was seen there"),
        End::Failed { code, message, exit_code } => writeln!(out, "; it failed ({exit_code}, {code}): {message}"),
        End::Broken { problem } => writeln!(out, "; it was not heard to the end: {problem}"),
    }
}

fn write_difference(out: &mut String, difference: &Difference) -> fmt::Result {
    let Difference { path, kind, block, archive, culprit, reason } = difference;
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    write!(out, "    {path}: {} ", words(kind))?;
    writeln!(out, "block {}, archive {}; wrong: {} ({reason})", word(block), word(archive), words(culprit))
}

fn write_finding(out: &mut String, finding: &Finding) -> fmt::Result {
    write!(out, "    {} {}: {}, {}", finding.target, finding.object, finding.kind, finding.problem)?;
    if let Some((first, rest)) = finding.paths.split_first() {
        write!(out, "; hits {first}")?;
        for path in rest.iter().take(4) {
            write!(out, ", {path}")?;
        }
        if rest.len() > 4 {
            write!(out, " and {} more files", rest.len() - 4)?;
        }
    }
    writeln!(out)
}

fn write_more(out: &mut String, total: u64, kept: usize) -> fmt::Result {
    let shown = kept.min(SHOWN_MAX) as u64;
    if total > shown { writeln!(out, "    and {} more", total - shown) } else { Ok(()) }
}

fn write_one_sided(out: &mut String, what: &str, count: OneSided) -> fmt::Result {
    for (who, count) in [
        ("only the block copy", count.block_only),
        ("only the archive copy", count.archive_only),
        ("neither copy", count.neither),
    ] {
        if count > 0 {
            writeln!(out, "  witnessed by {who}: {what} of {count} entries")?;
        }
    }
    Ok(())
}

/// Bytes in binary units, for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::{Aspect, Culprit};

    #[test]
    fn bytes_have_binary_units() {
        let text = [0, 1023, 1024, 1536, 1 << 20, u64::MAX].map(bytes);
        assert_eq!(text, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "15.9 EiB"]);
    }

    #[test]
    fn names_are_words() {
        assert_eq!(words(&Aspect::HardLink), "hard link");
        assert_eq!(words(&Culprit::Unknown), "unknown");
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let more = |total, kept| {
            let mut text = String::new();
            write_more(&mut text, total, kept).unwrap();
            text
        };
        assert_eq!(more(3, 3), "");
        assert_eq!(more(70, 70), "    and 20 more\n");
        assert_eq!(more(20_000, 10_000), "    and 19950 more\n");
        assert_eq!(more(9, 4), "    and 5 more\n");
    }
}
