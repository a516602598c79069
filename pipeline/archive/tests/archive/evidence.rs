//! Reports that are kept: proved, never replaced, and good for an auditor with stock tools.

use std::path::PathBuf;
use std::process::Command;

use dualsync_archive::digest::Digest;
use dualsync_model::event::{Event, Evidence};
use dualsync_model::job::{EvidenceTask, ReportId, Task};

use crate::site::{Ended, Site};

/// Writes a report to keep, and tells of it.
fn report(site: &Site, number: u64, text: &str) -> Task {
    let folder = site.path(&format!("report-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["report.json", "report.txt", "report.html"] {
        std::fs::write(folder.join(name), format!("{name} of {text}")).unwrap();
    }
    let sha256 = Digest::of(format!("report.json of {text}").as_bytes()).hex();
    let previous = (number > 1).then(|| "ab".repeat(32));
    Task::Evidence(EvidenceTask::Put { report: ReportId { number, at: site.now(), sha256, previous }, folder })
}

async fn list(site: &Site, folder: Option<PathBuf>) -> Vec<Evidence> {
    let ended = site.run(Task::Evidence(EvidenceTask::List { folder })).await;
    ended.summary();
    lines(&ended)
}

fn lines(ended: &Ended) -> Vec<Evidence> {
    let lines = ended.events.iter().filter_map(|event| match event {
        Event::Evidence(evidence) => Some(evidence.clone()),
        _ => None,
    });
    lines.collect()
}

#[tokio::test]
async fn a_report_is_kept_once_and_given_back() {
    let site = Site::new().await;
    for number in 1..=2 {
        site.run(report(&site, number, "night")).await.summary();
    }
    let kept = list(&site, Some(site.path("out"))).await;
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|one| one.problem.is_none()), "{kept:?}");
    assert_eq!((kept[1].report.number, kept[1].report.previous.as_deref()), (2, Some("ab".repeat(32).as_str())));
    for name in ["report.json", "report.txt", "report.html"] {
        assert_eq!(std::fs::read_to_string(site.path("out/2").join(name)).unwrap(), format!("{name} of night"));
    }
    let objects = site.objects();
    site.run(report(&site, 2, "night")).await.summary();
    assert_eq!(site.objects(), objects, "the same again is kept already");
    let fault = site.run(report(&site, 2, "other")).await.outcome.unwrap_err();
    assert_eq!((fault.code(), site.objects()), ("refused", objects), "another one is never put over it");
}

#[tokio::test]
async fn a_report_that_is_not_the_told_one_is_not_kept() {
    let site = Site::new().await;
    let task = report(&site, 1, "night");
    std::fs::write(site.path("report-1/report.json"), "changed since").unwrap();
    assert_eq!(site.run(task).await.outcome.unwrap_err().code(), "usage");
    assert!(site.objects_like("evidence/", "").is_empty());
}

#[tokio::test]
async fn stock_minisign_accepts_a_report() {
    let site = Site::new().await;
    site.run(report(&site, 7, "night")).await.summary();
    let json = site.target().join(&site.objects_like("evidence/", "report.json")[0]);
    let verify = || {
        let public = site.signing_public.as_ref().unwrap();
        Command::new("minisign").args(["-V", "-P", public, "-m"]).arg(&json).output().unwrap()
    };
    let output = verify();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("report=7 at=20"), "{said}");
    std::fs::write(&json, "forged").unwrap();
    assert!(!verify().status.success());
}

#[tokio::test]
async fn every_harm_to_every_file_of_a_report_is_told() {
    for name in ["report.json", "report.txt", "report.html", "report.json.minisig", "proof.json"] {
        for harm in ["flip", "cut", "gone"] {
            let site = Site::new().await;
            site.run(report(&site, 1, "night")).await.summary();
            let path = site.target().join(&site.objects_like("evidence/", &format!("/{name}"))[0]);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match harm {
                "flip" => bytes[middle] ^= 1,
                _ => bytes.truncate(middle),
            }
            std::fs::write(&path, bytes).unwrap();
            if harm == "gone" {
                std::fs::remove_file(&path).unwrap();
            }
            let kept = list(&site, Some(site.path("out"))).await;
            if (name, harm) == ("proof.json", "gone") {
                assert!(kept.is_empty(), "without its proof it is a put that was cut off");
            } else {
                assert!(kept[0].problem.is_some(), "{name} {harm}");
            }
            assert!(!site.path("out/1").exists(), "{name} {harm}");
        }
    }
}

#[tokio::test]
async fn a_report_of_another_number_is_not_taken_for_this_one() {
    let site = Site::new().await;
    site.run(report(&site, 1, "night")).await.summary();
    let folder = site.target().join("evidence");
    let name = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    std::fs::rename(folder.join(&name), folder.join(name.replace("00000001-", "00000002-"))).unwrap();
    let kept = list(&site, None).await;
    assert!(kept[0].problem.is_some(), "{kept:?}");
}
