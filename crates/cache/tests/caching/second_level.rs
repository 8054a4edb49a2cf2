//! Tests of the second-level store after memory misses and restarts.

use std::collections::BTreeMap;

use rproxy_cache::{LoadFuture, Tier, TierEntry, TierStats};

use crate::harness::*;

/// A tier that stores all entries and can be shared by several cache stores.
#[derive(Clone, Debug, Default)]
struct MemoryTier(Arc<Mutex<BTreeMap<Box<str>, TierEntry>>>);

impl MemoryTier {
    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().map(|key| key.to_string()).collect()
    }
}

impl Tier for MemoryTier {
    fn contains(&self, key: &str) -> bool {
        self.0.lock().unwrap().contains_key(key)
    }

    fn load(&self, key: &str) -> LoadFuture {
        let content = self.0.lock().unwrap().get(key).map(|entry| Bytes::from(entry.content.concat()));
        Box::pin(async move {
            tokio::task::yield_now().await;
            content
        })
    }

    fn store(&self, entry: TierEntry) {
        self.0.lock().unwrap().insert(entry.key.clone(), entry);
    }

    fn remove(&self, key: &str) -> bool {
        self.0.lock().unwrap().remove(key).is_some()
    }

    fn remove_if(&self, chosen: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64 {
        let mut entries = self.0.lock().unwrap();
        let before = entries.len();
        entries.retain(|key, entry| !chosen(key, &entry.tags));
        (before - entries.len()) as u64
    }

    fn secret(&self) -> Option<[u8; 16]> {
        Some([7; 16])
    }

    fn stats(&self) -> TierStats {
        TierStats::new(self.0.lock().unwrap().len() as u64, 0, 0)
    }
}

const LASTING: (&str, &str) = ("cache-control", "max-age=60");

fn harness(tier: &MemoryTier) -> Harness {
    let harness = Harness::new();
    drop(harness.store.clone().with_tier(tier.clone()));
    harness
}

#[tokio::test]
async fn loads_entries_from_the_second_level_store_after_a_restart() {
    let tier = MemoryTier::default();
    let before = harness(&tier);
    before.respond(200, &[LASTING, ETAG, ("vary", "foo"), ("x", "1")], "hello");
    before.get(&[("foo", "1")]).await;
    before.respond(200, &[LASTING, ("vary", "foo")], "other");
    before.get(&[("foo", "2")]).await;
    assert_eq!(tier.keys(), ["http://example.org/a"]);

    let after = harness(&tier);
    after.advance(10);
    let hit = after.get(&[("foo", "1")]).await;
    assert_eq!((hit.status, hit.cache_status(), hit.age()), (StatusCode::OK, "rproxy; hit; ttl=50", "10"));
    assert_eq!((&hit.headers["x"], &hit.body[..]), (&HeaderValue::from_static("1"), &b"hello"[..]));
    assert_eq!(after.get(&[("foo", "2")]).await.body, "other");
    let not_modified = after.get(&[("foo", "1"), ("if-none-match", ETAG.1)]).await;
    assert_eq!(not_modified.status, StatusCode::NOT_MODIFIED);
    assert_eq!(after.send("HEAD", "/a", &[("foo", "1")]).await.headers["content-length"], "5");
    let stats = after.store.stats();
    assert_eq!((stats.loaded, stats.hits, stats.misses, stats.tier.entries), (1, 4, 0, 1));

    after.advance(60);
    after.respond(304, &[LASTING, ETAG], "");
    let validated = after.get(&[("foo", "1")]).await;
    assert_eq!((validated.cache, &validated.body[..]), (Some(CacheStatus::Revalidated), &b"hello"[..]));
}

#[tokio::test]
async fn invalidation_and_purge_reach_the_second_level_store() {
    // RFC 9111 §4.4, RFC 9875 §3
    for (method, what, kept) in [
        ("POST", "/a", 2),
        ("", "http://example.org/a", 2),
        ("", "//example.org/a", 2),
        ("", "/a", 2),
        ("", "http://example.org/a*", 1),
        ("", "*", 0),
        ("tag", "news", 1),
        ("group", "news", 3),
    ] {
        let tier = MemoryTier::default();
        let before = harness(&tier);
        for (path, group) in [("/a", "\"news\""), ("/ab", "\"news\""), ("/b", "\"other\"")] {
            before.respond(200, &[LASTING, ("cache-groups", group)], "old");
            before.send("GET", path, &[]).await;
        }
        assert_eq!(tier.keys().len(), 3);
        // The memory of this store is empty.
        let after = harness(&tier);
        match method {
            "" => assert_eq!(after.store.purge(&what.parse().unwrap()), 3 - kept, "{what}"),
            "tag" => assert_eq!(after.store.purge(&Purge::tag(what)), 3 - kept),
            "group" => {
                after.respond(200, &[("cache-group-invalidation", "\"news\"")], "");
                after.send("POST", "/elsewhere", &[]).await;
            }
            method => {
                after.respond(200, &[], "");
                after.send(method, what, &[]).await;
            }
        }
        assert_eq!(tier.keys().len() as u64, kept, "{method} {what}");
        let got = after.send("GET", "/a", &[("cache-control", "only-if-cached")]).await;
        assert_eq!(got.status, StatusCode::GATEWAY_TIMEOUT, "{method} {what}");
    }
}

#[tokio::test]
async fn does_not_use_an_entry_that_was_invalidated_while_it_was_loaded() {
    let tier = MemoryTier::default();
    let before = harness(&tier);
    before.respond(200, &[LASTING], "old");
    before.get(&[]).await;
    let after = harness(&tier);
    after.respond(200, &[LASTING], "new");
    let request = Request::get("/a").header("host", "example.org").body(Full::<Bytes>::default()).unwrap();
    let mut response = Box::pin(after.service.clone().oneshot(request));
    let is_pending = std::future::poll_fn(|cx| Poll::Ready(response.as_mut().poll(cx).is_pending())).await;
    assert!(is_pending, "the tier takes its time");
    after.store.purge(&"http://example.org/a".parse().unwrap());
    let response = response.await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "new");
}

#[tokio::test]
async fn corrupt_entries_of_the_second_level_store_are_cache_misses() {
    let tier = MemoryTier::default();
    let before = harness(&tier);
    before.respond(200, &[LASTING], "old");
    before.get(&[]).await;
    tier.0.lock().unwrap().values_mut().for_each(|entry| drop(entry.content.pop()));
    let after = harness(&tier);
    after.respond(200, &[("cache-control", "no-store")], "new");
    assert_eq!(after.get(&[]).await.cache_status(), "rproxy; fwd=uri-miss");
    assert!(tier.keys().is_empty(), "and is not tried again");
}

#[tokio::test]
async fn does_not_write_short_lived_responses_to_the_second_level_store() {
    let tier = MemoryTier::default();
    let harness = harness(&tier);
    harness.respond(200, &[LASTING], "old");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(200, &[("cache-control", "max-age=5")], "new");
    harness.get(&[]).await;
    assert!(tier.keys().is_empty(), "and what it was before is out of date");
}

#[tokio::test]
async fn second_level_store_serves_responses_evicted_from_memory() {
    let tier = MemoryTier::default();
    let origin = Origin::default();
    let store = CacheStore::in_memory(10_000).with_tier(tier.clone());
    let service = CacheLayer::new(store.clone()).layer(origin.clone());
    let harness = Harness { origin, store, now: Arc::default(), service };
    static LARGE: [u8; 4000] = [b'x'; 4000];
    let large = std::str::from_utf8(&LARGE).unwrap();
    for number in 0..20 {
        harness.respond(200, &[LASTING], large);
        harness.send("GET", &format!("/{number}"), &[]).await;
    }
    assert!(harness.store.stats().entries < 3);
    for number in 0..20 {
        let hit = harness.send("GET", &format!("/{number}"), &[]).await;
        assert_eq!((hit.cache, hit.body.len()), (Some(CacheStatus::Hit), 4000), "{number}");
    }
    assert_eq!(harness.origin_requests(), 20);
    assert!(harness.store.stats().weighted_size <= 10_000);
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn responses_in_the_disk_store_survive_a_restart() {
    use rproxy_cache::DiskTier;

    let folder = tempfile::tempdir().unwrap();
    let harness = || {
        let (harness, disk) = (Harness::new(), DiskTier::open(folder.path(), 1 << 20).unwrap());
        disk.flush();
        drop(harness.store.clone().with_tier(disk));
        harness
    };
    let before = harness();
    before.respond(200, &[LASTING, ETAG], "hello");
    before.get(&[]).await;
    before.store.flush();
    drop(before);
    let after = harness();
    let hit = after.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]));
    assert!(after.store.stats().tier.bytes > 5);
}
