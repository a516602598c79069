//! The whole report in one word and one sentence, with every reason that is not green.

use dualsync_model::id::SourceName;
use dualsync_model::outcome::Exit;

use super::around::{Grade, Statement};
use super::{ContractState, Report};
use crate::side::Side;
use crate::verdict::Verdict;

impl Report {
    /// Green, amber or red: the worst of all reasons.
    pub fn grade(&self) -> Grade {
        self.reasons().iter().map(|reason| reason.grade).max().unwrap_or(Grade::Green)
    }

    /// The first sentence of the page.
    pub fn headline(&self) -> &'static str {
        match self.grade() {
            Grade::Green => "Everything that was promised is there, in both countries, and both copies say the same.",
            Grade::Amber => "What was promised is there. This should be known:",
            Grade::Red => "Something that was promised is missing or wrong:",
        }
    }

    /// Everything that is not as it should be, the worst first.
    pub fn reasons(&self) -> Vec<Statement> {
        let mut reasons = Vec::new();
        let mut add = |grade, words: String| reasons.push(Statement { grade, words });
        if self.points.is_empty() {
            add(Grade::Red, "No point was there to be looked at.".to_owned());
        }
        for point in &self.points {
            match point.verdict {
                Verdict::Agree | Verdict::Explained => {}
                Verdict::Disagree => add(Grade::Red, format!("{}: the two copies differ.", point.point)),
                Verdict::OneSideMissing => {
                    add(Grade::Red, format!("{}: one copy is missing or could not be read to the end.", point.point));
                }
                Verdict::Damaged => add(Grade::Red, format!("{}: a copy is damaged.", point.point)),
            }
        }
        self.of_contract(&mut add);
        self.of_reading(&mut add);
        self.of_places(&mut add);
        self.of_chain(&mut add);
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.grade));
        reasons
    }

    fn of_contract(&self, add: &mut impl FnMut(Grade, String)) {
        for (state, grade, words) in [
            (ContractState::Red, Grade::Red, "missing"),
            (ContractState::Amber, Grade::Amber, "replaced by an earlier day of the same month"),
        ] {
            for source in self.sources() {
                for side in Side::BOTH {
                    let of_side = |row: &&super::ContractRow| row.source == *source && row.mechanism == side;
                    let rows: Vec<_> = self.contract.iter().filter(of_side).filter(|row| row.state == state).collect();
                    let Some(first) = rows.first() else { continue };
                    let dates: Vec<_> = rows.iter().take(4).map(|row| row.date.to_string()).collect();
                    let more = rows.len().saturating_sub(dates.len());
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    let count =
                        if rows.len() == 1 { "1 date is".to_owned() } else { format!("{} dates are", rows.len()) };
                    let list = dates.join(", ");
                    add(grade, format!("{source}: {count} {words} in {} ({side} copy): {list}{more}.", first.country));
                }
            }
        }
    }

    fn of_reading(&self, add: &mut impl FnMut(Grade, String)) {
        let reading = &self.around.reading;
        if !reading.is_on_time(self.created_at) {
            let sentence = reading.sentence(self.created_at);
            add(Grade::Amber, format!("Reading back is late: {sentence}."));
        }
        let late = self.contract.iter().filter(|row| self.lateness(row).is_some()).count();
        if late > 0 {
            let are =
                if late == 1 { "1 copy that the contract needs was" } else { "copies that the contract needs were" };
            let count = if late == 1 { String::new() } else { format!("{late} ") };
            let slices = reading.slices;
            add(Grade::Amber, format!("{count}{are} not read back whole within the last {slices} days."));
        }
        for turn in self.around.turn.iter().flat_map(|turn| &turn.targets) {
            if !turn.findings.is_empty() {
                let count = turn.findings.len();
                add(
                    Grade::Red,
                    format!("{}: the rotation found {count} stored objects missing or wrong.", turn.target),
                );
            }
            if let Some(failure) = &turn.failure {
                add(Grade::Red, format!("{}: the rotation could not read to the end: {failure}", turn.target));
            }
        }
        for drill in &self.around.drills {
            let source = &drill.source;
            match &drill.restore {
                None => add(Grade::Amber, format!("{source}: no restore was rehearsed on this host yet.")),
                Some(restore) if !restore.verified => {
                    add(Grade::Amber, format!("{source}: the last restore did not bring everything back."));
                }
                Some(restore) if restore.is_long_ago(self.created_at) => {
                    let date = restore.at.utc_date();
                    add(Grade::Amber, format!("{source}: the last restore on this host was on {date}."));
                }
                Some(_) => {}
            }
        }
    }

    /// Why the copy that counts for a date is not known to be good as lately as it should be.
    pub(super) fn lateness(&self, row: &super::ContractRow) -> Option<String> {
        let is_there = matches!(row.state, ContractState::Green | ContractState::Amber);
        let point = row.point.as_ref().filter(|_| is_there)?;
        self.around.reading.lateness(point, row.mechanism, self.created_at)
    }

    fn of_places(&self, add: &mut impl FnMut(Grade, String)) {
        for target in &self.around.targets {
            if let Some(away) = &target.away {
                add(Grade::Red, format!("{}: the store did not answer: {away}", target.target));
            }
            for statement in target.statements.iter().filter(|statement| statement.grade != Grade::Green) {
                add(statement.grade, format!("{}: {}.", target.target, statement.words));
            }
        }
        for shared in self.around.shared.iter().filter(|shared| shared.statement.grade != Grade::Green) {
            add(shared.statement.grade, format!("{}: {}.", shared.subject, shared.statement.words));
        }
    }

    fn of_chain(&self, add: &mut impl FnMut(Grade, String)) {
        for shelf in &self.around.chain {
            if let Some(away) = &shelf.away {
                add(Grade::Amber, format!("{}: reports could not be kept there: {away}", shelf.target));
            }
            for fault in &shelf.faults {
                add(Grade::Red, format!("{}: report {} {}.", fault.target, fault.number, fault.problem));
            }
        }
    }

    /// Each source that has dates, once, in the order of the contract.
    pub(super) fn sources(&self) -> Vec<&SourceName> {
        let mut sources: Vec<&SourceName> = Vec::new();
        for row in &self.contract {
            if !sources.contains(&&row.source) {
                sources.push(&row.source);
            }
        }
        sources
    }

    /// The exit code in words, for the end of a page.
    pub(super) fn exit_words(&self) -> String {
        let exit = self.exit();
        if exit == Exit::Done { "0: done".to_owned() } else { format!("{}: {exit}", exit.code()) }
    }
}
