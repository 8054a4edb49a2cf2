//! What stands behind memory: found where memory has nothing, and after a restart.

use std::collections::BTreeMap;

use rproxy_cache::{Load, Tier, TierEntry, TierStats};

use crate::world::*;

/// A tier that keeps everything, and gives it to another store.
#[derive(Clone, Debug, Default)]
struct Shelf(Arc<Mutex<BTreeMap<Box<str>, TierEntry>>>);

impl Shelf {
    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().map(|key| key.to_string()).collect()
    }
}

impl Tier for Shelf {
    fn holds(&self, key: &str) -> bool {
        self.0.lock().unwrap().contains_key(key)
    }

    fn load(&self, key: &str) -> Load {
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

fn world(shelf: &Shelf) -> World {
    let world = World::new();
    drop(world.store.clone().behind(shelf.clone()));
    world
}

#[tokio::test]
async fn what_one_process_stored_the_next_one_finds() {
    let shelf = Shelf::default();
    let before = world(&shelf);
    before.answer(200, &[LASTING, ETAG, ("vary", "foo"), ("x", "1")], "hello");
    before.get(&[("foo", "1")]).await;
    before.answer(200, &[LASTING, ("vary", "foo")], "other");
    before.get(&[("foo", "2")]).await;
    assert_eq!(shelf.keys(), ["http://example.org/a"]);

    let after = world(&shelf);
    after.wait(10);
    let hit = after.get(&[("foo", "1")]).await;
    assert_eq!((hit.status, hit.cache_status(), hit.age()), (StatusCode::OK, "rproxy; hit; ttl=50", "10"));
    assert_eq!((&hit.headers["x"], &hit.body[..]), (&HeaderValue::from_static("1"), &b"hello"[..]));
    assert_eq!(after.get(&[("foo", "2")]).await.body, "other");
    let not_modified = after.get(&[("foo", "1"), ("if-none-match", ETAG.1)]).await;
    assert_eq!(not_modified.status, StatusCode::NOT_MODIFIED);
    assert_eq!(after.send("HEAD", "/a", &[("foo", "1")]).await.headers["content-length"], "5");
    let stats = after.store.stats();
    assert_eq!((stats.loaded, stats.hits, stats.misses, stats.tier.entries), (1, 4, 0, 1));

    after.wait(60);
    after.answer(304, &[LASTING, ETAG], "");
    let validated = after.get(&[("foo", "1")]).await;
    assert_eq!((validated.cache, &validated.body[..]), (Some(CacheStatus::Revalidated), &b"hello"[..]));
}

#[tokio::test]
async fn what_is_invalidated_or_purged_is_behind_memory_no_more() {
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
        let shelf = Shelf::default();
        let before = world(&shelf);
        for (path, group) in [("/a", "\"news\""), ("/ab", "\"news\""), ("/b", "\"other\"")] {
            before.answer(200, &[LASTING, ("cache-groups", group)], "old");
            before.send("GET", path, &[]).await;
        }
        assert_eq!(shelf.keys().len(), 3);
        // Memory knows nothing of it.
        let after = world(&shelf);
        match method {
            "" => assert_eq!(after.store.purge(&what.parse().unwrap()), 3 - kept, "{what}"),
            "tag" => assert_eq!(after.store.purge(&Purge::tag(what)), 3 - kept),
            "group" => {
                after.answer(200, &[("cache-group-invalidation", "\"news\"")], "");
                after.send("POST", "/elsewhere", &[]).await;
            }
            method => {
                after.answer(200, &[], "");
                after.send(method, what, &[]).await;
            }
        }
        assert_eq!(shelf.keys().len() as u64, kept, "{method} {what}");
        let got = after.send("GET", "/a", &[("cache-control", "only-if-cached")]).await;
        assert_eq!(got.status, StatusCode::GATEWAY_TIMEOUT, "{method} {what}");
    }
}

#[tokio::test]
async fn what_was_changed_while_it_was_fetched_is_not_used() {
    let shelf = Shelf::default();
    let before = world(&shelf);
    before.answer(200, &[LASTING], "old");
    before.get(&[]).await;
    let after = world(&shelf);
    after.answer(200, &[LASTING], "new");
    let request = Request::get("/a").header("host", "example.org").body(Full::<Bytes>::default()).unwrap();
    let mut response = Box::pin(after.service.clone().oneshot(request));
    let is_pending = std::future::poll_fn(|cx| Poll::Ready(response.as_mut().poll(cx).is_pending())).await;
    assert!(is_pending, "the tier takes its time");
    after.store.purge(&"http://example.org/a".parse().unwrap());
    let response = response.await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "new");
}

#[tokio::test]
async fn what_can_not_be_read_is_a_miss() {
    let shelf = Shelf::default();
    let before = world(&shelf);
    before.answer(200, &[LASTING], "old");
    before.get(&[]).await;
    shelf.0.lock().unwrap().values_mut().for_each(|entry| drop(entry.content.pop()));
    let after = world(&shelf);
    after.answer(200, &[("cache-control", "no-store")], "new");
    assert_eq!(after.get(&[]).await.cache_status(), "rproxy; fwd=uri-miss");
    assert!(shelf.keys().is_empty(), "and is not tried again");
}

#[tokio::test]
async fn what_does_not_last_is_not_worth_the_way() {
    let shelf = Shelf::default();
    let world = world(&shelf);
    world.answer(200, &[LASTING], "old");
    world.get(&[]).await;
    world.wait(60);
    world.answer(200, &[("cache-control", "max-age=5")], "new");
    world.get(&[]).await;
    assert!(shelf.keys().is_empty(), "and what it was before is out of date");
}

#[tokio::test]
async fn what_memory_has_no_room_for_is_served_from_behind_it() {
    let shelf = Shelf::default();
    let origin = Origin::default();
    let store = CacheStore::in_memory(10_000).behind(shelf.clone());
    let service = CacheLayer::new(store.clone()).layer(origin.clone());
    let world = World { origin, store, now: Arc::default(), service };
    static LARGE: [u8; 4000] = [b'x'; 4000];
    let large = std::str::from_utf8(&LARGE).unwrap();
    for number in 0..20 {
        world.answer(200, &[LASTING], large);
        world.send("GET", &format!("/{number}"), &[]).await;
    }
    assert!(world.store.stats().entries < 3);
    for number in 0..20 {
        let hit = world.send("GET", &format!("/{number}"), &[]).await;
        assert_eq!((hit.cache, hit.body.len()), (Some(CacheStatus::Hit), 4000), "{number}");
    }
    assert_eq!(world.asked(), 20);
    assert!(world.store.stats().weighted_size <= 10_000);
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn a_disk_survives_a_restart() {
    use rproxy_cache::Disk;

    let folder = tempfile::tempdir().unwrap();
    let world = || {
        let (world, disk) = (World::new(), Disk::open(folder.path(), 1 << 20).unwrap());
        disk.flush();
        drop(world.store.clone().behind(disk));
        world
    };
    let before = world();
    before.answer(200, &[LASTING, ETAG], "hello");
    before.get(&[]).await;
    before.store.flush();
    drop(before);
    let after = world();
    let hit = after.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]));
    assert!(after.store.stats().tier.bytes > 5);
}
