//! `dualsync keys`: what may be seen is listed, what must not goes to a file of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::site::{ARCHIVE, BLOCK, Ran, Site};

const SECRET: &str = "very-secret-key";

fn with_keys() -> Site {
    let site = Site::new();
    for name in ["block.key", "archive.agekey", "archive.signing"] {
        fs::write(site.path(name), format!("{SECRET}-{name}\n")).unwrap();
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    site
}

fn shows_no_secret(ran: &Ran) {
    assert!(!ran.out.contains(SECRET) && !ran.err.contains(SECRET), "{}{}", ran.out, ran.err);
}

#[test]
fn list_shows_ids_and_where_the_secrets_are_and_no_secret() {
    let site = with_keys();
    let ran = site.run("keys list").ends(0);
    shows_no_secret(&ran);
    for text in ["frankfurt: DE, block copies", "0123456789abcdef", "beef", "file:", "block.key", "signing_key"] {
        assert!(ran.out.contains(text), "{text} is not in\n{}", ran.out);
    }
    let lines = site.run("keys list --json").ends(0).lines();
    assert_eq!((lines.len(), &lines[0]["facts"][0]), (2, &serde_json::json!(["key id", "beef"])));
}

#[test]
fn list_creates_nothing_where_a_repository_or_a_key_is_missing() {
    let site = with_keys();
    site.good_but(BLOCK, "list", "say '{\"message_type\":\"error\",\"exit_code\":10,\"code\":\"repository_missing\",\"message\":\"no repository\"}'; exit 10");
    fs::remove_file(site.path("archive.signing")).unwrap();
    let ran = site.run("keys list").ends(10);
    assert!(ran.out.contains("NOT THERE") && ran.out.contains("not known"), "{}", ran.out);
    for mechanism in [BLOCK, ARCHIVE] {
        let tasks = site.tasks(mechanism, "init");
        assert!(tasks.iter().all(|task| task["only_look"] == true), "{mechanism}: {tasks:?}");
    }
}

#[test]
fn export_writes_the_sheet_into_a_new_private_file_and_never_into_a_pipe() {
    let site = with_keys();
    let path = site.path("sheet.txt");
    let line = format!("keys export --sheet {}", path.display());
    shows_no_secret(&site.run(&line).ends(0));
    let sheet = site.read("sheet.txt");
    for text in [
        "very-secret-key-block.key",
        "very-secret-key-archive.agekey",
        "very-secret-key-archive.signing",
        "0123456789abcdef",
    ] {
        assert!(sheet.contains(text), "{text}");
    }
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    site.run(&line).ends(1).tells("could not be written");
    let piped = site.run("keys export").ends(2).tells("--sheet FILE");
    shows_no_secret(&piped);
    shows_no_secret(&site.run("keys export --json").ends(2));
}

#[test]
fn a_store_that_is_away_can_be_exported_once_it_was_heard() {
    let site = with_keys();
    site.run("keys list").ends(0);
    site.good_but(
        ARCHIVE,
        "list",
        "say '{\"message_type\":\"error\",\"exit_code\":1,\"code\":\"store\",\"message\":\"no route\"}'; exit 1",
    );
    site.run(&format!("keys export --sheet {}", site.path("one.txt").display())).ends(1).tells("no route");
    assert!(site.read("one.txt").contains("very-secret-key-archive.agekey"));
    fs::remove_dir_all(site.path("state")).unwrap();
    let ran = site.run(&format!("keys export --sheet {}", site.path("two.txt").display())).ends(1);
    assert!(ran.err.contains("the repository of paris is not known") && !site.path("two.txt").exists(), "{}", ran.err);
}

#[test]
fn qr_adds_a_code_of_each_secret() {
    let site = with_keys();
    site.run(&format!("keys export --qr --sheet {}", site.path("sheet.txt").display())).ends(0);
    let sheet = site.read("sheet.txt");
    assert_eq!(sheet.matches("QR code of the ").count(), 3, "{sheet}");
    assert!(sheet.contains('\u{2588}') && sheet.contains('\u{2580}'));
}

const ROTATED: &str = r#"say '{"message_type":"key_slot","id":"new1","kind":"rotated","opens":"everything","created_at":"2026-11-20T02:00:00Z","current":true,"files":["/k/block.key","/k/block.key.old1"]}'
say '{"message_type":"key_slot","id":"old1","kind":"raw","opens":"what was stored before","current":false}'
"#;

/// With a block writer that tells two keys.
fn rotating() -> Site {
    let site = with_keys();
    site.good_but(BLOCK, "keys", &format!("{ROTATED}say '{}'; exit 0", crate::site::SUMMARY));
    site
}

#[test]
fn list_tells_every_key_and_which_one_is_used() {
    let site = rotating();
    let ran = site.run("keys list").ends(0);
    ran.says(&["rotated key", "new1, since 2026-11-20T02:00:00Z: opens everything; new copies are sealed with it"]);
    ran.says(&["raw key", "old1: opens what was stored before"]);
    let lines = site.run("keys list --json").ends(0).lines();
    assert_eq!(lines[0]["keys"][0]["id"], "new1");
}

#[test]
fn rotate_asks_the_writer_and_hands_a_new_sheet_out() {
    let site = rotating();
    let sheet = site.path("sheet.txt");
    let ran = site.run(&format!("keys rotate --target frankfurt --sheet {}", sheet.display())).ends(0);
    shows_no_secret(&ran);
    for text in ["sealed with new1", "/k/block.key", "kept in /k/block.key.old1", "name old1 as the key id"] {
        assert!(ran.err.contains(text), "{text}: {}", ran.err);
    }
    assert!(site.read("sheet.txt").contains("very-secret-key-block.key"));
    let acts: Vec<_> = site.tasks(BLOCK, "keys").iter().map(|task| task["act"].clone()).collect();
    assert_eq!(acts, ["rotate", "list"]);
    assert!(site.tasks(ARCHIVE, "keys").iter().all(|task| task["act"] == "list"), "the other target is left alone");
    site.run(&format!("keys rotate --target frankfurt --sheet {}", sheet.display()))
        .ends(2)
        .tells("never written over");
    assert_eq!(site.tasks(BLOCK, "keys").len(), 2, "nothing was rotated for a sheet that cannot be written");
    let json = site.run("keys rotate --target frankfurt --json").ends(0).last();
    assert_eq!((&json["message_type"], &json["keys"][0]["current"]), (&"rotated".into(), &true.into()));
    let to = site.run("keys rotate --target paris --to /root/new.agekey").ends(0).tells("next: put /root/new.agekey");
    shows_no_secret(&to);
    assert_eq!(site.tasks(ARCHIVE, "keys").pop().unwrap()["to"], "/root/new.agekey");
}

#[test]
fn rotate_refuses_what_would_lock_somebody_out() {
    let site = rotating();
    site.run("keys rotate").ends(2).tells("--target NAME, one of: frankfurt, paris");
    site.run("keys rotate --target rome").ends(2).tells("frankfurt, paris");
    let twin = site.config().replace(
        "[targets.paris]",
        &format!(
            "[targets.berlin]\nmechanism = \"block\"\nkind = \"directory\"\npath = \"{at}/b\"\ncountry = \"DE\"\nprovider = \"left\"\nkey = \"file:{at}/block.key\"\n\n[targets.paris]",
            at = site.path("").display().to_string().trim_end_matches('/')
        ),
    );
    site.configure(&twin);
    site.run("keys rotate --target frankfurt").ends(2).tells("is the key of berlin too");
    assert!(site.tasks(BLOCK, "keys").is_empty());
    site.configure(&site.config());
    site.good_but(
        BLOCK,
        "keys",
        "say '{\"message_type\":\"error\",\"exit_code\":12,\"code\":\"wrong_key\",\"message\":\"was rotated\"}'; exit 12",
    );
    site.run("keys rotate --target frankfurt").ends(12).tells("was rotated");
}

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

#[test]
fn a_recipient_is_written_into_the_configuration_and_taken_out_again() {
    let site = with_keys();
    let before = site.read("dualsync.toml");
    let add = format!("keys add --target paris {RECIPIENT}");
    site.run(&add).ends(0).tells("from the next run on");
    assert_eq!(site.read("dualsync.toml").replace(&format!("recipients = [\"{RECIPIENT}\"]\n"), ""), before);
    site.run(&add).ends(2).tells("is already a recipient");
    site.run("run").ends(0);
    let job = site.jobs(ARCHIVE).into_iter().rfind(|job| job["task"]["verb"] == "backup").unwrap();
    assert_eq!(job["keys"]["recipients"][0], RECIPIENT);
    let remove = format!("keys remove --target paris {RECIPIENT}");
    site.run(&remove).ends(2).tells("add --yes");
    site.run(&format!("{remove} --yes")).ends(0).tells("nothing that is new");
    assert_eq!(site.read("dualsync.toml").replace("recipients = []\n", ""), before);
    site.run(&format!("{remove} --yes")).ends(2).tells("is not a recipient");
    let text = site.read("dualsync.toml");
    site.run("keys add --target paris age1nonsense").ends(2).tells("age recipient");
    assert_eq!(site.read("dualsync.toml"), text, "what would not be read is not written");
    site.run(&format!("keys add --target frankfurt {RECIPIENT}")).ends(2).tells("block target");
    let sealed = text.replace("recipients = []", &format!("recipients = [\"{RECIPIENT}\"]\nsealed = true"));
    site.configure(&sealed);
    site.run(&format!("{remove} --yes")).ends(2).tells("sealed mode needs recipients");
    assert_eq!(site.read("dualsync.toml"), sealed);
}

#[test]
fn add_and_remove_ask_the_block_writer_for_a_slot() {
    let site = with_keys();
    let said = r#"say '{"message_type":"key_slot","id":"5f","kind":"retention","opens":"manifests only","current":false,"files":["/k/pruner.key"]}'"#;
    site.good_but(BLOCK, "keys", &format!("{said}\nsay '{}'; exit 0", crate::site::SUMMARY));
    let ran = site.run("keys add --target frankfurt --retention /k/pruner.key").ends(0);
    assert!(
        ran.err.contains("retention key 5f: opens manifests only") && ran.err.contains("/k/pruner.key"),
        "{}",
        ran.err
    );
    site.run("keys add --target frankfurt --key-file /k/spare.key").ends(0);
    site.run("keys add --target frankfurt --passphrase-from file:/k/words --memory-mib 64 --json").ends(0);
    site.run("keys remove --target frankfurt 5f").ends(2).tells("add --yes");
    site.run("keys remove --target frankfurt 5f --yes").ends(0).tells("shuts out of what is new");
    let tasks: Vec<_> =
        site.tasks(BLOCK, "keys").iter().map(|task| (task["act"].clone(), task["new"].clone())).collect();
    let expected = [
        ("add", serde_json::json!({"kind": "retention", "to": "/k/pruner.key"})),
        ("add", serde_json::json!({"kind": "key_file", "to": "/k/spare.key"})),
        ("add", serde_json::json!({"kind": "passphrase", "from": "file:/k/words", "memory_mib": 64})),
        ("remove", serde_json::Value::Null),
    ];
    assert_eq!(tasks, expected.map(|(act, new)| (serde_json::json!(act), new)));
    for line in ["", "--passphrase-from nonsense", "--key-file /k/a --retention /k/b"] {
        site.run(&format!("keys add --target frankfurt {line}")).ends(2);
    }
    site.run("keys add --target paris --retention /k/x").ends(2).tells("archive target");
    assert_eq!(site.tasks(BLOCK, "keys").len(), 4);
}
