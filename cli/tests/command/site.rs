//! A host in a folder: the real `dualsync`, two fake writers beside it, a configuration, a small source.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The host.
pub struct Site {
    folder: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Of a process that is over.
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code, showing everything when it is another.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Asserts that a text is on standard error.
    #[track_caller]
    pub fn tells(self, text: &str) -> Self {
        assert!(self.err.contains(text), "'{text}' is not in\n{}", self.err);
        self
    }

    /// Asserts that one line of standard output has all these parts. (The seconds of a point's name are those of a
    /// busy machine.)
    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        let found = self.out.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} are not on one line of\n{}\n{}", self.out, self.err);
    }

    /// The JSON lines of standard output.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// The last JSON line of standard output.
    #[track_caller]
    pub fn last(&self) -> Value {
        self.lines().pop().expect("a line")
    }

    /// The JSON error on standard error.
    #[track_caller]
    pub fn error(&self) -> Value {
        serde_json::from_str(self.err.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("no JSON: {}", self.err))
    }
}

/// The block writer's name, or the archive writer's.
pub const BLOCK: &str = "block";
pub const ARCHIVE: &str = "archive";

/// The fact of the tree's root.
pub const ROOT: &str = r#"{"message_type":"fact","path":"","kind":"directory","size":0,"mtime":"2026-11-20T01:00:00Z","mode":493,"uid":0,"gid":0,"xattrs":"","state":"good"}"#;

/// The fact of a file with this name and digest.
pub fn file(name: &str, digit: char) -> String {
    let sha256 = digit.to_string().repeat(64);
    format!(
        r#"{{"message_type":"fact","path":"{name}","kind":"file","size":5,"mtime":"2026-11-20T01:00:00Z","mode":420,"uid":0,"gid":0,"xattrs":"","sha256":"{sha256}","state":"good"}}"#
    )
}

/// A summary line.
pub const SUMMARY: &str = r#"{"message_type":"summary","exit_code":0,"items":2,"bytes":2048,"added_bytes":1024,"fetched_bytes":0,"incomplete":0,"requests":{"put":3,"get":1,"list":1,"head":0,"delete":0},"peak_memory_bytes":1}"#;

const PUBLIC: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

impl Site {
    /// With two writers that do everything well.
    pub fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "tree", "store-block", "store-archive"] {
            fs::create_dir(site.path(folder)).unwrap();
        }
        let own = Path::new(env!("CARGO_BIN_EXE_dualsync"));
        if fs::hard_link(own, site.path("bin/dualsync")).is_err() {
            fs::copy(own, site.path("bin/dualsync")).unwrap();
        }
        fs::write(site.path("web.img"), vec![7; 4096]).unwrap();
        fs::write(site.path("prune.py"), include_str!("prune.py")).unwrap();
        site.configure(&site.config());
        site.good(BLOCK);
        site.good(ARCHIVE);
        site
    }

    /// A path of the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A text file of the host.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A configuration with two directory targets and one source.
    pub fn config(&self) -> String {
        let at = self.folder.path().display();
        format!(
            r#"host = "web-01"
timezone = "Europe/Athens"
state = "{at}/state"

[limits]
writer_silence = "30s"

[targets.frankfurt]
mechanism = "block"
kind = "directory"
path = "{at}/store-block"
country = "DE"
provider = "left"
key = "file:{at}/block.key"

[targets.paris]
mechanism = "archive"
kind = "directory"
path = "{at}/store-archive"
country = "FR"
provider = "right"
identity = "file:{at}/archive.agekey"
signing_key = "file:{at}/archive.signing"
signing_public = "{PUBLIC}"

[[source]]
name = "web"
device = "{at}/web.img"
tree = "{at}/tree"
snapshot = "none"
block = "frankfurt"
archive = "paris"
schedule = "0 3 * * *"
"#
        )
    }

    /// Lets a writer be silent for a second only.
    pub fn be_impatient(&self) {
        self.configure(&self.config().replace("\"30s\"", "\"1s\""));
    }

    /// Replaces the configuration.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("dualsync.toml"), text).unwrap();
    }

    /// A writer that does what `body`, shell, says after its hello and the job.
    pub fn fake(&self, mechanism: &str, body: &str) {
        let script = format!(
            "#!/bin/sh\nat='{at}'\nread -r job\nprintf '%s\\n' \"$job\" >> \"$at/{mechanism}.jobs\"\n\
             say() {{ printf '%s\\n' \"$1\"; }}\n\
             say '{{\"message_type\":\"hello\",\"protocol\":1,\"program\":\"dualsync-{mechanism}\",\"version\":\"0.1.0\"}}'\n\
             {body}\n",
            at = self.folder.path().display(),
        );
        self.program(&format!("bin/dualsync-{mechanism}"), &script);
    }

    /// A script of the user's.
    pub fn script(&self, name: &str, body: &str) {
        self.program(name, &format!("#!/bin/sh\n{body}\n"));
    }

    fn program(&self, name: &str, text: &str) {
        let program = self.path(name);
        // A running script must not change under its shell: a new file in its place.
        let _ = fs::remove_file(&program);
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A writer that does every verb well and remembers the points it committed.
    pub fn good(&self, mechanism: &str) {
        self.fake(mechanism, &good(mechanism));
    }

    /// A writer that does everything well but `verb`, which goes as `body` says.
    pub fn good_but(&self, mechanism: &str, verb: &str, body: &str) {
        self.fake(mechanism, &format!("if test \"$1\" = {verb}; then\n{body}\nfi\n{}", good(mechanism)));
    }

    /// The jobs a writer was given.
    #[track_caller]
    pub fn jobs(&self, mechanism: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(&format!("{mechanism}.jobs"))).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The tasks of one verb that a writer was given.
    #[track_caller]
    pub fn tasks(&self, mechanism: &str, verb: &str) -> Vec<Value> {
        let tasks = self.jobs(mechanism).into_iter().map(|job| job["task"].clone());
        tasks.filter(|task| task["verb"] == verb).collect()
    }

    /// The command, ready to be changed or started.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.path("bin/dualsync"));
        command.env("DUALSYNC_CONFIG", self.path("dualsync.toml")).env_remove("CREDENTIALS_DIRECTORY");
        command.args(line.split_whitespace());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }

    /// Runs the command to its end under a wall clock that stands at `time`; limits run on.
    pub fn at(&self, time: &str, line: &str) -> Ran {
        let mut command = Command::new("faketime");
        command.arg("-f").arg(time).arg(self.path("bin/dualsync")).args(line.split_whitespace());
        command.env("DUALSYNC_CONFIG", self.path("dualsync.toml")).env("TZ", "UTC");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        Ran::of(command.output().expect("faketime is installed"))
    }
}

fn good(mechanism: &str) -> String {
    let public = if mechanism == ARCHIVE { format!(r#","signing_public":"{PUBLIC}""#) } else { String::new() };
    format!(
        r#"points="$at/{mechanism}.points" marks="$at/{mechanism}.marks"
field() {{ printf '%s' "$job" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }}
maybe() {{ value=$(field "$1"); printf '%s' "${{value:+,\"$1\":\"$value\"}}"; }}
case "$1" in
backup)
    say '{{"message_type":"status","phase":"reading","bytes_done":1024,"bytes_total":2048,"items_done":1,"transferred_bytes":512}}'
    say '{{"message_type":"prepared","sequence":1,"added_bytes":1024}}'
    read -r command
    case "$command" in
    *commit*)
        number=$(( $(cat "$points" 2>/dev/null | wc -l) + 1 ))
        committed='"manifest":"points/'$(field point)'","sequence":'$number',"sha256":"'$(printf %064d $number)'"'
        printf '%s\n' '{{"point":"'$(field point)'","business_date":"'$(field business_date)'","class":"'$(field class)'","created_at":"'$(field taken_at)'","snapshot_id":"'$(field id)'","snapshot_method":"none","frozen":false,"size_bytes":4096,"stored_bytes":2048,"added_bytes":1024,"duration_s":7,'"$committed$(maybe note)$(maybe expires)}}" >> "$points"
        say '{{"message_type":"committed",'"$committed}}"
        ;;
    *) say '{{"message_type":"error","exit_code":1,"code":"aborted","message":"aborted"}}'; exit 1 ;;
    esac ;;
list)
    source=$(field source)
    test -f "$points" && while read -r line; do
        case "$line" in *'"point"'*'"'"${{source:-}}"*@*) ;; *) continue ;; esac
        manifest=$(printf '%s' "$line" | sed 's/.*"manifest": *"\([^"]*\)".*/\1/')
        mark=$(test -f "$marks" && grep -F "\"$manifest\"" "$marks")
        state='"state":"available"'
        test -z "$mark" || state='"state":"deleting","mark":'"$mark"
        say "${{line%\}}}}"',"message_type":"point",'"$state}}"
    done < "$points" ;;
prune) printf '%s' "$job" | python3 -ISE "$at/prune.py" "$at/{mechanism}" || exit 1 ;;
init) say '{{"message_type":"repository","id":"0123456789abcdef","created":true,"facts":[["key id","beef"]],"recover_sha256":"{sha}"{public}}}' ;;
facts)
    test -f "$at/facts" && cat "$at/facts" || say '{ROOT}' ;;
evidence)
    number=$(printf '%s' "$job" | sed -n 's/.*"number":\([0-9]*\).*/\1/p')
    case "$job" in
    *'"act":"put"'*)
        kept=$(grep "^$number " "$at/{mechanism}.evidence" 2>/dev/null)
        if test -z "$kept"; then
            echo "$number $(field at) $(field sha256) $(field previous)" >> "$at/{mechanism}.evidence"
            mkdir -p "$at/{mechanism}.reports/$number"
            for file in report.json report.txt report.html; do
                cp "$(field folder)/$file" "$at/{mechanism}.reports/$number/$file" || exit 1
            done
        elif ! printf '%s' "$kept" | grep -q "$(field sha256)"; then
            say '{{"message_type":"error","exit_code":1,"code":"refused","message":"another report has this number"}}'; exit 1
        fi ;;
    *)
        folder=$(field folder)
        test -z "$folder" || cp -r "$at/{mechanism}.reports/." "$folder/"
        test -f "$at/{mechanism}.evidence" && while read -r number time sha previous; do
            test -z "$previous" || previous=',"previous":"'$previous'"'
            say '{{"message_type":"evidence","number":'$number',"at":"'$time'","sha256":"'$sha'"'$previous',"object":"evidence/'$number'/proof"}}'
        done < "$at/{mechanism}.evidence" ;;
    esac ;;
probe) say '{{"message_type":"capability","name":"round_trip","state":"enforced","detail":"wrote, read and deleted 1 KiB"}}' ;;
esac
say '{SUMMARY}'
exit 0"#,
        sha = "0".repeat(64),
    )
}
