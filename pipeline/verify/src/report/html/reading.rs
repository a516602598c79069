//! How much of everything that is kept was read back, and the restore drills.

use dualsync_model::time::Timestamp;

use super::{Grade, Page};
use crate::report::Report;
use crate::report::around::Drill;
use crate::report::reading::{CopyReading, Reading};
use crate::report::text::bytes;
use crate::side::Side;

impl Report {
    pub(super) fn write_reading(&self, page: &mut Page) {
        let (reading, now) = (&self.around.reading, self.created_at);
        page.raw("<section>\n<h2>How much of everything that is kept was read back, and when</h2>\n<p>");
        let grade = if reading.is_on_time(now) { Grade::Green } else { Grade::Amber };
        page.sign(grade).raw(" <strong>").text(&sentence(&reading.sentence(now))).raw("</strong></p>\n");
        if !reading.copies.is_empty() {
            let caption =
                format!("Stored bytes of each kept copy read against their SHA-256, in {} equal parts", reading.slices);
            page.table(&caption, &["Date", "Block copy", "Archive copy", "Both compared file by file"]);
            for copies in reading.copies.chunk_by(|a, b| a.point == b.point) {
                write_point(page, copies, reading, now);
            }
            page.end_table();
        }
        page.raw("<h3>Restore drills</h3>\n");
        for drill in &self.around.drills {
            write_drill(page, drill, now);
        }
        page.raw("</section>\n");
    }
}

/// One line for both copies of a point.
fn write_point(page: &mut Page, copies: &[CopyReading], reading: &Reading, now: Timestamp) {
    let Some(first) = copies.first() else { return };
    page.raw("<tr><th scope=\"row\">").text(&first.business_date.to_string());
    page.note(&first.point.to_string()).raw("</th>");
    for side in Side::BOTH {
        let Some(copy) = copies.iter().find(|copy| copy.mechanism == side) else {
            page.cell("no copy");
            continue;
        };
        page.raw("<td>");
        page.sign(if reading.is_read(copy, now) { Grade::Green } else { Grade::Amber });
        match copy.oldest_at {
            Some(at) => page.raw(" all parts").note(&format!("the oldest {}", at.utc_date())),
            None => page.text(&format!(" {} of {} parts", copy.slices_read, reading.slices)),
        };
        page.raw("</td>");
    }
    let compared = copies.iter().filter_map(|copy| copy.compared_at).max();
    page.cell(&compared.map_or_else(|| "not yet".to_owned(), |at| at.utc_date().to_string())).raw("</tr>\n");
}

fn write_drill(page: &mut Page, drill: &Drill, now: Timestamp) {
    page.raw("<p>");
    let Some(restore) = &drill.restore else {
        page.sign(Grade::Amber).raw(" ");
        page.text(&format!("{}: none yet. A restore on this host, by anyone, is shown here.", drill.source))
            .raw("</p>\n");
        return;
    };
    let is_good = restore.verified && !restore.is_long_ago(now);
    let grade = if is_good { Grade::Green } else { Grade::Amber };
    let what = if restore.partial { "some files" } else { "everything" };
    let came = if restore.verified {
        "all of it came back and fitted its checksums"
    } else {
        "not all of it came back as it was"
    };
    let words = format!(
        "{}: {}, {what} of {} from the {} copy, {} in {}: {came}.",
        drill.source,
        when(restore.at, now),
        restore.point,
        restore.from,
        bytes(restore.bytes),
        if restore.duration_s == 0 { "less than a second".to_owned() } else { format!("{} s", restore.duration_s) }
    );
    page.sign(grade).raw(" ").text(&words).raw("</p>\n");
}

/// A moment with its age in days.
fn when(at: Timestamp, now: Timestamp) -> String {
    let days = now.seconds_since(at).max(0) / 86_400;
    let age = match days {
        0 => "less than a day ago".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    };
    format!("{}, {age}", at.whole_second())
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}
