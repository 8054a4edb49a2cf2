//! Variants, and clients that make up request fields.

use crate::world::*;

const VARY: (&str, &str) = ("vary", "accept-encoding");

#[tokio::test]
async fn made_up_codings_are_one_variant_and_the_origin_sees_what_is_compared() {
    let world = World::new();
    world.answer(200, &[FRESH, VARY, ("content-encoding", "gzip")], "zipped");
    world.get(&[("accept-encoding", "gzip")]).await;
    assert_eq!(world.last_asked().1["accept-encoding"], "gzip", "as it came");
    world.answer(200, &[FRESH, VARY], "plain");
    world.get(&[("accept-encoding", "c0")]).await;
    assert_eq!(world.last_asked().1["accept-encoding"], "identity");
    for number in 1..100 {
        let got = world.get(&[("accept-encoding", &format!("c{number}, d{number};q=0.5"))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"plain"[..]));
        let got = world.get(&[("accept-encoding", &format!("c{number}, gzip"))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"zipped"[..]));
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_coding_behind_too_many_others_reaches_neither_the_origin_nor_other_clients() {
    let world = World::new();
    let hidden = format!("{}gzip", "x,".repeat(1000));
    world.answer(200, &[FRESH, VARY], "plain");
    world.get(&[("accept-encoding", &hidden)]).await;
    assert_eq!(world.last_asked().1["accept-encoding"], "identity");
    assert_eq!(world.get(&[("accept-encoding", "identity")]).await.body, "plain");
}

#[tokio::test]
async fn variants_that_are_asked_for_outlast_those_that_one_client_makes_up() {
    for (vary, honest) in [("accept-language", "de, en;q=0.5"), ("x-theme", "dark")] {
        let world = World::new();
        world.answer(200, &[FRESH, ("vary", vary)], "honest");
        world.get(&[(vary, honest)]).await;
        assert_eq!(world.get(&[(vary, honest)]).await.cache, Some(CacheStatus::Hit));
        for number in 0..200 {
            world.answer(200, &[FRESH, ("vary", vary)], "made up");
            world.get(&[(vary, &format!("made-up-{number}"))]).await;
        }
        let got = world.get(&[(vary, honest)]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"honest"[..]), "{vary}");
    }
}

#[tokio::test]
async fn variants_keep_their_rank_when_they_are_refreshed() {
    let world = World::new();
    let vary = ("vary", "x-theme");
    for theme in ["dark", "dark"] {
        world.answer(200, &[FRESH, vary], "honest");
        world.get(&[("x-theme", theme)]).await;
        world.get(&[("x-theme", theme)]).await;
        world.get(&[("x-theme", theme)]).await;
        world.wait(60);
        world.origin.answers.lock().unwrap().clear();
    }
    world.answer(200, &[FRESH, vary], "honest");
    world.get(&[("x-theme", "dark")]).await;
    for number in 0..40 {
        world.answer(200, &[FRESH, vary], "made up");
        world.get(&[("x-theme", &format!("made-up-{number}"))]).await;
    }
    assert_eq!(world.get(&[("x-theme", "dark")]).await.cache, Some(CacheStatus::Hit));
}

#[tokio::test]
async fn values_too_long_to_be_normalised_are_compared_as_they_are() {
    let world = World::new();
    let long = |last: &str| format!("{}{last}", "xx,".repeat(10_000));
    for (number, value) in [long("en"), long("de")].into_iter().enumerate() {
        world.answer(200, &[FRESH, ("vary", "accept-language")], if number == 0 { "en" } else { "de" });
        world.get(&[("accept-language", &value)]).await;
    }
    for last in ["en", "de"] {
        let got = world.get(&[("accept-language", &long(last))]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), last.as_bytes()));
    }
    assert!(world.store.stats().weighted_size < 5000, "and are not kept with each variant");
}
