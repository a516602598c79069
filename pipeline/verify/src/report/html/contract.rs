//! Date by date, a column for each country.

use super::{Grade, Page, class};
use crate::report::{ContractRow, ContractState, Report};
use crate::side::Side;
use dualsync_model::id::SourceName;
use dualsync_model::time::Date;

impl Report {
    pub(super) fn write_contract_page(&self, page: &mut Page) {
        page.raw("<section>\n<h2>The contract: which dates can be restored from which country</h2>\n");
        let sources = self.sources();
        if sources.is_empty() {
            page.raw("<p>No date is due yet, so nothing is asked for.</p>\n");
        }
        for source in sources {
            self.write_source(page, source);
        }
        page.raw("</section>\n");
    }

    fn write_source(&self, page: &mut Page, source: &SourceName) {
        let rows: Vec<_> = self.contract.iter().filter(|row| row.source == *source).collect();
        page.raw("<h3>").text(&format!("Source {source}")).raw("</h3>\n");
        if let Some(facts) = self.around.sources.iter().find(|facts| facts.source == *source) {
            page.raw("<p class=\"soft\">")
                .text(&format!("Promised: {}. {}", facts.promise, facts.snapshot))
                .raw("</p>\n");
        }
        write_counts(page, &rows);
        let country = |side| rows.iter().find(|row| row.mechanism == side).map_or("", |row| row.country.as_str());
        let columns = Side::BOTH.map(|side| format!("{}, {side} copy", country(side)));
        let caption = format!("Dates that the contract needs of {source}, newest first");
        page.table(&caption, &["Date", &columns[0], &columns[1]]);
        let mut dates: Vec<Date> = rows.iter().map(|row| row.date).collect();
        dates.sort_unstable_by(|a, b| b.cmp(a));
        dates.dedup();
        let of = |date: Date, side| rows.iter().find(|row| row.date == date && row.mechanism == side).copied();
        let early = |date: &Date| {
            Side::BOTH.into_iter().all(|side| of(*date, side).is_none_or(|row| row.state == ContractState::BeforeStart))
        };
        let (before, shown): (Vec<_>, Vec<_>) = dates.into_iter().partition(early);
        for date in shown {
            let needs = Side::BOTH.into_iter().find_map(|side| of(date, side)).map_or("", |row| row.needs.as_str());
            page.raw("<tr><th scope=\"row\">").text(&date.to_string()).raw("<small>").text(needs).raw("</small></th>");
            for side in Side::BOTH {
                self.write_cell(page, of(date, side));
            }
            page.raw("</tr>\n");
        }
        write_before(page, &before);
        page.end_table();
    }

    fn write_cell(&self, page: &mut Page, row: Option<&ContractRow>) {
        let Some(row) = row else {
            page.raw("<td><span class=\"sign none\" aria-hidden=\"true\">\u{2013}</span> not asked for</td>");
            return;
        };
        let late = self.lateness(row);
        let (grade, word) = match row.state {
            ContractState::Green if late.is_some() => (Grade::Amber, "there"),
            ContractState::Green => (Grade::Green, "there"),
            ContractState::Amber => (Grade::Amber, "stands in"),
            ContractState::Red => (Grade::Red, "missing"),
            ContractState::BeforeStart => {
                page.raw("<td><span class=\"sign none\" aria-hidden=\"true\">\u{2013}</span> not asked for");
                page.raw("<small>before the first copy</small></td>");
                return;
            }
        };
        page.raw("<td class=\"").raw(class(grade)).raw("\">").sign(grade).raw(" <strong>").raw(word).raw("</strong>");
        if row.state != ContractState::Green && !row.reason.is_empty() {
            page.note(&row.reason);
        }
        if let Some(point) = &row.point {
            page.note(&format!("point {point}"));
            page.note(&late.unwrap_or_else(|| self.read_back(point, row.mechanism)));
        }
        page.raw("</td>");
    }

    /// How well the copy that counts is known.
    fn read_back(&self, point: &dualsync_model::id::PointId, side: Side) -> String {
        let slices = self.around.reading.slices;
        match self.around.reading.of(point, side) {
            Some(copy) if copy.compared_at.is_some() => {
                let at = copy.compared_at.map(|at| at.utc_date().to_string()).unwrap_or_default();
                format!("all files compared {at}")
            }
            Some(copy) if copy.is_whole() => "all stored bytes read back".to_owned(),
            Some(copy) if copy.slices_read > 0 => format!("{} of {slices} parts read back", copy.slices_read),
            _ => "not read back yet".to_owned(),
        }
    }
}

/// How many of the dates that are asked for are there, in each country.
fn write_counts(page: &mut Page, rows: &[&ContractRow]) {
    page.raw("<p>");
    for (at, side) in Side::BOTH.into_iter().enumerate() {
        let of = |state| rows.iter().filter(|row| row.mechanism == side && row.state == state).count();
        let (green, amber) = (of(ContractState::Green), of(ContractState::Amber));
        let asked = green + amber + of(ContractState::Red);
        let country = rows.iter().find(|row| row.mechanism == side).map_or("", |row| row.country.as_str());
        let stands = if amber > 0 { format!(" and {amber} replaced") } else { String::new() };
        page.raw(if at > 0 { " " } else { "" });
        page.text(&format!("{country} ({side} copy): {green} of {asked} dates are there{stands}."));
    }
    page.raw("</p>\n");
}

/// The dates before the first copy are one line: there is nothing to be seen.
fn write_before(page: &mut Page, dates: &[Date]) {
    let (Some(last), Some(first)) = (dates.first(), dates.last()) else { return };
    let (dates, count) = if first == last {
        (last.to_string(), "1 date".to_owned())
    } else {
        (format!("{first} to {last}"), format!("{} dates", dates.len()))
    };
    page.raw("<tr><th scope=\"row\">").text(&count).raw("<small>").text(&dates).raw("</small></th>");
    page.raw("<td colspan=\"2\"><span class=\"sign none\" aria-hidden=\"true\">\u{2013}</span> not asked for");
    page.raw("<small>before the first copy ever made of this source</small></td></tr>\n");
}
