//! What a call without a thread tells and asks: progress lines, and questions to the person behind its client.
//!
//! Where the client can be asked while the call is open, the call waits for the answer, at most as long as a turn would.
//! Where questions travel as results, the call ends with the question and comes again with the answer; what was asked is
//! remembered by the server, and the answer counts once, for that very question. Where nobody can be asked, the answer is
//! no at once.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use rmcp::{
    ErrorData,
    model::{CallToolRequestParams, InputRequiredResult, JsonObject},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    conversation::{Answer, Approval, ApprovalId, CallId, Decision, Event, ResolvedBy, TurnId},
    frontend::mcp::{
        calls::bounded,
        questions::{self, Way},
        rounds::MOST,
        server::{Call, Server},
    },
    tools::{Answered, Host, Progress, Question},
};

/// Questions that are remembered until their calls come again.
const REMEMBERED: usize = 256;
/// Lines of a command between two looks at them.
const LINES: usize = 16;

/// The questions that went out as results. Held for a map operation; nobody awaits under it.
#[derive(Debug, Default)]
pub(in crate::frontend::mcp) struct Asked(Mutex<HashMap<ApprovalId, (Instant, String)>>);

impl Asked {
    fn remember(&self, id: ApprovalId, question: String) {
        let mut asked = locked(&self.0);
        if asked.len() >= REMEMBERED {
            let oldest = asked
                .iter()
                .min_by_key(|(_, (at, _))| *at)
                .map(|(id, _)| *id);
            oldest.and_then(|id| asked.remove(&id));
        }
        asked.insert(id, (Instant::now(), question));
    }

    /// An answer counts once.
    fn take(&self, id: ApprovalId) -> Option<String> {
        locked(&self.0).remove(&id).map(|(_, question)| question)
    }
}

/// What travels with a question.
#[derive(Debug, Serialize, Deserialize)]
struct Round {
    question: ApprovalId,
    /// This one included.
    number: u32,
}

/// The upper side of one call.
pub(super) struct Asker {
    server: Server,
    call: Call,
    /// How the call is known again.
    same: String,
    /// How long a person may take.
    patience: Duration,
    /// Rounds before.
    rounds: u32,
    /// The answer that came with the call, and the question that it is to.
    brought: Mutex<Option<(String, Option<Answer>)>>,
    /// The question that goes out with the result.
    open: Mutex<Option<Approval>>,
    news: Mutex<Vec<Event>>,
}

impl Asker {
    /// Of a call that may come with an answer.
    ///
    /// # Errors
    /// The protocol's, if its state is not ours or too old.
    pub(super) fn of(
        server: &Server,
        params: &CallToolRequestParams,
        call: &Call,
    ) -> Result<Self, ErrorData> {
        let same = server.same_call(&params.name, params.arguments.as_ref());
        let mut rounds = 0;
        let mut brought = None;
        if let Some(sealed) = &params.request_state {
            let round: Round = server.seal().open(sealed, &same)?;
            rounds = round.number;
            let responses = params.input_responses.as_ref();
            let response =
                responses.and_then(|responses| responses.get(&round.question.to_string()));
            let answer = response.map(|response| questions::understand(response, None));
            // Without an answer it is asked again, and without a question there is nothing that it could be to.
            brought = answer
                .and_then(|answer| Some((server.shared.by_hand.take(round.question)?, answer)));
        }
        let limits = server.shared.app.config().limits;
        Ok(Self {
            server: server.clone(),
            call: call.clone(),
            same,
            patience: bounded(limits.approval_seconds),
            rounds,
            brought: Mutex::new(brought),
            open: Mutex::default(),
            news: Mutex::default(),
        })
    }

    /// What was told since the last time.
    pub(super) fn news(&self) -> Vec<Event> {
        mem::take(&mut locked(&self.news))
    }

    /// The question that the client is to bring an answer to, as a result.
    pub(super) fn round(&self) -> Option<InputRequiredResult> {
        let approval = locked(&self.open).take()?;
        let state = Round {
            question: approval.id,
            number: self.rounds + 1,
        };
        let life = self.server.park().max(self.patience);
        let sealed = self.server.seal().close(&state, &self.same, life);
        let requests = questions::requests(std::slice::from_ref(&approval));
        Some(InputRequiredResult::new(Some(requests), Some(sealed)))
    }

    async fn put(&self, question: Question) -> Answered {
        let approval = approval(&question);
        match questions::way(&self.call) {
            Way::None => nobody(),
            Way::Forms => self.form(&approval).await.map_or_else(nobody, somebody),
            Way::Rounds => {
                let this = key(&question);
                let brought = locked(&self.brought).take();
                if let Some((_, answer)) = brought.filter(|(asked, _)| *asked == this) {
                    return answer.map_or_else(nobody, somebody);
                }
                if self.rounds < MOST {
                    self.server.shared.by_hand.remember(approval.id, this);
                    *locked(&self.open) = Some(approval);
                }
                nobody()
            }
        }
    }

    /// Ended by the answer, by the end of patience, by the end of the call or of the connection.
    async fn form(&self, approval: &Approval) -> Option<Answer> {
        let settled = CancellationToken::new();
        let eof = &self.server.shared.eof;
        let asking = questions::ask(
            &self.call,
            approval,
            JsonObject::new(),
            settled.clone(),
            eof,
        );
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => return answer,
            () = tokio::time::sleep(self.patience) => {}
            () = self.call.ct.cancelled() => {}
        }
        settled.cancel();
        // The client is told to take its form away.
        asking.await
    }
}

impl Host for Asker {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answered> {
        self.put(question).boxed()
    }

    /// There is no record that could be lost.
    fn starting<'a>(&'a self, _: &'a CallId, _: String) -> BoxFuture<'a, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }

    fn progress(&self, call: &CallId, progress: Progress) {
        let event = match progress {
            Progress::Line(line) => Event::CallOutput {
                call_id: call.clone(),
                line,
            },
            Progress::Warning(message) => Event::Warning { message },
            // No tool here writes files.
            Progress::FileChanged { .. } => return,
        };
        let mut news = locked(&self.news);
        if news.len() >= LINES {
            news.remove(0);
        }
        news.push(event);
    }
}

fn approval(question: &Question) -> Approval {
    Approval {
        // There is no session that it could cover.
        session_covers: None,
        ..question.clone().into_approval(TurnId::generate())
    }
}

/// Everything that a person decides by.
fn key(question: &Question) -> String {
    let Question {
        summary,
        place,
        detail,
        reason,
        stands_on,
        ..
    } = question;
    format!("{summary}\0{place}\0{detail}\0{reason:?}\0{stands_on}")
}

fn nobody() -> Answered {
    Answered {
        answer: Decision::Deny.into(),
        by: ResolvedBy::Unattended,
    }
}

fn somebody(answer: Answer) -> Answered {
    Answered {
        answer,
        by: ResolvedBy::Elicitation,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
