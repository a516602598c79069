//! Where the two copies of a source may lie, and what is known and what is only claimed about it.
//!
//! Two different member states of the European Union, two provider accounts, TLS on every wire.
//! Each statement comes back as a finding, the good ones too: a report shows how each place was
//! established. Nothing is resolved or contacted; this is decided from the configuration alone.

use std::fmt;
use std::path::PathBuf;

use crate::country::{Country, Membership};
use crate::endpoint::Endpoint;
use crate::providers::{Known, Provider, Providers};

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

/// How a country was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Only the configuration says so.
    Declared,
    /// The table knows the place, and no page of the provider confirms the country.
    Table,
    /// The table knows the place and the page that confirms its country.
    Confirmed,
}

/// How the country of a target was established.
pub fn basis(claim: &Claim, table: &Providers) -> Basis {
    match &claim.spot {
        Spot::Directory(_) => Basis::Declared,
        Spot::S3 { endpoint, region } => match table.locate(endpoint.host(), region) {
            Known::Region(_, known) if known.country.is_none() => Basis::Declared,
            Known::Region(_, known) if known.unconfirmed => Basis::Table,
            Known::Region(..) => Basis::Confirmed,
            Known::Provider(_) | Known::Unknown => Basis::Declared,
        },
    }
}

/// Whose endpoint it is, where the table knows it.
pub fn provider<'a>(endpoint: &Endpoint, region: &str, table: &'a Providers) -> Option<&'a Provider> {
    match table.locate(endpoint.host(), region) {
        Known::Region(provider, _) | Known::Provider(provider) => Some(provider),
        Known::Unknown => None,
    }
}

/// What was found out about one target.
struct Established {
    country: Country,
    provider: Option<Account>,
}

/// With whom an account is.
struct Account {
    /// What tells one from another: the table's id, or the free text without its case.
    id: String,
    /// How people know it.
    name: String,
}

impl Account {
    fn of(provider: &Provider) -> Self {
        Self { id: provider.id.clone(), name: provider.name.clone() }
    }
}

fn judge_one(claim: &Claim, table: &Providers, policy: Policy, findings: &mut Vec<Finding>) -> Established {
    let (established, finding) = match &claim.spot {
        Spot::Directory(path) => {
            let message = format!("the configuration says that {} lies in {}", path.display(), claim.country);
            (claimed(claim, table), (Severity::Declared, message))
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

fn claimed(claim: &Claim, table: &Providers) -> Established {
    let account = |name: &String| {
        let id = name.to_lowercase();
        table.by_id(&id).map_or_else(|| Account { id, name: name.clone() }, Account::of)
    };
    Established { country: claim.country, provider: claim.provider.as_ref().map(account) }
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
        Known::Unknown => (claimed(claim, table), judge_unknown(claim, host, table)),
        Known::Provider(provider) => {
            let message = format!(
                "{host} belongs to {}, but no region is known for it (region = \"{region}\"), so its country is not established",
                provider.name
            );
            (
                Established { country: claim.country, provider: Some(Account::of(provider)) },
                (Severity::Refused, message),
            )
        }
        Known::Region(provider, known) => {
            let established = |country| Established { country, provider: Some(Account::of(provider)) };
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
            (Some(one), Some(other)) if one.id == other.id => (
                Severity::Declared,
                format!("both targets are with {}; that the accounts differ is the configuration's word", one.name),
            ),
            (Some(one), Some(other)) => {
                (Severity::Good, format!("the accounts are with {} and with {}", one.name, other.name))
            }
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
