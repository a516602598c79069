//! Which pairs of targets the policy allows, refuses, or takes on the configuration's word.

#![expect(clippy::unwrap_used, reason = "a claim that cannot be written down is a broken test")]

use std::path::PathBuf;

use dualsync_rules::providers::{Provider, Providers, Region};
use dualsync_rules::residency::{Check, Claim, Policy, Severity, Spot, judge};

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
    let same_key = Claim { credentials: italian().credentials, ..s3("block", "DE", "https://s3.de.one.example", "de") };
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
        ["declared: archive: both targets are with ONE; that the accounts differ is the configuration's word"]
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
fn providers_are_called_by_the_name_of_the_table_or_as_they_were_typed() {
    let accounts = |block: &Claim, archive: &Claim| {
        let findings = judge(block, archive, &table(), Policy::default());
        findings.into_iter().find(|finding| finding.check == Check::Account).unwrap().message
    };
    let nas = |name: &str| Claim { provider: Some(name.to_owned()), ..folder("block", "DE", "/mnt/a") };
    assert_eq!(accounts(&nas("My NAS"), &italian()), "the accounts are with My NAS and with TWO");
    assert_eq!(accounts(&nas("one"), &italian()), "the accounts are with ONE and with TWO");
    // The case of a free text makes no second account.
    let other = Claim { target: "archive".to_owned(), ..nas("my nas") };
    let other = Claim { spot: Spot::Directory(PathBuf::from("/mnt/b")), ..other };
    assert!(accounts(&nas("My NAS"), &other).starts_with("both targets are with My NAS; "));
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
