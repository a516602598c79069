//! What stands around a comparison in its report: gathered from the configuration, the writers and the history.

use dualsync_config::source::{SnapshotDriver, SourceSettings};
use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::Place;
use dualsync_rules::providers::Provider;
use dualsync_rules::residency::{self, Severity, Spot};
use dualsync_rules::retention::rule::Rule;
use dualsync_verify::report::around::{
    Around, Basis, Drill, Grade, Newest, Restore, SharedFact, SourceFacts, Statement, TargetFacts, Turn,
};

use crate::anchors;
use crate::app::App;
use crate::commands::check;
use crate::exit::with_causes;
use crate::history::{History, Restored};
use crate::listing::{Answer, Row};
use crate::mechanism::Mechanism;
use crate::output::Light;
use crate::retention::side_of;
use crate::{repository, rotation};

/// Everything but number and chain, which are known once the chain is held.
pub async fn gather(app: &App<'_>, answers: &[Answer], rows: &[Row], history: &History, turn: Option<Turn>) -> Around {
    let mut targets = Vec::new();
    for target in app.settings.targets.values() {
        let answer = answers.iter().find(|answer| answer.target == target.target.name);
        targets.push(target_facts(app, target, answer).await);
    }
    Around {
        host: app.settings.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources: app.settings.sources.iter().map(source_facts).collect(),
        targets,
        turn,
        reading: rotation::reading(rows, history),
        drills: app.settings.sources.iter().map(|source| drill(source, history)).collect(),
        shared: check::shared(app).into_iter().map(shared).collect(),
        ..Around::default()
    }
}

fn source_facts(source: &SourceSettings) -> SourceFacts {
    let snapshot = match &source.snapshot {
        SnapshotDriver::None { idle: true } => "Read as it is, on the word of the configuration that nothing writes.",
        SnapshotDriver::None { idle: false } => "Read as it is, refused while it is mounted read-write.",
        SnapshotDriver::Freeze => "Its file system is frozen while it is read.",
        SnapshotDriver::Command { .. } => "A snapshot is made by commands of the administrator's.",
    };
    SourceFacts {
        source: source.name.clone(),
        block: source.block.clone(),
        archive: source.archive.clone(),
        snapshot: snapshot.to_owned(),
        promise: promise(&source.retention),
    }
}

/// The dates of a rule in words.
fn promise(rule: &Rule) -> String {
    let parts = rule.parts();
    let count = |count: u32, one: &str, many: &str| match count {
        0 => None,
        1 => Some(one.to_owned()),
        count => Some(many.replace('#', &count.to_string())),
    };
    let words: Vec<_> = [
        count(parts.daily, "the last date", "the last # dates"),
        count(parts.month_ends, "the month end before", "the # month ends before"),
        count(parts.year_ends, "the year end before", "the # year ends before"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if words.is_empty() { "no dates, only counts of points".to_owned() } else { words.join(", ") }
}

async fn target_facts(app: &App<'_>, target: &TargetSettings, answer: Option<&Answer>) -> TargetFacts {
    let name = target.target.name.as_str();
    let answered = answer.is_some_and(|answer| answer.error.is_none());
    let asked = if answered { repository::ask(app, target).await.ok() } else { None };
    let known = asked.or_else(|| repository::remembered(&app.state, name));
    let listed = answer.and_then(|answer| {
        answer.points.iter().map(|point| &point.anchor).max_by_key(|anchor| anchor.sequence).cloned()
    });
    let asked_now = known.as_ref().filter(|_| answered).and_then(|known| known.newest.clone());
    let remembered = || anchors::read(&app.state.anchors(), name).ok().flatten();
    let newest = asked_now.or(listed).or_else(remembered);
    TargetFacts {
        target: name.to_owned(),
        mechanism: side_of(target.mechanism),
        country: target.claim.country.to_string(),
        basis: match residency::basis(&target.claim, &app.settings.providers) {
            residency::Basis::Declared => Basis::Declared,
            residency::Basis::Table => Basis::ProviderTable,
            residency::Basis::Confirmed => Basis::Confirmed,
        },
        provider: provider(app, target),
        region: match &target.target.place {
            Place::S3 { region, .. } => Some(region.clone()),
            Place::Directory { .. } | Place::Service { .. } => None,
        },
        place: place(target),
        statements: statements(app, name),
        encryption: encryption(target.mechanism).to_owned(),
        repository: known.as_ref().map(|known| known.id.clone()),
        keys: known.map(|known| keys(&known)).unwrap_or_default(),
        newest: newest.map(|newest| Newest { sequence: newest.sequence, sha256: newest.sha256 }),
        away: answer.and_then(|answer| answer.error.as_ref()).map(|error| with_causes(error)),
    }
}

/// As `docs/format-block.md` and `docs/format-archive.md` have it.
const fn encryption(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Block => {
            "on this host, AES-256-GCM under keys that HKDF-SHA-256 derives from the repository key; manifests sealed too"
        }
        Mechanism::Archive => "on this host, age (X25519, ChaCha20-Poly1305); manifests signed with Ed25519 (minisign)",
    }
}

/// What `init` tells, without what stands elsewhere in the report.
fn keys(repository: &Repository) -> Vec<(String, String)> {
    let elsewhere = [&repository.id, &repository.recover_sha256];
    let told =
        repository.facts.iter().filter(|(label, value)| !elsewhere.contains(&value) && !label.ends_with(" place"));
    let mut keys: Vec<_> = told.cloned().collect();
    if let Some(public) = &repository.signing_public
        && keys.iter().all(|(_, value)| value != public)
    {
        keys.push(("signing public key".to_owned(), public.clone()));
    }
    keys.push(("recover.py SHA-256".to_owned(), repository.recover_sha256.clone()));
    keys
}

fn provider(app: &App<'_>, target: &TargetSettings) -> Option<String> {
    let table = &app.settings.providers;
    let known: Option<&Provider> = match &target.claim.spot {
        Spot::S3 { endpoint, region } => residency::provider(endpoint, region, table),
        Spot::Directory(_) => None,
    };
    match known {
        Some(known) => Some(format!("{} ({}, seat in {})", known.name, known.legal_entity, known.headquarters)),
        None => target.claim.provider.as_ref().map(|name| format!("{name} (as the configuration names it)")),
    }
}

fn place(target: &TargetSettings) -> String {
    let prefix = &target.target.prefix;
    let below = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    match &target.target.place {
        Place::S3 { endpoint, bucket, .. } => format!("{endpoint}, bucket {bucket}{below}"),
        Place::Directory { path } => format!("the folder {}{below}", path.display()),
        Place::Service { service, .. } => format!("{service}{below}"),
    }
}

/// What the policy says about a target, each sentence once.
fn statements(app: &App<'_>, name: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    for finding in app.settings.sources.iter().flat_map(|source| app.settings.policy_findings(source)) {
        let grade = match finding.severity {
            Severity::Good => Grade::Green,
            Severity::Declared => Grade::Amber,
            Severity::Refused => Grade::Red,
        };
        let statement = Statement { grade, words: finding.message };
        if finding.target == name && !statements.contains(&statement) {
            statements.push(statement);
        }
    }
    statements
}

fn drill(source: &SourceSettings, history: &History) -> Drill {
    let restore = |restored: &Restored| Restore {
        at: restored.at,
        point: restored.point.clone(),
        from: restored.from.clone(),
        bytes: restored.bytes,
        duration_s: restored.duration_s,
        partial: restored.partial,
        verified: restored.verified,
    };
    let of_source = |restored: &&Restored| *restored.point.source() == source.name;
    Drill { source: source.name.clone(), restore: history.restored().filter(of_source).last().map(restore) }
}

fn shared(row: check::Row) -> SharedFact {
    let grade = match row.state {
        Light::Ok => Grade::Green,
        Light::Warn => Grade::Amber,
        Light::Fail => Grade::Red,
    };
    SharedFact { subject: row.subject, statement: Statement { grade, words: row.detail } }
}
