//! One word for a point, and the exit code that goes with it.

use dualsync_model::outcome::Exit;
use serde::Serialize;

use crate::difference::Aspect;
use crate::examine::Examined;
use crate::stream::{End, SideRead};

/// What verify says. The order is that of severity, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both copies were heard to the end and say the same.
    Agree,
    /// They differ for accepted reasons only.
    Explained,
    /// They differ.
    Disagree,
    /// One copy is not there, or could not be heard to the end.
    OneSideMissing,
    /// A copy contradicts what its own writer noted, or a stored object is missing or wrong.
    Damaged,
}

impl Verdict {
    /// The exit code it stands for.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Agree | Self::Explained => Exit::Done,
            Self::Disagree => Exit::Differ,
            Self::OneSideMissing | Self::Damaged => Exit::Damaged,
        }
    }

    /// The word in JSON and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Explained => "explained",
            Self::Disagree => "disagree",
            Self::OneSideMissing => "one_side_missing",
            Self::Damaged => "damaged",
        }
    }

    /// The verdict on what was found.
    pub fn of(found: &Examined) -> Self {
        let reads = || found.reads.iter().map(|(_, read)| read);
        if found.differences.of_kind(Aspect::Damaged) > 0 || reads().any(is_damaged) {
            Self::Damaged
        } else if reads().any(|read| read.end != End::Complete || (found.compared && read.entries == 0)) {
            // A listing without even a root is no listing.
            Self::OneSideMissing
        } else if found.differences.total > 0 {
            Self::Disagree
        } else if !found.explained.is_empty() {
            Self::Explained
        } else {
            Self::Agree
        }
    }

    /// Every exit code that holds, beside the verdict's own: differences under damage, a program's
    /// failure, a broken chain.
    pub fn exits(found: &Examined) -> Vec<Exit> {
        let mut exits = vec![Self::of(found).exit()];
        if found.differences.total > found.differences.of_kind(Aspect::Damaged) {
            exits.push(Exit::Differ);
        }
        for (_, read) in found.reads.iter() {
            if let End::Failed { exit_code, .. } = read.end {
                exits.push(Exit::from_code(exit_code));
            }
            if read.findings.iter().any(|finding| is_chain(&finding.kind)) {
                exits.push(Exit::Evidence);
            }
        }
        exits.retain(|exit| *exit != Exit::Done);
        exits.sort_unstable();
        exits.dedup();
        exits
    }
}

fn is_damaged(read: &SideRead) -> bool {
    let failed = matches!(&read.end, End::Failed { code, .. } if code == "damaged");
    // Findings that were not kept were not looked at: they count as the worst.
    let unseen = read.findings_total > read.findings.len() as u64;
    failed || unseen || read.findings.iter().any(|finding| !is_harmless(&finding.kind) && !is_chain(&finding.kind))
}

/// An object that nobody needs. A kind that is not known is taken for damage.
fn is_harmless(kind: &str) -> bool {
    kind == "unexpected"
}

/// What is stored is intact, but it is not the whole history.
fn is_chain(kind: &str) -> bool {
    matches!(kind, "rollback" | "chain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exclude::Exclude;
    use crate::samples::{Lines, directory, file, finding, lines};
    use dualsync_model::event::{Event, Failure};
    use dualsync_model::fact::{Fact, FactState};

    fn tree(content: &str) -> Lines {
        lines(vec![directory(""), file("a", content)])
    }

    fn with_first(event: Event, mut rest: Lines) -> Lines {
        rest.insert(0, Ok(event));
        rest
    }

    fn failing(code: &str, exit_code: u8) -> Lines {
        let failure = Failure { exit_code, code: code.into(), message: "no".into(), hint: None };
        let mut lines = tree("x");
        lines.pop();
        lines.push(Ok(Event::Error(failure)));
        lines
    }

    fn check(block: Lines, archive: Lines, verdict: Verdict, exits: &[Exit]) {
        let found = crate::examine::compare(Exclude::default(), true, block.into_iter(), archive.into_iter());
        assert_eq!((Verdict::of(&found), Verdict::exits(&found).as_slice()), (verdict, exits));
    }

    #[test]
    fn only_two_whole_and_equal_copies_agree() {
        check(tree("x"), tree("x"), Verdict::Agree, &[]);
        check(tree("x"), tree("y"), Verdict::Disagree, &[Exit::Differ]);
        let more = lines(vec![directory(""), file("a", "x"), directory("lost+found")]);
        check(more, tree("x"), Verdict::Explained, &[]);
    }

    #[test]
    fn a_side_that_was_not_heard_to_the_end_never_agrees() {
        for cut in 0..tree("x").len() {
            let short = tree("x").into_iter().take(cut).collect();
            check(short, tree("x"), Verdict::OneSideMissing, &[Exit::Damaged]);
            let short = tree("x").into_iter().take(cut).collect();
            check(tree("x"), short, Verdict::OneSideMissing, &[Exit::Damaged]);
        }
        check(lines(vec![]), lines(vec![]), Verdict::OneSideMissing, &[Exit::Damaged]);
        check(failing("store", 1), tree("x"), Verdict::OneSideMissing, &[Exit::Failed, Exit::Damaged]);
        check(failing("wrong_key", 12), tree("x"), Verdict::OneSideMissing, &[Exit::WrongKey, Exit::Damaged]);
        check(failing("damaged", 21), tree("x"), Verdict::Damaged, &[Exit::Damaged]);
    }

    #[test]
    fn damage_outranks_a_difference_and_both_exits_are_listed() {
        let state = FactState::Damaged { object: "o".into(), problem: "p".into() };
        let broken = || lines(vec![directory(""), Fact { state: state.clone(), ..file("a", "x") }, file("b", "x")]);
        check(broken(), broken(), Verdict::Damaged, &[Exit::Damaged]);
        check(broken(), tree("x"), Verdict::Damaged, &[Exit::Damaged, Exit::Differ]);
    }

    #[test]
    fn a_finding_damages_unless_it_is_known_to_be_harmless() {
        for (kind, verdict, exits) in [
            ("missing", Verdict::Damaged, &[Exit::Damaged] as &[Exit]),
            ("shadowed", Verdict::Damaged, &[Exit::Damaged]),
            ("a kind from the future", Verdict::Damaged, &[Exit::Damaged]),
            ("unexpected", Verdict::Agree, &[]),
            ("rollback", Verdict::Agree, &[Exit::Evidence]),
            ("chain", Verdict::Agree, &[Exit::Evidence]),
        ] {
            check(with_first(Event::Finding(finding("o", kind)), tree("x")), tree("x"), verdict, exits);
            check(tree("x"), with_first(Event::Finding(finding("o", kind)), tree("x")), verdict, exits);
        }
    }

    #[test]
    fn the_words_are_those_of_the_json() {
        use Verdict::{Agree, Damaged, Disagree, Explained, OneSideMissing};
        for verdict in [Agree, Explained, Disagree, OneSideMissing, Damaged] {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), format!("\"{}\"", verdict.as_str()));
        }
    }
}
