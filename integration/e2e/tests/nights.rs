//! Seventy nights on two folders, and forty on two servers that go by the same clock, with outages of either side:
//! what the contract needs is there, nothing else stays. A whole year is `scripts/year`.

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::garage::Garage;
use dualsync_e2e::needs;
use dualsync_e2e::nights::Nights;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;
use dualsync_e2e::weather::{Door, Folder, Weather};
use dualsync_model::time::Date;

/// From before the end of a year to the third month end after it.
fn first() -> Date {
    "2027-12-10".parse().expect("a date")
}

#[test]
fn seventy_nights_with_outages_keep_the_contract_and_nothing_else() {
    if !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    let clock = ClockFile::new(&site.path("clock"), first().midnight_utc());
    let weather = Weather::new(Folder::both(&site), 20_271_210);
    let mut nights = Nights::new(&site, source, &clock, weather, first());
    for _ in 0..70 {
        nights.night();
    }
    nights.each_side_was_away();
    for _ in 0..4 {
        nights.fair_night();
    }
    nights.everything_is_whole();
    nights.nothing_else_is_kept();
}

#[test]
fn forty_nights_on_two_servers_go_by_the_clock_of_the_servers() {
    if !needs::commands(&["faketime", "mke2fs", "garage"]) {
        return;
    }
    let site = Site::new();
    let clock = ClockFile::new(&site.path("clock"), first().midnight_utc());
    let server = |name: &str| Garage::start_by(&site.path(name), Some(&clock));
    let (de, fr) = (server("garage-de"), server("garage-fr"));
    let source = tree::tiny_source(&site, "");
    site.configure_s3(&de, &fr, &source);
    // A run tries for more than a minute before it gives a server up, so the seed is one of short outages: of the block
    // side before three nights, of both at once before one, of the archive side before two.
    let doors: [Box<dyn Door>; 2] = [Box::new(de), Box::new(fr)];
    let mut nights = Nights::new(&site, source, &clock, Weather::new(doors, 1571), first());
    for _ in 0..40 {
        nights.night();
    }
    nights.each_side_was_away();
    nights.fair_night();
    nights.everything_is_whole();
}
