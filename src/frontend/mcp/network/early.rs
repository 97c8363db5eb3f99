//! Headers before there is anything to say: an answer that takes its time begins as an event stream with comments.
//!
//! For a client of 2026-07-28, rmcp answers with headers when the call has its first message, which may be the last one
//! an hour later. Clients and the proxies before them give up on a server that is silent for so long, and nothing else
//! than a write tells that they are gone. An error status that comes after [`LATEST`] is lost, and its body is an event
//! like any other; what is wrong with a request itself is said long before.

use std::{pin::Pin, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes, to_bytes},
    response::Response,
};
use futures_util::{Stream, StreamExt, stream};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// When the headers go out.
pub(super) const LATEST: Duration = Duration::from_secs(2);
/// Between two comments; rmcp keeps the same pace where it streams.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// A line of a stream that says nothing.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Bytes of an answer that is not a stream.
const LARGEST: usize = 64 << 20;

const EVENTS: &str = "text/event-stream";

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Where a stream is.
enum Stage {
    Waiting(Answer, Interval),
    Passing(BodyDataStream),
    Over,
}

/// `answer`, or the beginning of a stream that it will come in. Dropping either drops `answer`.
pub(super) async fn in_time(answer: impl Future<Output = Response> + Send + 'static) -> Response {
    let mut answer: Answer = Box::pin(answer);
    tokio::select! {
        response = &mut answer => response,
        () = tokio::time::sleep(LATEST) => begun(answer),
    }
}

/// True if the body is an event stream.
pub(super) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENTS.as_bytes()))
}

fn begun(answer: Answer) -> Response {
    let mut ticks = interval_at(Instant::now(), HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Body::from_stream(events(Stage::Waiting(answer, ticks))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn events(stage: Stage) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    stream::unfold(stage, |stage| async {
        match stage {
            Stage::Waiting(mut answer, mut ticks) => {
                tokio::select! {
                    biased;
                    response = &mut answer => Some(arrived(response).await),
                    _ = ticks.tick() => Some((Ok(COMMENT), Stage::Waiting(answer, ticks))),
                }
            }
            Stage::Passing(mut body) => {
                let next = body.next().await?;
                Some((next, Stage::Passing(body)))
            }
            Stage::Over => None,
        }
    })
}

async fn arrived(response: Response) -> (Result<Bytes, axum::Error>, Stage) {
    if is_stream(&response) {
        return (
            Ok(COMMENT),
            Stage::Passing(response.into_body().into_data_stream()),
        );
    }
    if response.status() != StatusCode::OK {
        tracing::debug!(status = %response.status(), "an answer came too late for its status");
    }
    let whole = to_bytes(response.into_body(), LARGEST).await;
    // One message is one line of JSON.
    let event = whole.map(|body| Bytes::from([b"data: ", &*body, b"\n\n"].concat()));
    (event, Stage::Over)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use tokio::sync::oneshot;

    use super::*;

    async fn late(response: Response) -> Response {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        response
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), LARGEST).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_answer_is_what_it_is() {
        let response = in_time(async { (StatusCode::NOT_FOUND, "no").into_response() }).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(text(response).await, "no");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_after_an_hour_comes_in_a_stream_that_was_never_silent() {
        let began = Instant::now();
        let response = in_time(late("{\"id\":1}".into_response())).await;
        assert!(began.elapsed() < LATEST * 2 && is_stream(&response));
        let text = text(response).await;
        let (comments, event) = text.split_at(text.find("data").unwrap());
        assert_eq!(event, "data: {\"id\":1}\n\n");
        let expected = 3600 / HEARTBEAT.as_secs() as usize;
        assert!(
            comments.matches(":\n\n").count() >= expected - 1,
            "{}",
            comments.len()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_stream_is_passed_on() {
        let inner = ([(CONTENT_TYPE, EVENTS)], "data: a\n\ndata: b\n\n").into_response();
        let text = text(in_time(late(inner)).await).await;
        assert!(text.ends_with("data: a\n\ndata: b\n\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_takes_the_answer_with_it() {
        let (alive, gone) = oneshot::channel::<()>();
        let response = in_time(async move {
            let _alive = alive;
            std::future::pending().await
        });
        drop(response.await);
        assert!(gone.await.is_err());
    }
}
