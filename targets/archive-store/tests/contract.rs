//! What every store has to do, tried on each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod servers {
    pub mod garage;
    pub mod loopback;
}

use std::collections::HashMap;

use bytes::Bytes;
use dualsync_archive_store::contract::{Conditional, ErrorKind, Key, Store};
use dualsync_archive_store::digest::sha256;
use dualsync_archive_store::directory::DirectoryStore;
use dualsync_archive_store::memory::MemoryStore;
use dualsync_archive_store::service::{Patience, Service, ServiceStore};
use dualsync_model::time::Timestamp;
use servers::garage::{BUCKET, Garage, REGION};

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// A store, and the folder of it that one test has for itself.
struct Corner<'a> {
    store: &'a dyn Store,
    at: &'a str,
}

impl Corner<'_> {
    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}/{name}", self.at)).unwrap()
    }

    async fn put(&self, name: &str, body: &[u8]) {
        self.store.put(&self.key(name), Bytes::copy_from_slice(body), sha256(body)).await.unwrap();
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Vec<String> {
        let after = after.map(|name| format!("{}/{name}", self.at));
        let found = self.store.list(&format!("{}/{prefix}", self.at), after.as_deref()).await.unwrap();
        found.into_iter().map(|info| info.key.as_str()[self.at.len() + 1..].to_owned()).collect()
    }

    async fn an_empty_corner_is_empty(&self) {
        let nothing = self.key("volumes/1");
        assert_eq!(self.store.get(&nothing).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(self.store.get_range(&nothing, 3, 4).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(self.store.beginning(&nothing, 4).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(self.store.head(&nothing).await.unwrap(), None);
        assert_eq!(self.list("", None).await, Vec::<String>::new());
        self.store.delete(&nothing).await.unwrap();
    }

    async fn what_went_in_comes_out(&self) {
        let body: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        self.put("volumes/1", &body).await;
        self.put("volumes/1", &body).await;
        self.put("volumes/none", b"").await;
        let (volume, none) = (self.key("volumes/1"), self.key("volumes/none"));
        assert_eq!(self.store.get(&volume).await.unwrap(), body);
        assert_eq!(self.store.get(&none).await.unwrap(), Bytes::new());
        assert_eq!(self.store.get_at_most(&volume, 1_200_000).await.unwrap(), body);
        let too_long = self.store.get_at_most(&volume, 1_199_999).await.unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::TooLarge);
        assert_eq!(self.store.head(&volume).await.unwrap().unwrap().size, 1_200_000);
        for (offset, len) in [(0, 1), (1_000, 70_000), (1_199_990, 10), (0, 1_200_000), (77, 0)] {
            let part = self.store.get_range(&volume, offset, len).await.unwrap();
            let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
            assert_eq!(part, body[from..to]);
        }
        for (name, len, size) in [(&volume, 77, 1_200_000), (&volume, 1_200_001, 1_200_000), (&none, 5, 0)] {
            let (begin, found) = self.store.beginning(name, len).await.unwrap();
            assert_eq!((&begin[..], found), (&body[..usize::try_from(len.min(size)).unwrap()], size));
        }
        for (offset, len) in [(1_199_990, 11), (1_200_000, 1), (5_000_000, 5), (0, u64::MAX), (u64::MAX, 2)] {
            let error = self.store.get_range(&volume, offset, len).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Truncated, "{len} bytes from {offset}");
        }
    }

    async fn a_listing_is_complete_and_ordered(&self) {
        for name in ["p/web/2", "p/web/10", "p/web-2/1", "p/web", "p/wéb", "q"] {
            if name != "p/web" {
                self.put(name, name.as_bytes()).await;
            }
        }
        let all = ["p/web-2/1", "p/web/10", "p/web/2", "p/wéb", "q"];
        assert_eq!(self.list("", None).await, all);
        assert_eq!(self.list("p", None).await, all[..4]);
        assert_eq!(self.list("p/web", None).await, all[..3]);
        assert_eq!(self.list("p/web/", None).await, all[1..3]);
        assert_eq!(self.list("p/web/1", None).await, all[1..2]);
        assert_eq!(self.list("", Some("p/web/10")).await, all[2..]);
        assert_eq!(self.list("p/web/", Some("p/web/1")).await, all[1..3]);
        assert_eq!(self.list("p/web/", Some("p/web-2/1")).await, all[1..3]);
        assert_eq!(self.list("p/", Some("q")).await, [""; 0]);
        self.store.delete(&self.key("p/web/2")).await.unwrap();
        self.store.delete(&self.key("p/web/2")).await.unwrap();
        assert_eq!(self.list("p/web", None).await, all[..2]);
    }

    /// For stores that can tell.
    async fn nothing_is_replaced(&self) {
        self.put("once", b"first").await;
        for other in [&b"second"[..], b"later"] {
            let refused = self.store.put(&self.key("once"), Bytes::copy_from_slice(other), sha256(other)).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        let again = self.store.put_if_absent(&self.key("once"), Bytes::from_static(b"first"), sha256(b"first")).await;
        assert_eq!(again.unwrap(), Conditional::Refused);
        let new = self.store.put_if_absent(&self.key("new"), Bytes::from_static(b"first"), sha256(b"first")).await;
        assert_eq!(new.unwrap(), Conditional::Written);
        assert_eq!(self.store.get(&self.key("once")).await.unwrap(), b"first"[..]);
    }

    async fn a_wrong_digest_stores_nothing(&self) {
        let refused = self.store.put(&self.key("wrong"), Bytes::from_static(b"some"), sha256(b"other")).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Checksum);
        assert_eq!(self.store.head(&self.key("wrong")).await.unwrap(), None);
    }
}

/// The whole contract, in a corner that is still empty.
async fn try_all(store: &dyn Store, at: &str) {
    let before = store.requests();
    let corner = Corner { store, at };
    corner.an_empty_corner_is_empty().await;
    corner.what_went_in_comes_out().await;
    corner.a_wrong_digest_stores_nothing().await;
    let counted = store.requests();
    assert!(counted.put - before.put >= 3 && counted.get - before.get >= 11 && counted.list > before.list);
    Corner { store, at: &format!("{at}/listing") }.a_listing_is_complete_and_ordered().await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let store = MemoryStore::new(NOW);
    try_all(&store, "m").await;
    Corner { store: &store, at: "m" }.nothing_is_replaced().await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract_at_its_top_and_below_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    for prefix in ["", "web-01/archive"] {
        let store = DirectoryStore::open(folder.path(), prefix, NOW).unwrap();
        try_all(&store, "d").await;
        Corner { store: &store, at: "d" }.nothing_is_replaced().await;
    }
}

#[tokio::test]
async fn a_bucket_keeps_the_contract_at_its_top_and_below_a_prefix() {
    let Some(garage) = Garage::run() else { return };
    for prefix in ["", "web-01/archive"] {
        let options = [
            ("endpoint", garage.endpoint.as_str()),
            ("region", REGION),
            ("bucket", BUCKET),
            ("root", prefix),
            ("access_key_id", &garage.id),
            ("secret_access_key", &garage.secret),
            ("checksum_algorithm", "md5"),
        ];
        let options: HashMap<_, _> = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let service = Service { scheme: "s3".to_owned(), options, name: "garage".to_owned() };
        let store = ServiceStore::open(service, Patience::default(), NOW).unwrap();
        try_all(&store, "s").await;
        assert!(store.has_clock());
    }
}
