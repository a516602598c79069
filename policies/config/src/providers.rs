//! The provider table: `targets/providers.toml` is built in, a newer file may replace it.

use dualsync_rules::endpoint::HostPattern;
use dualsync_rules::providers::{Provider, Providers, Region};
use serde::Deserialize;

/// The built-in table, as text.
pub const BUILT_IN: &str = include_str!("../../../targets/providers.toml");

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// Not the shape of a table.
    #[error("not a table of providers")]
    Shape(#[from] toml::de::Error),
    /// One entry is wrong.
    #[error("provider {id}: {message}")]
    Entry {
        /// The entry's id.
        id: String,
        /// What is wrong with it.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    provider: Vec<ProviderEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    id: String,
    name: String,
    legal_entity: String,
    headquarters: String,
    object_lock: Option<bool>,
    sources: Vec<String>,
    #[serde(default)]
    unconfirmed: Vec<String>,
    domains: Vec<String>,
    #[serde(default)]
    shared_endpoints: Vec<String>,
    region: Vec<RegionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionEntry {
    id: String,
    place: String,
    country: Option<String>,
    #[serde(default)]
    unconfirmed: bool,
    note: Option<String>,
    #[serde(default)]
    endpoints: Vec<String>,
}

/// Reads a table; two entries with one id are refused.
pub fn parse(text: &str) -> Result<Providers, ProvidersError> {
    let file: TableFile = toml::from_str(text)?;
    let mut providers: Vec<Provider> = Vec::new();
    for entry in file.provider {
        let id = entry.id.clone();
        let wrong = |message: String| ProvidersError::Entry { id: id.clone(), message };
        if providers.iter().any(|known| known.id == id) {
            return Err(wrong("is there twice".to_owned()));
        }
        providers.push(provider(entry).map_err(wrong)?);
    }
    Ok(Providers::new(providers))
}

fn provider(entry: ProviderEntry) -> Result<Provider, String> {
    let mut regions: Vec<Region> = Vec::new();
    for region in entry.region {
        if regions.iter().any(|known| known.id == region.id) {
            return Err(format!("region {} is there twice", region.id));
        }
        regions.push(Region {
            country: region
                .country
                .map(|code| code.parse())
                .transpose()
                .map_err(|error| format!("{}: {error}", region.id))?,
            endpoints: patterns(&region.endpoints)?,
            place: region.place,
            unconfirmed: region.unconfirmed,
            id: region.id,
            note: region.note,
        });
    }
    Ok(Provider {
        id: entry.id,
        name: entry.name,
        legal_entity: entry.legal_entity,
        headquarters: entry.headquarters.parse().map_err(|error| format!("headquarters: {error}"))?,
        object_lock: entry.object_lock,
        sources: entry.sources,
        unconfirmed: entry.unconfirmed,
        domains: entry.domains,
        shared_endpoints: patterns(&entry.shared_endpoints)?,
        regions,
    })
}

fn patterns(texts: &[String]) -> Result<Vec<HostPattern>, String> {
    texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(|error| format!("{error}"))
}
