//! `/events`: server-sent events, one per second until the client disconnects.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::Either;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::SiteBody;

pub(super) fn answer(headers: &HeaderMap) -> Response<SiteBody> {
    // A browser that reconnects sends the ID of the last event.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let mut response = Response::new(Either::Right(Events::after(last)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that sends one event per second with the number of seconds so far. The first event is sent at once.
#[derive(Debug)]
pub(super) struct Events {
    ticks: Interval,
    last: u64,
}

impl Events {
    fn after(last: u64) -> Self {
        let mut ticks = interval(Duration::from_secs(1));
        // A client that did not read for a while gets one event, not all missed ones.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, last }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(cx));
        self.last = self.last.wrapping_add(1);
        let event = format!("id: {0}\ndata: {{\"count\":{0}}}\n\n", self.last);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sends_first_event_immediately_and_then_one_per_second() {
        let start = Instant::now();
        let mut events = Events::after(0);
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
            let event = answer(&headers).into_body().frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(event.starts_with(format!("id: {next}\n").as_bytes()), "{last}");
        }
    }
}
