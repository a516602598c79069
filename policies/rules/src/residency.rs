//! Where the two copies of a source may lie, and what is known and what is only claimed about it.
//!
//! Two different member states of the European Union, two provider accounts, TLS on every wire.
//! Each statement comes back as a finding, the good ones too: a report shows how each place was
//! established. Nothing is resolved or contacted; this is decided from the configuration alone.

use std::fmt;
use std::path::PathBuf;

use crate::country::{Country, Membership};
use crate::endpoint::Endpoint;
use crate::providers::{Known, Providers};

/// A target as the configuration claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub target: String,
    /// The country it says.
    pub country: Country,
    /// An id of the table, or free text.
    pub provider: Option<String>,
    /// The place.
    pub spot: Spot,
    /// The reference to its credentials; two targets with the same one are one account.
    pub credentials: Option<String>,
}

/// The place of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Behind an S3 endpoint.
    S3 {
        /// Its address.
        endpoint: Endpoint,
        /// The region that requests name.
        region: String,
    },
    /// A folder of this host.
    Directory(PathBuf),
}

/// How much a statement is worth. The order is the order of concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Established, and as it must be.
    Good,
    /// Only the configuration says so: shown in every report.
    Declared,
    /// The policy is broken: nothing runs.
    Refused,
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The country of one target.
    Country,
    /// Its membership of the Union.
    Union,
    /// The wire to it.
    Tls,
    /// The two countries together.
    Pair,
    /// The two accounts together.
    Account,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it is worth.
    pub severity: Severity,
    /// What it is about.
    pub check: Check,
    /// The target it is about; the archive target for what concerns both.
    pub target: String,
    /// A sentence, for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Good => "good",
            Severity::Declared => "declared",
            Severity::Refused => "refused",
        };
        write!(f, "{word}: {}: {}", self.target, self.message)
    }
}

/// What the policy allows beyond its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether Iceland, Liechtenstein and Norway count like member states.
    pub allow_eea: bool,
}

/// Everything there is to say about a pair of targets; it may be used when nothing is [`Severity::Refused`].
pub fn judge(block: &Claim, archive: &Claim, table: &Providers, policy: Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = judge_one(block, table, policy, &mut findings);
    let second = judge_one(archive, table, policy, &mut findings);
    findings.push(judge_countries(archive, first.country, second.country));
    findings.push(judge_accounts(block, archive, &first, &second));
    findings
}

/// What was found out about one target.
struct Established {
    country: Country,
    provider: Option<String>,
}

fn judge_one(claim: &Claim, table: &Providers, policy: Policy, findings: &mut Vec<Finding>) -> Established {
    let (established, finding) = match &claim.spot {
        Spot::Directory(path) => {
            let message = format!("the configuration says that {} lies in {}", path.display(), claim.country);
            (claimed(claim), (Severity::Declared, message))
        }
        Spot::S3 { endpoint, region } => {
            findings.push(claim.finding(Check::Tls, judge_wire(endpoint)));
            locate(claim, endpoint, region, table)
        }
    };
    findings.push(claim.finding(Check::Country, finding));
    findings.push(claim.finding(Check::Union, judge_membership(established.country, policy)));
    established
}

fn claimed(claim: &Claim) -> Established {
    Established { country: claim.country, provider: claim.provider.as_ref().map(|name| name.to_lowercase()) }
}

fn judge_wire(endpoint: &Endpoint) -> (Severity, String) {
    if endpoint.is_secure() {
        (Severity::Good, format!("{endpoint} is reached by TLS"))
    } else if endpoint.is_loopback() {
        (Severity::Declared, format!("{endpoint} is reached without TLS, which is allowed to this machine only"))
    } else {
        (Severity::Refused, format!("{endpoint} is not TLS: write https://; plain http is for loopback only"))
    }
}

/// The country of an S3 endpoint. What the table knows wins over what is claimed.
fn locate(claim: &Claim, endpoint: &Endpoint, region: &str, table: &Providers) -> (Established, (Severity, String)) {
    let host = endpoint.host();
    match table.locate(host, region) {
        Known::Unknown => (claimed(claim), judge_unknown(claim, host, table)),
        Known::Provider(provider) => {
            let message = format!(
                "{host} belongs to {}, but no region is known for it (region = \"{region}\"), so its country is not established",
                provider.name
            );
            (Established { country: claim.country, provider: Some(provider.id.clone()) }, (Severity::Refused, message))
        }
        Known::Region(provider, known) => {
            let established = |country| Established { country, provider: Some(provider.id.clone()) };
            let place = format!("{host} is {} region {} ({})", provider.name, known.id, known.place);
            let note = known.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let Some(country) = known.country else {
                let message = format!("{place}, which names no country{note}");
                return (established(claim.country), (Severity::Refused, message));
            };
            let typed = provider.region(region).and_then(|typed| typed.country);
            let finding = if country != claim.country {
                (Severity::Refused, format!("{place}, which lies in {country}, not in {}{note}", claim.country))
            } else if typed.is_some_and(|typed| typed != country) {
                (Severity::Refused, format!("{place} in {country}, but region = \"{region}\" lies elsewhere"))
            } else if let Some(other) =
                claim.provider.as_ref().filter(|id| table.by_id(id).is_some_and(|p| p != provider))
            {
                (Severity::Refused, format!("{place}, but provider = \"{other}\""))
            } else if known.unconfirmed {
                (
                    Severity::Declared,
                    format!("{place}, which lies in {country} as far as is known: no page confirms it"),
                )
            } else {
                (Severity::Good, format!("{place}, which lies in {country}"))
            };
            (established(country), finding)
        }
    }
}

fn judge_unknown(claim: &Claim, host: &str, table: &Providers) -> (Severity, String) {
    match claim.provider.as_deref().and_then(|id| table.by_id(id)) {
        Some(provider) => {
            let message = format!(
                "{host} is no known endpoint of {}: use one of its own, or write the provider's name as free text",
                provider.name
            );
            (Severity::Refused, message)
        }
        None => (Severity::Declared, format!("the configuration says that {host} lies in {}", claim.country)),
    }
}

fn judge_membership(country: Country, policy: Policy) -> (Severity, String) {
    match country.membership() {
        Membership::Union => (Severity::Good, format!("{country} is a member state of the EU")),
        Membership::Area if policy.allow_eea => {
            (Severity::Good, format!("{country} is in the EEA, which the configuration allows"))
        }
        Membership::Area => {
            (Severity::Refused, format!("{country} is in the EEA but not in the EU: allow_eea = true would allow it"))
        }
        Membership::Neither => (Severity::Refused, format!("{country} is not a member state of the EU")),
    }
}

fn judge_countries(archive: &Claim, first: Country, second: Country) -> Finding {
    let finding = if first == second {
        (
            Severity::Refused,
            format!("both copies would lie in {first}: the two targets must be in two different countries"),
        )
    } else {
        (Severity::Good, format!("the copies lie in two countries, {first} and {second}"))
    };
    archive.finding(Check::Pair, finding)
}

fn judge_accounts(block: &Claim, archive: &Claim, first: &Established, second: &Established) -> Finding {
    let same_key = block.credentials.is_some() && block.credentials == archive.credentials;
    let finding = match (&block.spot, &archive.spot) {
        (Spot::Directory(one), Spot::Directory(other)) if one.starts_with(other) || other.starts_with(one) => {
            (Severity::Refused, format!("{} and {} are one folder", one.display(), other.display()))
        }
        _ if same_key => {
            (Severity::Refused, format!("{} and {} use the same credentials", block.target, archive.target))
        }
        _ => match (&first.provider, &second.provider) {
            (Some(one), Some(other)) if one == other => (
                Severity::Declared,
                format!("both targets are with {one}; that the accounts differ is the configuration's word"),
            ),
            (Some(one), Some(other)) => (Severity::Good, format!("the accounts are with {one} and with {other}")),
            _ => (
                Severity::Declared,
                "that the two targets are different accounts is the configuration's word".to_owned(),
            ),
        },
    };
    archive.finding(Check::Account, finding)
}

impl Claim {
    fn finding(&self, check: Check, (severity, message): (Severity, String)) -> Finding {
        Finding { severity, check, target: self.target.clone(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{Provider, Region};

    fn provider(id: &str, regions: &[(&str, Option<&str>)]) -> Provider {
        let region = |(name, country): &(&str, Option<&str>)| Region {
            id: (*name).to_owned(),
            place: "City".to_owned(),
            country: country.map(|code| code.parse().unwrap()),
            unconfirmed: *name == "vienna",
            note: Some("a note".to_owned()),
            endpoints: vec![format!("s3.{name}.{id}.example").parse().unwrap()],
        };
        Provider {
            id: id.to_owned(),
            name: id.to_uppercase(),
            legal_entity: String::new(),
            headquarters: "DE".parse().unwrap(),
            object_lock: None,
            sources: Vec::new(),
            unconfirmed: Vec::new(),
            domains: vec![format!("{id}.example")],
            shared_endpoints: Vec::new(),
            regions: regions.iter().map(region).collect(),
        }
    }

    fn table() -> Providers {
        let one = [
            ("de", Some("DE")),
            ("fr", Some("FR")),
            ("london", Some("GB")),
            ("oslo", Some("NO")),
            ("eu", None),
            ("vienna", Some("AT")),
        ];
        Providers::new(vec![provider("one", &one), provider("two", &[("it", Some("IT"))])])
    }

    fn s3(target: &str, country: &str, endpoint: &str, region: &str) -> Claim {
        Claim {
            target: target.to_owned(),
            country: country.parse().unwrap(),
            provider: None,
            spot: Spot::S3 { endpoint: endpoint.parse().unwrap(), region: region.to_owned() },
            credentials: Some(format!("file:/{target}")),
        }
    }

    fn folder(target: &str, country: &str, path: &str) -> Claim {
        Claim {
            target: target.to_owned(),
            country: country.parse().unwrap(),
            provider: None,
            spot: Spot::Directory(PathBuf::from(path)),
            credentials: None,
        }
    }

    fn italian() -> Claim {
        s3("archive", "IT", "https://s3.it.two.example", "it")
    }

    /// The findings that are not good, as `check: message`.
    fn concerns(block: &Claim, archive: &Claim, policy: Policy) -> Vec<String> {
        let findings = judge(block, archive, &table(), policy);
        findings.iter().filter(|finding| finding.severity > Severity::Good).map(ToString::to_string).collect()
    }

    fn refused(block: &Claim, archive: &Claim) -> Vec<Check> {
        let findings = judge(block, archive, &table(), Policy::default());
        findings.iter().filter(|finding| finding.severity == Severity::Refused).map(|finding| finding.check).collect()
    }

    #[test]
    fn two_known_endpoints_in_two_states_leave_nothing_to_say() {
        let block = s3("block", "DE", "https://s3.de.one.example", "de");
        assert_eq!(concerns(&block, &italian(), Policy::default()), Vec::<String>::new());
        let findings = judge(&block, &italian(), &table(), Policy::default());
        assert_eq!(findings.len(), 8, "a good statement for each check, for reports");
    }

    #[test]
    fn a_known_endpoint_wins_over_the_claim() {
        let check = |block: &Claim, expected: &str| {
            let concerns = concerns(block, &italian(), Policy::default());
            assert_eq!(concerns.first().map(String::as_str), Some(expected));
        };
        check(
            &s3("block", "FR", "https://s3.de.one.example", "de"),
            "refused: block: s3.de.one.example is ONE region de (City), which lies in DE, not in FR; a note",
        );
        check(
            &s3("block", "DE", "https://s3.de.one.example", "fr"),
            "refused: block: s3.de.one.example is ONE region de (City) in DE, but region = \"fr\" lies elsewhere",
        );
        check(
            &s3("block", "DE", "https://s3.eu.one.example", "eu"),
            "refused: block: s3.eu.one.example is ONE region eu (City), which names no country; a note",
        );
        check(
            &s3("block", "DE", "https://s3.new.one.example", "new"),
            "refused: block: s3.new.one.example belongs to ONE, but no region is known for it (region = \"new\"), so its country is not established",
        );
    }

    #[test]
    fn a_wrong_provider_is_not_believed_either() {
        let claimed = |provider: &str, endpoint: &str| {
            let claim = s3("block", "DE", endpoint, "de");
            refused(&Claim { provider: Some(provider.to_owned()), ..claim }, &italian())
        };
        assert_eq!(claimed("one", "https://s3.de.one.example"), []);
        assert_eq!(claimed("two", "https://s3.de.one.example"), [Check::Country]);
        assert_eq!(claimed("one", "https://storage.example.net"), [Check::Country]);
        assert_eq!(claimed("our own", "https://storage.example.net"), []);
    }

    #[test]
    fn names_mislead_and_membership_does_not() {
        let check = |country: &str, region: &str, expected: &[Check]| {
            let block = s3("block", country, &format!("https://s3.{region}.one.example"), region);
            assert_eq!(refused(&block, &italian()), expected, "{country} {region}");
        };
        check("GB", "london", &[Check::Union]);
        check("DE", "london", &[Check::Country, Check::Union]);
        check("NO", "oslo", &[Check::Union]);
        let oslo = s3("block", "NO", "https://s3.oslo.one.example", "oslo");
        assert_eq!(concerns(&oslo, &italian(), Policy { allow_eea: true }), Vec::<String>::new());
    }

    #[test]
    fn only_loopback_does_without_tls() {
        let check = |endpoint: &str, expected: &[Check]| {
            assert_eq!(refused(&s3("block", "DE", endpoint, "x"), &italian()), expected, "{endpoint}");
        };
        check("http://127.0.0.1:3900", &[]);
        check("http://[::1]:3900", &[]);
        check("http://10.0.0.1:3900", &[Check::Tls]);
        check("http://s3.de.one.example", &[Check::Tls]);
        check("https://10.0.0.1:3900", &[]);
    }

    #[test]
    fn one_country_or_one_account_is_no_pair() {
        let block = s3("block", "IT", "https://storage.example.net", "x");
        assert_eq!(refused(&block, &italian()), [Check::Pair]);
        let same_key =
            Claim { credentials: italian().credentials, ..s3("block", "DE", "https://s3.de.one.example", "de") };
        assert_eq!(refused(&same_key, &italian()), [Check::Account]);
        // Both countries are those of the endpoints, not of the claims.
        let lying = s3("block", "DE", "https://s3.it.two.example", "it");
        assert_eq!(refused(&lying, &italian()), [Check::Country, Check::Pair]);
    }

    #[test]
    fn what_only_the_configuration_says_is_shown_as_declared() {
        let other = s3("archive", "FR", "https://s3.fr.one.example", "fr");
        let found = concerns(&s3("block", "DE", "https://s3.de.one.example", "de"), &other, Policy::default());
        assert_eq!(
            found,
            ["declared: archive: both targets are with one; that the accounts differ is the configuration's word"]
        );
        let found = concerns(&folder("block", "DE", "/mnt/a"), &folder("archive", "FR", "/mnt/b"), Policy::default());
        assert_eq!(
            found,
            [
                "declared: block: the configuration says that /mnt/a lies in DE",
                "declared: archive: the configuration says that /mnt/b lies in FR",
                "declared: archive: that the two targets are different accounts is the configuration's word",
            ]
        );
    }

    #[test]
    fn a_country_that_no_page_confirms_is_declared_and_still_wins_over_the_claim() {
        let vienna = |country| s3("block", country, "https://s3.vienna.one.example", "vienna");
        let found = concerns(&vienna("AT"), &italian(), Policy::default());
        assert_eq!(
            found,
            [
                "declared: block: s3.vienna.one.example is ONE region vienna (City), which lies in AT as far as is known: no page confirms it"
            ]
        );
        assert_eq!(refused(&vienna("DE"), &italian()), [Check::Country]);
    }

    #[test]
    fn one_folder_inside_the_other_is_one_place() {
        for (one, other) in [("/mnt/a", "/mnt/a"), ("/mnt/a", "/mnt/a/b"), ("/mnt/a/b/c", "/mnt/a")] {
            assert_eq!(refused(&folder("block", "DE", one), &folder("archive", "FR", other)), [Check::Account]);
        }
        assert_eq!(refused(&folder("block", "DE", "/mnt/a"), &folder("archive", "FR", "/mnt/ab")), []);
    }
}
