//! What is known of providers: which host lies in which country.
//!
//! The table itself is `targets/providers.toml`; it is read outside and comes in as data. A host
//! that is in the table is believed over anything a configuration claims.

use crate::country::Country;
use crate::endpoint::HostPattern;

/// One company that rents out storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The word for `provider = ` in a configuration.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// The company behind it.
    pub legal_entity: String,
    /// Where that company, or the one that controls it, has its seat.
    pub headquarters: Country,
    /// What it says about S3 object lock; `None` where that could not be looked up.
    pub object_lock: Option<bool>,
    /// The pages the entry was read from.
    pub sources: Vec<String>,
    /// Fields that were not looked up on a page.
    pub unconfirmed: Vec<String>,
    /// Every host below these names is this provider's.
    pub domains: Vec<String>,
    /// Hosts that serve many regions: there the configured region says which.
    pub shared_endpoints: Vec<HostPattern>,
    /// Its regions.
    pub regions: Vec<Region>,
}

/// One region of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its id.
    pub id: String,
    /// The city or area, for people.
    pub place: String,
    /// The country its data lies in; `None` where the provider names none.
    pub country: Option<Country>,
    /// Whether the country was not looked up on a page: it still overrides a claim, and proves none.
    pub unconfirmed: bool,
    /// What makes it a trap, for people.
    pub note: Option<String>,
    /// Hosts that serve this region only.
    pub endpoints: Vec<HostPattern>,
}

/// What the table knows about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// The provider and the region.
    Region(&'a Provider, &'a Region),
    /// The provider, but no region it is known to have.
    Provider(&'a Provider),
    /// Nothing.
    Unknown,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// A table of these.
    pub const fn new(providers: Vec<Provider>) -> Self {
        Self(providers)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.iter()
    }

    /// The one with this id.
    pub fn by_id(&self, id: &str) -> Option<&Provider> {
        self.0.iter().find(|provider| provider.id == id)
    }

    /// What is known of `host` (lower case), where a host that serves many regions needs `region`.
    pub fn locate(&self, host: &str, region: &str) -> Known<'_> {
        for provider in &self.0 {
            if let Some(found) = provider.region_of(host, region) {
                return Known::Region(provider, found);
            }
        }
        self.0.iter().find(|provider| provider.owns(host)).map_or(Known::Unknown, Known::Provider)
    }
}

impl Provider {
    /// The region with this id.
    pub fn region(&self, id: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.id == id)
    }

    fn region_of(&self, host: &str, region: &str) -> Option<&Region> {
        let by_host = self.regions.iter().find(|known| matches(&known.endpoints, host));
        by_host.or_else(|| matches(&self.shared_endpoints, host).then(|| self.region(region)).flatten())
    }

    fn owns(&self, host: &str) -> bool {
        let below = |domain: &String| {
            host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.domains.iter().any(below) || matches(&self.shared_endpoints, host)
    }
}

fn matches(patterns: &[HostPattern], host: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: &str, country: Option<&str>, endpoint: &str) -> Region {
        Region {
            id: id.to_owned(),
            place: id.to_owned(),
            country: country.map(|code| code.parse().unwrap()),
            unconfirmed: false,
            note: None,
            endpoints: vec![endpoint.parse().unwrap()],
        }
    }

    fn table() -> Providers {
        Providers::new(vec![Provider {
            id: "cloud".to_owned(),
            name: "Cloud".to_owned(),
            legal_entity: "Cloud SE".to_owned(),
            headquarters: "DE".parse().unwrap(),
            object_lock: Some(true),
            sources: vec!["https://docs.cloud.example".to_owned()],
            unconfirmed: Vec::new(),
            domains: vec!["cloud.example".to_owned()],
            shared_endpoints: vec!["s3.cloud.example".parse().unwrap()],
            regions: vec![
                region("north", Some("SE"), "s3.north.cloud.example"),
                region("west", Some("FR"), "s3.west.cloud.example"),
            ],
        }])
    }

    #[test]
    fn the_host_decides_before_the_region_does() {
        let table = table();
        let check = |host: &str, key: &str, expected: Option<&str>| match table.locate(host, key) {
            Known::Region(_, found) => assert_eq!(Some(found.id.as_str()), expected, "{host} {key}"),
            other => assert_eq!(expected, None, "{host} {key}: {other:?}"),
        };
        check("s3.north.cloud.example", "west", Some("north"));
        check("s3.cloud.example", "west", Some("west"));
        check("s3.cloud.example", "south", None);
        check("s3.south.cloud.example", "west", None);
    }

    #[test]
    fn a_host_below_a_domain_is_the_providers_and_a_neighbour_is_not() {
        let table = table();
        let check = |host: &str, owned: bool| {
            assert_eq!(matches!(table.locate(host, ""), Known::Provider(_)), owned, "{host}");
        };
        check("s3.south.cloud.example", true);
        check("cloud.example", true);
        check("s3.cloud.example", true);
        check("evilcloud.example", false);
        check("cloud.example.evil.test", false);
    }
}
