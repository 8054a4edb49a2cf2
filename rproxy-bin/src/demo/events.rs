//! Server-sent events, until the client disconnects: `/events` counts seconds, `/api/metrics` sends metrics.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::Either;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::SiteBody;
use crate::observe::{Metrics, Totals};

pub(super) fn seconds(headers: &HeaderMap) -> Response<SiteBody> {
    answer(Events::new(last_id(headers), Duration::from_secs(1), Source::Count))
}

pub(super) fn metrics(headers: &HeaderMap, metrics: &Metrics) -> Response<SiteBody> {
    answer(Events::new(last_id(headers), Duration::from_millis(500), Source::Metrics(metrics.clone())))
}

fn answer(events: Events) -> Response<SiteBody> {
    let mut response = Response::new(Either::Right(events));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the ID of the last event, which a browser sends when it reconnects.
fn last_id(headers: &HeaderMap) -> u64 {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// A body that sends one event per second with the number of seconds so far. The first event is sent at once.
#[derive(Debug)]
pub(super) struct Events {
    ticks: Interval,
    last: u64,
    source: Source,
}

/// The content of the events.
#[derive(Debug)]
enum Source {
    /// The number of the event.
    Count,
    Metrics(Metrics),
}

impl Events {
    fn new(last: u64, period: Duration, source: Source) -> Self {
        let mut ticks = interval(period);
        // A client that did not read for a while gets one event, not all missed ones.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, last, source }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(cx));
        self.last = self.last.wrapping_add(1);
        let data = match &self.source {
            Source::Count => json!({ "count": self.last }),
            Source::Metrics(metrics) => to_json(&metrics.totals()),
        };
        let event = format!("id: {}\ndata: {data}\n\n", self.last);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}

fn to_json(totals: &Totals) -> Value {
    json!({
        "requests": totals.requests,
        "in_flight": totals.in_flight,
        "body_bytes": totals.body_bytes,
        "cache_hits": totals.cache_hits,
        "rate_limited": totals.rate_limited,
        "blocked_paths": totals.blocked_paths,
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sends_first_event_immediately_and_then_one_per_second() {
        let start = Instant::now();
        let mut events = Events::new(0, Duration::from_secs(1), Source::Count);
        for count in 1..=3 {
            let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(event, format!("id: {count}\ndata: {{\"count\":{count}}}\n\n"));
            assert_eq!(start.elapsed().as_secs(), count - 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn event_stream_continues_after_last_event_id() {
        for (last, next) in [("41", 42), ("x", 1), ("-1", 1), ("18446744073709551615", 0)] {
            let headers = HeaderMap::from_iter([("last-event-id".parse().unwrap(), HeaderValue::from_static(last))]);
            let event = seconds(&headers).into_body().frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(event.starts_with(format!("id: {next}\n").as_bytes()), "{last}");
        }
    }
}
