//! The built-in provider table: every entry is usable, every trap is one.

#![expect(clippy::unwrap_used, reason = "the built-in table is read by these tests first")]

use std::collections::BTreeSet;

use dualsync_config::providers::{BUILT_IN, parse};
use dualsync_rules::country::Membership;
use dualsync_rules::providers::{Known, Providers};

fn table() -> Providers {
    parse(BUILT_IN).unwrap()
}

/// A host that a pattern means.
fn example(pattern: &str) -> String {
    pattern.replace('*', "account-1")
}

/// The country of a host, `None` where none is established.
fn country(host: &str, region: &str) -> Option<String> {
    match table().locate(host, region) {
        Known::Region(_, region) => region.country.map(|country| country.to_string()),
        Known::Provider(_) | Known::Unknown => None,
    }
}

#[test]
fn at_least_ten_providers_have_a_region_in_the_union() {
    let usable = table()
        .iter()
        .filter(|provider| {
            provider
                .regions
                .iter()
                .any(|region| region.country.is_some_and(|country| country.membership() == Membership::Union))
        })
        .count();
    assert!(usable >= 10, "{usable}");
}

#[test]
fn each_pattern_matches_its_own_region_and_no_other() {
    let table = table();
    let mut hosts = BTreeSet::new();
    for provider in table.iter() {
        for region in &provider.regions {
            for pattern in &region.endpoints {
                let host = example(&pattern.to_string());
                let Known::Region(found, found_region) = table.locate(&host, "") else { panic!("{host}") };
                assert_eq!((&found.id, &found_region.id), (&provider.id, &region.id), "{host}");
                assert!(hosts.insert(host.clone()), "{host} is there twice");
                let below = |domain: &String| host == *domain || host.ends_with(&format!(".{domain}"));
                assert!(provider.domains.iter().any(below), "{host} lies below no domain of {}", provider.id);
            }
        }
    }
}

#[test]
fn every_entry_says_where_it_comes_from() {
    for provider in table().iter() {
        assert!(!provider.sources.is_empty(), "{}", provider.id);
        assert!(provider.sources.iter().all(|page| page.starts_with("https://")), "{}", provider.id);
        assert!(!provider.regions.is_empty(), "{}", provider.id);
        for region in &provider.regions {
            assert!(!region.endpoints.is_empty(), "{} {}", provider.id, region.id);
            assert!(region.country.is_some() || region.note.is_some(), "{} {}: say why", provider.id, region.id);
        }
        let known = ["legal_entity", "headquarters", "object_lock", "sources"];
        assert!(provider.unconfirmed.iter().all(|field| known.contains(&field.as_str())), "{}", provider.id);
        let says = provider.unconfirmed.iter().any(|field| field == "object_lock");
        assert_eq!(provider.object_lock.is_none(), says, "{}: object_lock is looked up or unconfirmed", provider.id);
    }
}

#[test]
fn names_mislead_and_the_table_does_not() {
    let check = |host: &str, region: &str, expected: Option<&str>| {
        assert_eq!(country(host, region).as_deref(), expected, "{host} {region}");
    };
    check("s3.eu-west-2.amazonaws.com", "eu-west-2", Some("GB"));
    check("s3.eu-central-2.amazonaws.com", "eu-central-2", Some("CH"));
    check("s3.amazonaws.com", "eu-west-2", Some("GB"));
    check("s3.amazonaws.com", "eu-central-1", Some("DE"));
    check("s3.amazonaws.com", "us-east-1", None);
    check("s3.eu-west-1.wasabisys.com", "eu-west-1", Some("GB"));
    check("s3.eu-west-2.wasabisys.com", "eu-west-2", Some("FR"));
    check("s3.wasabisys.com", "eu-central-1", Some("US"));
    check("oos.eu-west-2.outscale.com", "eu-west-2", Some("FR"));
    check("eu-west-2.storage.impossibleapi.net", "eu-west-2", Some("GB"));
    check("s3.uk.io.cloud.ovh.net", "uk", Some("GB"));
    check("sos-ch-gva-2.exo.io", "ch-gva-2", Some("CH"));
    check("s-drc2.cloud.gcore.lu", "s-drc2", Some("US"));
    check("s3.swiss-backup01.infomaniak.com", "us-east-1", Some("CH"));
}

#[test]
fn an_address_without_a_country_establishes_none() {
    for host in [
        "0123abc.eu.r2.cloudflarestorage.com",
        "0123abc.r2.cloudflarestorage.com",
        "eu2.contabostorage.com",
        "gateway.storjshare.io",
        "s3.cubbit.eu",
        "6ftru.upcloudobjects.com",
        "storage.googleapis.com",
        "s3.eu-central-3.ionoscloud.com",
        "s3.xx.io.cloud.ovh.net",
    ] {
        assert_eq!(country(host, "eu"), None, "{host}");
        assert_ne!(table().locate(host, "eu"), Known::Unknown, "{host} is a known provider's");
    }
}

#[test]
fn a_broken_table_says_which_entry() {
    let entry = "[[provider]]\nid = \"x\"\nname = \"x\"\nlegal_entity = \"x\"\nheadquarters = \"DE\"\nsources = []\ndomains = []\n";
    let check = |text: &str, expected: &str| {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&format!("{entry}region = []\n{entry}region = []\n"), "provider x: is there twice");
    check(
        &format!("{entry}region = [{{ id = \"a\", place = \"a\", country = \"EU\" }}]"),
        "provider x: a: expected a two-letter",
    );
    check(&format!("{entry}region = [{{ id = \"a\", place = \"a\", endpoints = [\"*\"] }}]"), "is no host pattern");
    check(
        &format!("{entry}region = [{{ id = \"a\", place = \"a\" }}, {{ id = \"a\", place = \"a\" }}]"),
        "region a is there twice",
    );
    check(&format!("{entry}rejion = []"), "not a table of providers");
}
