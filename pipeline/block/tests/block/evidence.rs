//! `evidence`: a report is kept once, proved, and given back; what is not whole says so.

use std::path::PathBuf;

use crate::support::{Lines, Workshop, events, noise, point};
use dualsync_block::digest::Sha256;
use dualsync_block::evidence::{EvidenceError, list, put};
use dualsync_block_store::contract::ErrorKind;
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::event::{Event, Evidence};
use dualsync_model::job::{Depth, ReportId};

/// Writes the files of a report; its id.
fn report(shop: &Workshop, number: u64, text: &str) -> (ReportId, PathBuf) {
    let folder = shop.folder.path().join(format!("report-{number}-{}", text.len()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, body) in [("report.json", text), ("report.txt", "as text"), ("report.html", "<p>as a page")] {
        std::fs::write(folder.join(name), body).unwrap();
    }
    let previous = (number > 1).then(|| "ab".repeat(32));
    (ReportId { number, at: point(1).time(), sha256: Sha256::of(text.as_bytes()).to_string(), previous }, folder)
}

fn told(lines: &Lines) -> Vec<Evidence> {
    let evidence = |event| if let Event::Evidence(told) = event { Some(told) } else { None };
    lines.all().into_iter().filter_map(evidence).collect()
}

async fn listed(shop: &Workshop) -> Vec<Evidence> {
    let (said, lines) = events();
    list(&*shop.open().await, None, &said).await.unwrap();
    told(&lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_kept_once_and_come_back_as_they_were() {
    let shop = Workshop::new().await;
    let (said, lines) = events();
    for number in [1, 2] {
        let (id, folder) = report(&shop, number, "{}");
        put(&*shop.open().await, &id, &folder, &said).await.unwrap();
    }
    assert_eq!(told(&lines).len(), 2);
    let kept = shop.keys("evidence/");
    assert_eq!(kept.len(), 8);
    assert!(
        kept[0].starts_with("evidence/00000001-")
            && kept.iter().filter(|key| key.ends_with("/proof.json")).count() == 2
    );
    // Told again, nothing is put; another report of the number is refused.
    let (id, folder) = report(&shop, 2, "{}");
    put(&*shop.open().await, &id, &folder, &said).await.unwrap();
    let (other, folder) = report(&shop, 2, "{ }");
    let refused = put(&*shop.open().await, &other, &folder, &said).await;
    assert!(matches!(refused, Err(EvidenceError::Taken { number: 2, .. })), "{refused:?}");
    assert_eq!(shop.keys("evidence/"), kept);
    let to = shop.folder.path().join("back");
    let (kept, wrong) = list(&*shop.open().await, Some(&to), &said).await.unwrap();
    assert_eq!((kept, wrong), (2, 0));
    assert_eq!(std::fs::read_to_string(to.join("2/report.html")).unwrap(), "<p>as a page");
    assert_eq!(listed(&shop).await[1].report, id);
    assert_eq!(shop.check(Depth::Presence).await.0.unwrap().findings, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_not_the_told_one_is_not_kept() {
    let shop = Workshop::new().await;
    let (mut id, folder) = report(&shop, 1, "{}");
    id.sha256 = "cd".repeat(32);
    let refused = put(&*shop.open().await, &id, &folder, &events().0).await;
    assert!(matches!(refused, Err(EvidenceError::OtherReport { .. })), "{refused:?}");
    std::fs::write(folder.join("report.txt"), vec![0; (16 << 20) + 1]).unwrap();
    let refused = put(&*shop.open().await, &id, &folder, &events().0).await;
    assert!(matches!(refused, Err(EvidenceError::TooLong(_))), "{refused:?}");
    assert!(shop.keys("evidence/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_a_report_is_told_and_mended_by_a_second_put() {
    let shop = Workshop::new().await;
    let (id, folder) = report(&shop, 1, "{}");
    put(&*shop.open().await, &id, &folder, &events().0).await.unwrap();
    for key in shop.keys("evidence/") {
        for damage in ["remove", "flip", "cut"] {
            let fork = shop.fork();
            let key = key.parse().unwrap();
            let mut body = fork.memory.remove(&key).unwrap().to_vec();
            match damage {
                "flip" => body[1] ^= 1,
                "cut" => drop(body.pop()),
                _ => {}
            }
            if damage != "remove" {
                fork.memory.replace(key.clone(), body.into());
            }
            let told = listed(&fork).await;
            let is_unproved = damage == "remove" && key.as_str().ends_with("proof.json");
            assert_eq!(
                told.iter().filter(|told| told.problem.is_some()).count(),
                usize::from(!is_unproved),
                "{key} {damage}"
            );
            let (_, lines) = fork.check(Depth::Presence).await;
            assert_eq!(lines.findings().len(), usize::from(!is_unproved), "{key} {damage}");
            put(&*fork.open().await, &id, &folder, &events().0).await.unwrap();
            assert!(
                listed(&fork).await.iter().any(|told| told.problem.is_none() && told.report == id),
                "{key} {damage}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_proof_takes_no_number() {
    let shop = Workshop::new().await;
    let forged = "evidence/00000001-20261120T020000Z-abababababababab/proof.json";
    shop.memory.replace(forged.parse().unwrap(), noise(300, 1).into());
    let (id, folder) = report(&shop, 1, "{}");
    put(&*shop.open().await, &id, &folder, &events().0).await.unwrap();
    let told = listed(&shop).await;
    assert_eq!(told.iter().map(|told| told.problem.is_some()).filter(|wrong| *wrong).count(), 1);
    assert_eq!(told.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_off_anywhere_leaves_no_report_and_can_be_told_again() {
    let shop = Workshop::new().await;
    let (id, folder) = report(&shop, 1, "{}");
    // One call opens the repository, one lists, four put.
    for call in 1..6 {
        let fork = shop.fork();
        let faulty = FaultyStore::at_call(std::sync::Arc::clone(&fork.store), call, Fault::Fail(ErrorKind::Full));
        let repository = fork.open_on(std::sync::Arc::new(faulty)).await;
        assert!(put(&repository, &id, &folder, &events().0).await.is_err(), "call {call}");
        assert!(listed(&fork).await.is_empty(), "call {call}");
        put(&*fork.open().await, &id, &folder, &events().0).await.unwrap();
        assert_eq!(listed(&fork).await.len(), 1, "call {call}");
    }
}
