//! Tests of variants, including clients that send arbitrary values of request fields.

use crate::harness::*;

const VARY: (&str, &str) = ("vary", "accept-encoding");

#[tokio::test]
async fn strips_unregistered_content_codings_and_ignores_them_in_variant_selection() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH, VARY, ("content-encoding", "gzip")], "zipped");
    harness.get(&[("accept-encoding", "gzip")]).await;
    assert_eq!(harness.last_request().1["accept-encoding"], "gzip", "unchanged");
    harness.respond(200, &[FRESH, VARY], "plain");
    harness.get(&[("accept-encoding", "c0")]).await;
    assert_eq!(harness.last_request().1["accept-encoding"], "identity");
    for number in 1..100 {
        let got = harness.get(&[("accept-encoding", &format!("c{number}, d{number};q=0.5"))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"plain"[..]));
        let got = harness.get(&[("accept-encoding", &format!("c{number}, gzip"))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"zipped"[..]));
    }
    assert_eq!(harness.origin_requests(), 2);
}

#[tokio::test]
async fn ignores_content_codings_beyond_the_maximum_number() {
    let harness = Harness::new();
    let hidden = format!("{}gzip", "x,".repeat(1000));
    harness.respond(200, &[FRESH, VARY], "plain");
    harness.get(&[("accept-encoding", &hidden)]).await;
    assert_eq!(harness.last_request().1["accept-encoding"], "identity");
    assert_eq!(harness.get(&[("accept-encoding", "identity")]).await.body, "plain");
}

#[tokio::test]
async fn frequently_requested_variants_outlast_variants_requested_once() {
    for (vary, honest) in [("accept-language", "de, en;q=0.5"), ("x-theme", "dark")] {
        let harness = Harness::new();
        harness.respond(200, &[FRESH, ("vary", vary)], "honest");
        harness.get(&[(vary, honest)]).await;
        assert_eq!(harness.get(&[(vary, honest)]).await.cache, Some(CacheStatus::Hit));
        for number in 0..200 {
            harness.respond(200, &[FRESH, ("vary", vary)], "made up");
            harness.get(&[(vary, &format!("made-up-{number}"))]).await;
        }
        let got = harness.get(&[(vary, honest)]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"honest"[..]), "{vary}");
    }
}

#[tokio::test]
async fn updated_variants_keep_their_place_in_the_eviction_order() {
    let harness = Harness::new();
    let vary = ("vary", "x-theme");
    for theme in ["dark", "dark"] {
        harness.respond(200, &[FRESH, vary], "honest");
        harness.get(&[("x-theme", theme)]).await;
        harness.get(&[("x-theme", theme)]).await;
        harness.get(&[("x-theme", theme)]).await;
        harness.advance(60);
        harness.origin.responses.lock().unwrap().clear();
    }
    harness.respond(200, &[FRESH, vary], "honest");
    harness.get(&[("x-theme", "dark")]).await;
    for number in 0..40 {
        harness.respond(200, &[FRESH, vary], "made up");
        harness.get(&[("x-theme", &format!("made-up-{number}"))]).await;
    }
    assert_eq!(harness.get(&[("x-theme", "dark")]).await.cache, Some(CacheStatus::Hit));
}

#[tokio::test]
async fn variant_selection_compares_long_field_values_without_normalisation() {
    let harness = Harness::new();
    let long = |last: &str| format!("{}{last}", "xx,".repeat(10_000));
    for (number, value) in [long("en"), long("de")].into_iter().enumerate() {
        harness.respond(200, &[FRESH, ("vary", "accept-language")], if number == 0 { "en" } else { "de" });
        harness.get(&[("accept-language", &value)]).await;
    }
    for last in ["en", "de"] {
        let got = harness.get(&[("accept-language", &long(last))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), last.as_bytes()));
    }
    assert!(harness.store.stats().weighted_size < 5000, "and are not kept with each variant");
}
