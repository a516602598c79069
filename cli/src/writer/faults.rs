//! What a real writer cannot be made to show: death, silence, garbage, and words out of place.
//!
//! The fakes are shell scripts that speak, or break, the protocol.

use std::os::unix::fs::PermissionsExt;

use dualsync_model::job::{Keys, Place, ProbeTask, Target, Task};
use dualsync_model::time::Timestamp;

use super::*;

const HELLO: &str = r#"echo '{"message_type":"hello","protocol":1,"program":"dualsync-block","version":"0.1.0"}'"#;
const SUMMARY: &str = r#"echo '{"message_type":"summary","exit_code":0,"items":1,"bytes":2,"added_bytes":3,"fetched_bytes":4,"incomplete":0,"requests":{"put":0,"get":0,"list":0,"head":0,"delete":0},"peak_memory_bytes":5}'"#;
const PREPARED: &str = r#"echo '{"message_type":"prepared","sequence":1,"added_bytes":2}'"#;

fn job() -> Job {
    Job {
        protocol: PROTOCOL,
        now: Timestamp::from_seconds(0),
        target: Target {
            name: "paris".into(),
            place: Place::Directory { path: "/nonexistent".into() },
            prefix: String::new(),
            credentials: None,
            immutability: None,
        },
        keys: Keys::Block { key: "file:/nonexistent".parse().unwrap() },
        state: "/nonexistent".into(),
        bandwidth: None,
        task: Task::Probe(ProbeTask {}),
    }
}

const PATIENT: Limits = Limits { silence: Duration::from_mins(1), total: Duration::from_mins(1) };

struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    fn new(body: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("fake");
        std::fs::write(&program, format!("#!/bin/sh\n{}\n", body.join("\n"))).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    async fn start(&self, limits: Limits) -> Result<Writer, WriterError> {
        let log = self.folder.path().join("log");
        Writer::start(Mechanism::Block, &self.folder.path().join("fake"), &job(), limits, &log, None).await
    }

    /// Reads to the end, or to the error.
    async fn all(&self, limits: Limits) -> Result<Vec<Event>, WriterError> {
        let mut writer = self.start(limits).await?;
        let mut events = Vec::new();
        loop {
            match writer.next().await? {
                Event::Summary(summary) => {
                    events.push(Event::Summary(summary));
                    return Ok(events);
                }
                event => events.push(event),
            }
        }
    }
}

async fn failure(body: &[&str]) -> String {
    Fake::new(body).all(PATIENT).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_writer_that_does_its_work_is_heard_to_its_end() {
    let fake = Fake::new(&[
        "read job",
        HELLO,
        PREPARED,
        "read command",
        r#"test "$command" = '{"command":"commit"}' || exit 9"#,
        SUMMARY,
    ]);
    let mut writer = fake.start(PATIENT).await.unwrap();
    assert!(matches!(writer.next().await.unwrap(), Event::Prepared(_)));
    writer.answer(Command::Commit).await;
    assert!(matches!(writer.next().await.unwrap(), Event::Summary(summary) if summary.added_bytes == 3));
}

#[tokio::test]
async fn the_job_is_one_line_and_the_verb_an_argument() {
    let fake = Fake::new(&[
        "read job",
        "echo \"$1\" > \"$(dirname \"$0\")/verb\"",
        "printf '%s' \"$job\" > \"$(dirname \"$0\")/job\"",
        HELLO,
        SUMMARY,
    ]);
    fake.all(PATIENT).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(fake.folder.path().join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&read("job")).unwrap(), job());
    assert_eq!(read("verb"), "probe\n");
}

#[tokio::test]
async fn a_death_is_told_with_the_last_words() {
    let error = Fake::new(&["echo 'disk on fire' >&2", HELLO, "exit 7"]).all(PATIENT).await.unwrap_err();
    assert!(error.to_string().ends_with("exit code 7"), "{error}");
    assert_eq!(error.tail(), ["disk on fire"]);
    assert!(failure(&["exit 1"]).await.ends_with("exit code 1"));
    assert!(failure(&[HELLO, "kill -SEGV $$"]).await.ends_with("killed by signal 11"));
}

#[tokio::test]
async fn what_the_writer_says_itself_is_its_error() {
    let said = r#"echo '{"message_type":"error","exit_code":12,"code":"wrong_key","message":"wrong key"}'; exit 12"#;
    let error = Fake::new(&[HELLO, said]).all(PATIENT).await.unwrap_err();
    assert!(matches!(error, WriterError::Failed { failure, .. } if failure.exit_code == 12));
}

#[tokio::test]
async fn an_end_that_contradicts_the_last_line_is_a_death() {
    assert!(failure(&[HELLO, SUMMARY, "exit 1"]).await.ends_with("exit code 1"));
}

#[tokio::test]
async fn garbage_is_named_and_its_author_killed() {
    let check = async |body: &[&str], expected: &str| {
        let text = failure(body).await;
        assert!(text.contains(expected), "{text}");
    };
    check(&[HELLO, "echo tralala", "sleep 1000"], "not an event").await;
    check(&[HELLO, r#"echo '{"message_type":"surprise"}'"#], "not an event").await;
    check(&[HELLO, "head -c 4096 /dev/urandom; echo"], "not an event").await;
    check(&[HELLO, "printf '{\"message_type\"'"], "half a line").await;
    check(&[HELLO, "tr '\\0' x < /dev/zero"], "longer than 1048576 bytes").await;
    check(&[HELLO, HELLO], "second hello").await;
    check(&[SUMMARY], "before its hello").await;
    check(&[HELLO, SUMMARY, SUMMARY], "after its last line").await;
    check(&[&HELLO.replace("block", "archive")], "hello of dualsync-archive with protocol 1").await;
    check(&[&HELLO.replace(":1,", ":2,")], "hello of dualsync-block with protocol 2").await;
}

#[tokio::test]
async fn garbage_cannot_reach_the_terminal_as_control_characters() {
    let text = failure(&[HELLO, r"printf '\033[2Jgone\n'"]).await;
    assert!(text.contains("gone") && !text.chars().any(char::is_control), "{text:?}");
}

#[tokio::test]
async fn silence_ends_the_whole_process_group() {
    let limits = Limits { silence: Duration::from_millis(500), total: Duration::from_mins(1) };
    let fake = Fake::new(&[HELLO, "sleep 1000 &", "echo $! > \"$(dirname \"$0\")/helper\"", "wait"]);
    let error = fake.all(limits).await.unwrap_err();
    assert!(matches!(error, WriterError::Hung { .. }), "{error}");
    assert!(is_gone(&fake, "helper"));
}

#[tokio::test]
async fn bytes_without_a_newline_are_silence() {
    let limits = Limits { silence: Duration::from_millis(500), total: Duration::from_mins(1) };
    let error = Fake::new(&[HELLO, "while printf x; do sleep 0.05; done"]).all(limits).await.unwrap_err();
    assert!(matches!(error, WriterError::Hung { .. }), "{error}");
}

#[tokio::test]
async fn a_writer_that_talks_for_ever_meets_the_total_limit() {
    let status = r#"while :; do echo '{"message_type":"status","phase":"reading","bytes_done":1,"items_done":0,"transferred_bytes":0}'; sleep 0.05; done"#;
    let limits = Limits { silence: Duration::from_mins(1), total: Duration::from_millis(700) };
    let error = Fake::new(&[HELLO, status]).all(limits).await.unwrap_err();
    assert!(matches!(error, WriterError::TooSlow { .. }), "{error}");
}

#[tokio::test]
async fn a_writer_that_is_given_up_is_stopped_with_its_helpers() {
    let fake = Fake::new(&["sleep 1000 &", "echo $! > \"$(dirname \"$0\")/helper\"", HELLO, "wait"]);
    drop(fake.start(PATIENT).await.unwrap());
    assert!(is_gone(&fake, "helper"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let fake = Fake::new(&[]);
    std::fs::remove_file(fake.folder.path().join("fake")).unwrap();
    let error = fake.start(PATIENT).await.unwrap_err();
    assert!(matches!(&error, WriterError::Start { program, .. } if program.ends_with("fake")), "{error}");
}

/// Whether the process whose number stands in `file` is dead, or dies within five seconds: a signal
/// is on its way when kill(2) returns, and a dead process may wait for somebody to bury it.
fn is_gone(fake: &Fake, file: &str) -> bool {
    let pid = std::fs::read_to_string(fake.folder.path().join(file)).unwrap();
    let alive = || {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
    };
    let patience = std::time::Instant::now() + Duration::from_secs(5);
    while alive() && std::time::Instant::now() < patience {
        std::thread::yield_now();
    }
    !alive()
}
