//! Seventy nights with outages of either side: what the contract needs is there, nothing else stays. A whole year
//! is `scripts/year`.

use dualsync_e2e::needs;
use dualsync_e2e::nights::{Nights, standing};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

#[test]
fn seventy_nights_with_outages_keep_the_contract_and_nothing_else() {
    if !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    // From before the end of a year to the third month end after it.
    let mut nights = Nights::new(&site, source, standing, "2027-12-10".parse().expect("a date"), 20_271_210, true);
    for number in 0..70 {
        nights.night(number);
    }
    for target in ["de", "fr"] {
        let objects = nights.objects(target).len();
        assert!(objects < 1500, "{target} holds {objects} objects after 70 nights");
    }
}
