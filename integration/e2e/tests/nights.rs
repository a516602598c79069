//! Seventy nights with outages of either side, and forty on two servers whose clock is the test's: what the contract
//! needs is there, nothing else stays. A whole year is `scripts/year`.

use std::process::Command;

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::garage::Garage;
use dualsync_e2e::needs;
use dualsync_e2e::nights::{Nights, standing};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;
use dualsync_model::time::Date;

#[test]
fn seventy_nights_with_outages_keep_the_contract_and_nothing_else() {
    if !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    // From before the end of a year to the third month end after it.
    let mut nights =
        Nights::new(&site, source, Box::new(standing), "2027-12-10".parse().expect("a date"), 20_271_210, true);
    for number in 0..70 {
        nights.night(number);
    }
    for target in ["de", "fr"] {
        let objects = nights.objects(target).len();
        assert!(objects < 1500, "{target} holds {objects} objects after 70 nights");
    }
}

#[test]
fn forty_nights_on_two_servers_go_by_the_clock_of_the_servers() {
    if !needs::commands(&["faketime", "mke2fs", "garage"]) {
        return;
    }
    let site = Site::new();
    let first: Date = "2027-12-10".parse().expect("a date");
    let clock = ClockFile::new(&site.path("clock"), first.midnight_utc());
    let server = |name: &str| Garage::start_by(&site.path(name), Some(&clock));
    let (de, fr) = (server("garage-de"), server("garage-fr"));
    let source = tree::tiny_source(&site, "");
    site.configure_s3(&de, &fr, &source);
    let at = Box::new(|command: &Command, at| clock.at(command, at));
    let mut nights = Nights::new(&site, source, at, first, 40, false);
    for number in 0..40 {
        nights.night(number);
    }
    nights.everything_is_whole();
}
