//! A model around a model: what may succeed later is tried again, and everybody is told before the wait.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::value::RawValue;

use super::{Model, ModelError, ModelEvent, Request};
use crate::conversation::Item;

const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A provider that asks for more gets no second request: a person would rather be told.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Tries a sample up to five times, waiting 200 ms, 400 ms and so on between tries, or as long as the provider asks.
/// Only transient errors are tried again; all else passes through. Dropping the stream ends the wait.
pub struct Retry<M> {
    model: Arc<M>,
    first_wait: Duration,
}

impl<M: Model> Retry<M> {
    /// Around `model`.
    pub fn new(model: M) -> Self {
        Self {
            model: Arc::new(model),
            first_wait: FIRST_WAIT,
        }
    }

    /// The same with another first wait; each next one doubles it.
    pub fn with_first_wait(self, first_wait: Duration) -> Self {
        Self { first_wait, ..self }
    }
}

impl<M: Model + 'static> Model for Retry<M> {
    fn origin(&self) -> &str {
        self.model.origin()
    }

    fn name(&self) -> &str {
        self.model.name()
    }

    fn window(&self) -> Option<u64> {
        self.model.window()
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        self.model.encode(items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        let tries = Tries {
            stream: self.model.stream(request.clone()),
            model: self.model.clone(),
            request,
            failed: 0,
            pause: self.first_wait,
            wait: None,
        };
        let step = |tries: Option<Tries<M>>| async { tries?.next().await };
        stream::unfold(Some(tries), step).boxed()
    }
}

type Told<M> = (Result<ModelEvent, ModelError>, Option<Tries<M>>);

struct Tries<M> {
    model: Arc<M>,
    request: Request,
    stream: BoxStream<'static, Result<ModelEvent, ModelError>>,
    failed: u32,
    /// Before the next try, if the provider does not ask for more.
    pause: Duration,
    /// Announced and not yet waited for.
    wait: Option<Duration>,
}

impl<M: Model> Tries<M> {
    async fn next(mut self) -> Option<Told<M>> {
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
            self.stream = self.model.stream(self.request.clone());
        }
        match self.stream.next().await? {
            Err(error) if error.kind.is_transient() => Some(self.failed(error)),
            Err(error) => Some((Err(error), None)),
            Ok(ModelEvent::Done(mut usage)) => {
                usage.requests += u64::from(self.failed);
                Some((Ok(ModelEvent::Done(usage)), None))
            }
            Ok(event) => Some((Ok(event), Some(self))),
        }
    }

    /// Another try, or the end.
    fn failed(mut self, error: ModelError) -> Told<M> {
        self.failed += 1;
        let asked = error.retry_after.unwrap_or_default();
        if asked > LONGEST_WAIT {
            let asked = humantime::format_duration(Duration::from_secs(asked.as_secs()));
            return (
                Err(given_up(error, format!("it asks to wait {asked}"))),
                None,
            );
        }
        if self.failed == TRIES {
            return (
                Err(given_up(error, format!("gave up after {TRIES} tries"))),
                None,
            );
        }
        let after = jittered(self.pause).max(asked);
        self.pause *= 2;
        self.wait = Some(after);
        (Ok(ModelEvent::Retrying { after, error }), Some(self))
    }
}

fn given_up(error: ModelError, why: String) -> ModelError {
    ModelError {
        message: format!("{}; {why}", error.message),
        ..error
    }
}

/// 0.9 to 1.1 of `wait`, so that many agents cut off together do not come back together. A fresh hasher's keys are
/// random enough for that.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    wait.mul_f64(0.9 + 0.2 * random as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        conversation::{ThreadId, Usage},
        model::{Head, ModelErrorKind},
    };

    /// Answers each request with the next of these.
    struct Script(Mutex<Vec<Result<ModelEvent, ModelError>>>);

    impl Model for Script {
        fn origin(&self) -> &str {
            "script"
        }

        fn name(&self) -> &str {
            "script"
        }

        fn encode(&self, _: &[Item]) -> Vec<Arc<RawValue>> {
            Vec::new()
        }

        fn stream(&self, _: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
            let answer = self.0.lock().unwrap().remove(0);
            stream::iter([answer]).boxed()
        }
    }

    fn error(kind: ModelErrorKind, retry_after: Option<u64>) -> Result<ModelEvent, ModelError> {
        Err(ModelError {
            kind,
            message: "no".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    fn done() -> Result<ModelEvent, ModelError> {
        Ok(ModelEvent::Done(Usage {
            requests: 1,
            ..Usage::default()
        }))
    }

    fn request() -> Request {
        Request {
            head: Arc::new(Head {
                thread_id: ThreadId::generate(),
                instructions: String::new(),
                tools: Vec::new(),
                reasoning_effort: None,
            }),
            input: Arc::default(),
        }
    }

    fn told(event: &Result<ModelEvent, ModelError>) -> String {
        match event {
            Ok(ModelEvent::Done(usage)) => format!("done after {}", usage.requests),
            Ok(ModelEvent::Retrying { .. }) => "retrying".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn what_may_succeed_later_is_tried_again() {
        use ModelErrorKind::*;
        let table = [
            (vec![done()], "done after 1"),
            (vec![error(Busy, None), done()], "retrying, done after 2"),
            (
                vec![error(Unreachable, Some(0)), error(Busy, None), done()],
                "retrying, retrying, done after 3",
            ),
            (vec![error(Busy, Some(86_400))], "no; it asks to wait 1day"),
            (
                vec![error(Unreachable, None); 5],
                "retrying, retrying, retrying, retrying, no; gave up after 5 tries",
            ),
            (vec![error(Busy, None), error(Quota, None)], "retrying, no"),
            (vec![error(Auth, Some(1))], "no"),
            (vec![error(Quota, Some(1))], "no"),
            (vec![error(ContextLength, Some(1))], "no"),
            (vec![error(Rejected, Some(1))], "no"),
        ];
        for (script, expect) in table {
            let model =
                Retry::new(Script(Mutex::new(script))).with_first_wait(Duration::from_millis(1));
            let events: Vec<String> = model
                .stream(request())
                .map(|event| told(&event))
                .collect()
                .await;
            assert_eq!(events.join(", "), expect);
        }
    }

    #[tokio::test]
    async fn the_wait_is_announced_and_as_long_as_asked() {
        let table = [
            (None, 180..=220),
            (Some(0), 180..=220),
            (Some(7), 7000..=7000),
            (Some(120), 120_000..=120_000),
        ];
        for (asked, expect) in table {
            let script = Script(Mutex::new(vec![error(ModelErrorKind::Busy, asked)]));
            // The stream is dropped in its wait, which ends it: nothing here takes two minutes.
            let event = Retry::new(script).stream(request()).next().await;
            let Some(Ok(ModelEvent::Retrying { after, .. })) = event else {
                panic!("not announced: {event:?}");
            };
            assert!(expect.contains(&after.as_millis()), "{asked:?}: {after:?}");
        }
    }
}
