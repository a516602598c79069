//! What is stored opens with tools that are not ours: age, zstd, tar, sha256sum, minisign.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::site::{Site, noise};

/// Runs a shell line in `folder`; it must succeed.
fn shell(folder: &Path, line: &str) -> Output {
    let output = Command::new("bash").args(["-o", "pipefail", "-ec", line]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

async fn night(compression: &str) -> Site {
    let mut site = Site::new().await;
    compression.clone_into(&mut site.compression);
    site.write("etc/passwd", b"root:x:0:0\n");
    site.write("etc/empty", b"");
    site.write("var/noise", &noise(1, 3 << 20));
    std::os::unix::fs::symlink("etc/passwd", site.source().join("link")).unwrap();
    site.backup().await.summary();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn every_volume_opens_with_age_and_its_compressor_and_tar() {
    for (compression, tool) in
        [("zstd:3", "zstd -dc"), ("gzip:6", "gzip -dc"), ("bzip2:1", "bzip2 -dc"), ("xz:1", "xz -dc"), ("off", "cat")]
    {
        let site = night(compression).await;
        let out = site.path("out");
        std::fs::create_dir(&out).unwrap();
        let volumes = site.objects_like("volumes/", ".age");
        assert!(!volumes.is_empty());
        for volume in volumes {
            shell(&site.target(), &format!("age -d -i ../age.key {volume} | {tool} | tar -x -p -C ../out"));
        }
        assert_eq!(std::fs::read(out.join("var/noise")).unwrap(), noise(1, 3 << 20), "{compression}");
        assert_eq!(std::fs::read(out.join("etc/passwd")).unwrap(), b"root:x:0:0\n");
        assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("etc/passwd"));
        assert_eq!(std::fs::metadata(out.join("etc/empty")).unwrap().size(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_and_signature_are_accepted() {
    let site = night("zstd:3").await;
    let sums = site.objects_like("points/", "SHA256SUMS").remove(0);
    shell(&site.target(), &format!("sha256sum -c --strict {sums}"));
    let manifest = site.objects_like("points/", "manifest.json").remove(0);
    let public = site.signing_public.clone().unwrap();
    let checked = shell(&site.target(), &format!("minisign -V -P {public} -m {manifest}"));
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("source=web") && said.contains("sequence=1"), "{said}");
    // The signature inside, as the document takes it out.
    let read = std::fs::read_to_string(site.target().join(&manifest)).unwrap();
    let (text, signature) = read.split_once(",\n  \"signature\": \"").unwrap();
    let signature = signature.strip_suffix("\"\n}\n").unwrap().replace(' ', "\ntrusted comment: inside the text\n");
    std::fs::write(site.path("bare"), format!("{text}\n}}\n")).unwrap();
    std::fs::write(site.path("bare.minisig"), format!("untrusted comment: x\n{signature}\n")).unwrap();
    shell(&site.path(""), &format!("minisign -V -P {public} -m bare"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_readable_text() {
    let site = night("zstd:3").await;
    for object in site.objects_like("catalogs/", ".age") {
        let name = Path::new(&object).file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let lines = shell(
            &site.target(),
            &format!("echo '{name}  {object}' | sha256sum -c - >&2; age -d -i ../age.key {object} | zstd -dc"),
        );
        assert!(
            lines
                .stdout
                .split(|byte| *byte == b'\n')
                .all(|line| line.is_empty() || serde_json::from_slice::<serde_json::Value>(line).is_ok())
        );
    }
}

#[test]
fn keys_of_the_stock_tools_are_taken_and_ours_are_taken_by_them() {
    let folder = tempfile::tempdir().unwrap();
    shell(
        folder.path(),
        "age-keygen -o age.key 2>/dev/null; age-keygen -y age.key > age.pub; minisign -G -W -f -p sign.pub -s sign.key >/dev/null",
    );
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let identity = dualsync_archive::seal::Identity::parse(&read("age.key")).unwrap();
    assert_eq!(identity.recipient().to_string(), read("age.pub").trim());
    let secret = dualsync_archive::minisign::SecretKey::parse(&read("sign.key")).unwrap();
    assert_eq!(secret.public(), dualsync_archive::minisign::PublicKey::parse(&read("sign.pub")).unwrap());
    std::fs::write(folder.path().join("again.key"), secret.to_file().as_bytes()).unwrap();
    std::fs::write(folder.path().join("message"), b"message").unwrap();
    shell(folder.path(), "minisign -S -W -s again.key -m message >/dev/null; minisign -V -p sign.pub -m message");
    let theirs = read("message.minisig");
    assert!(secret.public().verify(b"message", &theirs).is_ok());
}
