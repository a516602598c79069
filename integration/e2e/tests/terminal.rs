//! On a terminal each path has a progress bar of its own.

use std::process::Command;

use dualsync_e2e::image::text;
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

#[test]
fn a_run_on_a_terminal_shows_two_bars_at_once() {
    if !needs::commands(&["script"]) {
        return;
    }
    let site = Site::new();
    // Three MiB at one a second: both programs are at work for long enough to be drawn side by side.
    let source = tree::small_source(&site, "bandwidth = \"1MiB/s\"\n");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let run = format!("stty cols 200; exec {} run", text(&site.programs.path("dualsync")));
    let mut script = Command::new("script");
    script.env("DUALSYNC_CONFIG", site.config()).env("TERM", "xterm").args(["-qec", &run, "/dev/null"]);
    let shown = Ran::of(&mut script).exits(0).stdout;
    // A bar is drawn again and again; both stand below each other in one of these drawings.
    let is_bar = |part: &str| part.contains('[') && part.contains('%') && part.contains(" of ") && part.contains("/s");
    let both = |drawing: &str| {
        drawing
            .split_once("web archive ")
            .is_some_and(|(block, archive)| block.contains("web block ") && is_bar(block) && is_bar(archive))
    };
    assert!(shown.split("\u{1b}[2K").any(both), "{shown:?}");
    // They go away, and what stays is the result.
    let last = shown.rsplit("\u{1b}[2K").next().unwrap();
    assert!(last.contains("  block ") && last.contains("  archive ") && !last.contains('%'), "{last:?}");
}
