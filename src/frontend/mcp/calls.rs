//! The three calls: from arguments to a thread, and from there to whatever comes of following its turn.
//!
//! A call that comes again is the same call: with the state of a round it goes on with its turn, and without one, where
//! its result was never delivered, it follows the turn that it started.

use std::time::Duration;

use rmcp::{
    ErrorData,
    model::{CallToolRequestParams, CallToolResponse, JsonObject},
};

use tracing::{Span, field::display};

use super::{
    arguments::{self, Detail, Isolation, QUERY, Query, REPLY, Reply, START, Start},
    asked::{FRESH, One},
    finding::{self, Found, begin_or_go_on},
    follow::{Followed, Follower, Manner},
    log, news, patience,
    questions::{self, Way},
    result,
    rounds::{self, Rounds},
    seal::same_call,
    server::{Call, Server, said},
    tasks,
};
use crate::{
    app::Wish,
    conversation::{Decision, ThreadId, TurnId, WhenUnattended},
    thread::ThreadHandle,
};

/// Goes before a question that is put to a copy of another thread.
const QUESTION: &str = include_str!("../../../prompts/query.md");

/// The longest that anybody is waited for, whatever the owner set.
const A_DAY: Duration = Duration::from_secs(86_400);

impl Server {
    pub(super) async fn start(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
        let mut given: Start = arguments::parse(START, params.arguments.clone())?;
        let instructions = given.take_instructions();
        let Start {
            prompt,
            cwd,
            model,
            sandbox,
            approval_policy,
            files,
            config,
            wait_seconds,
            detail,
            isolation,
            ..
        } = given;
        let manner = self.manner(&params, wait_seconds, detail, call)?;
        not_empty("prompt", &prompt)?;
        let key = self.same_call(START, params.arguments.as_ref());
        if let Some(one) = self.undelivered(&key).await? {
            return self.follow_again(one, call, manner).await;
        }
        let wish = Wish {
            cwd,
            model,
            sandbox,
            approval_policy,
            instructions,
            narrowing: config.unwrap_or_default(),
            isolated: isolation == Isolation::Worktree,
            ..Wish::default()
        };
        let header = self.shared.app.header(wish).await.map_err(said)?;
        let message = self.attached(&prompt, &files, &header.cwd);
        let message = message.inspect_err(|_| self.shared.app.abandon(&header))?;
        let message = self.shared.app.with_resources(message, &header).await;
        let thread = self.create(header)?;
        self.follow(thread, call, manner, Some(key), async |thread| {
            begin_or_go_on(thread, Some(message), detail).await
        })
        .await
    }

    pub(super) async fn reply(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
        let Reply {
            thread_id,
            prompt,
            decision,
            interrupt,
            files,
            wait_seconds,
            detail,
        } = arguments::parse(REPLY, params.arguments.clone())?;
        let manner = self.manner(&params, wait_seconds, detail, call)?;
        if let Some(prompt) = &prompt {
            not_empty("prompt", prompt)?;
        }
        let mut thread = self.thread(&thread_id).await?;
        let message = match &prompt {
            Some(prompt) => {
                let message = self.attached(prompt, &files, &thread.header().cwd)?;
                let header = thread.header();
                Some(self.shared.app.with_resources(message, header).await)
            }
            None => None,
        };
        let key = message
            .is_some()
            .then(|| self.same_call(REPLY, params.arguments.as_ref()));
        // Only if the client gave up on it: the same words may be meant twice.
        if let Some(key) = &key
            && let Some(one) = self.undelivered(key).await?
            && one.given_up
        {
            return self.follow_again(one, call, manner).await;
        }
        // Before anything is done for it.
        if message.is_some() && thread.is_far() && !interrupt {
            return Err(held_elsewhere(thread.id()));
        }
        let mut stopped = None;
        if interrupt {
            stopped = finding::stop(&thread).await?;
            // Who held it has given it back.
            thread = self.thread(&thread.id().to_string()).await?;
        }
        let stopped = stopped.filter(|_| message.is_none() && decision.is_none());
        let aborts = decision
            .as_ref()
            .is_some_and(|given| given.decision == Decision::Abort);
        // Before this call attends: what it says itself is not what a person is asked through it.
        if let Some(decision) = decision {
            finding::decide(&thread, decision).await?;
        }
        self.follow(thread, call, manner, key, async |thread| match stopped {
            Some(outcome) => Ok(finding::stopped(&outcome, detail)),
            None if aborts && message.is_none() => finding::aborted(thread, detail).await,
            None => begin_or_go_on(thread, message, detail).await,
        })
        .await
    }

    pub(super) async fn query(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
        let Query {
            query,
            cwd,
            thread_id,
            model,
            wait_seconds,
        } = arguments::parse(QUERY, params.arguments.clone())?;
        let detail = Detail::Brief;
        let manner = self.manner(&params, wait_seconds, detail, call)?;
        if let Some(query) = &query {
            not_empty("query", query)?;
        }
        let key = query
            .is_some()
            .then(|| self.same_call(QUERY, params.arguments.as_ref()));
        if let Some(key) = &key
            && let Some(one) = self.undelivered(key).await?
        {
            return self.follow_again(one, call, manner).await;
        }
        let (thread, message) = match (query, thread_id) {
            (None, None) => return Err(format!("argument `query` of `{QUERY}` is missing")),
            (None, Some(id)) => (self.asked_before(&id).await?, None),
            (Some(query), Some(id)) => {
                let fork = self.fork(&self.thread(&id).await?).await?;
                (fork, Some(format!("{}\n{query}", QUESTION.trim()).into()))
            }
            (Some(query), None) => {
                let wish = Wish {
                    cwd,
                    model,
                    query: true,
                    ..Wish::default()
                };
                let header = self.shared.app.header(wish).await.map_err(said)?;
                let message = self.shared.app.with_resources(query.into(), &header).await;
                (self.create(header)?, Some(message))
            }
        };
        self.follow(thread, call, manner, key, async |thread| {
            begin_or_go_on(thread, message, detail).await
        })
        .await
    }

    /// A call that comes again with answers, or without: it follows the turn that it started before.
    ///
    /// # Errors
    /// The protocol's, if the state is not ours, not of this call, too old, or of a turn that is gone.
    pub(super) async fn again(
        &self,
        params: CallToolRequestParams,
        sealed: &str,
        call: &Call,
    ) -> Result<CallToolResponse, ErrorData> {
        let invalid = |message: String| ErrorData::invalid_params(message, None);
        let (wait_seconds, detail) = arguments::waiting(params.arguments.as_ref());
        let mut manner = self
            .manner(&params, wait_seconds, detail, call)
            .map_err(invalid)?;
        let state = manner.rounds.again(sealed)?;
        let gone = || invalid("`requestState`: its turn is gone".to_owned());
        let thread = self.shared.app.threads().reach(state.thread).await;
        let thread = thread.map_err(|_| gone())?;
        let responses = params.input_responses.unwrap_or_default();
        let mut known = true;
        let followed = self
            .follow(thread, call, manner, None, async |thread| {
                rounds::answer(thread, &state.approvals, &responses).await?;
                let found = finding::named(thread, state.turn, detail).await?;
                known = found.is_some();
                found.ok_or_else(String::new)
            })
            .await;
        match followed {
            Err(_) if !known => Err(gone()),
            followed => Ok(followed.unwrap_or_else(|error| result::refused(error).into())),
        }
    }

    /// A call like this one whose turn is still an answer to it.
    async fn undelivered(&self, key: &str) -> Result<Option<One>, String> {
        let Some(one) = self.shared.asked.like(key) else {
            return Ok(None);
        };
        let Ok(thread) = self.shared.app.threads().find(one.thread) else {
            return Ok(None);
        };
        let ended = thread.outcome_of(one.turn).await.map_err(said)?;
        let is_fresh = ended.is_none_or(|outcome| {
            let took = Duration::try_from_secs_f64(outcome.seconds).unwrap_or_default();
            one.began.elapsed() < took.saturating_add(FRESH)
        });
        Ok(is_fresh.then_some(one))
    }

    async fn follow_again(
        &self,
        one: One,
        call: &Call,
        mut manner: Manner,
    ) -> Result<CallToolResponse, String> {
        let thread = self.shared.app.threads().find(one.thread).map_err(said)?;
        let detail = manner.detail;
        manner
            .remarks
            .push("the same was asked before: this is the turn that it started".to_owned());
        self.follow(thread, call, manner, None, async |thread| {
            let found = finding::named(thread, one.turn, detail).await?;
            found.ok_or_else(|| "the turn that the same call started before is gone".to_owned())
        })
        .await
    }

    /// Does what `find` does to the thread, and follows the turn that it gives. Subscribed before, so nothing is missed.
    async fn follow(
        &self,
        thread: ThreadHandle,
        call: &Call,
        mut manner: Manner,
        key: Option<String>,
        find: impl AsyncFnOnce(&ThreadHandle) -> Result<Found, String>,
    ) -> Result<CallToolResponse, String> {
        if !thread.header().query {
            self.callers().last = Some(thread.id());
        }
        let lease = match questions::way(call) {
            Way::Forms | Way::Rounds => Some(thread.attend().await.map_err(said)?),
            Way::None => None,
        };
        let snapshot = thread.subscribe().await.map_err(said)?;
        let (seen, id) = (snapshot.items.len(), thread.id());
        let started = match find(&thread).await? {
            Found::Turn { started, remark } => {
                manner.remarks.extend(remark.map(str::to_owned));
                started
            }
            Found::Result { turn_id, result } => {
                self.shared.asked.settled(turn_id);
                return Ok((*result).into());
            }
        };
        let turn_id = started.turn_id;
        let span = Span::current();
        span.record("thread", display(id));
        span.record("turn", display(turn_id));
        tracing::info!("follows a turn");
        if let Some(key) = key {
            self.shared.asked.note(key, id, turn_id);
        }
        self.callers().seen.entry(id).or_insert(seen);
        let follower = Follower::new(
            thread.clone(),
            started,
            snapshot,
            lease,
            call,
            &self.connection.cancellations,
            manner,
        );
        match follower.drive().await {
            Followed::Whole(response) => {
                tracing::info!("the turn has ended");
                self.shared.asked.settled(turn_id);
                self.callers().seen.remove(&id);
                Ok(response)
            }
            Followed::Part(response) => Ok(response),
            Followed::Running(line) => self.running(id, turn_id, line, call).await,
            Followed::Nobody(why) => {
                tracing::info!("nobody waits for the turn any more: {why}");
                Err(why)
            }
        }
    }

    /// The turn goes on while its caller does not wait any longer.
    async fn running(
        &self,
        id: ThreadId,
        turn_id: TurnId,
        line: Option<String>,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
        if tasks::are_understood(call) {
            return Ok(CallToolResponse::Task(tasks::created(turn_id)));
        }
        let thread = self.shared.app.threads().reach(id).await.map_err(said)?;
        let items = thread.subscribe().await.map_err(said)?.items;
        let seen = self.callers().seen.insert(id, items.len());
        let standing = thread.standing().await.map_err(said)?;
        let waits = standing.and_then(|standing| standing.waits);
        let news = || news::of(&items, seen.unwrap_or(0), line.as_deref());
        let news = waits.unwrap_or_else(news);
        Ok(result::running(id, turn_id, &news).into())
    }

    fn manner(
        &self,
        params: &CallToolRequestParams,
        wait_seconds: Option<f64>,
        detail: Detail,
        call: &Call,
    ) -> Result<Manner, String> {
        let config = self.shared.app.config();
        let park = self.park();
        let life = park.max(bounded(config.limits.approval_seconds));
        Ok(Manner {
            app: self.shared.app.clone(),
            wait: self.wait(wait_seconds, call)?,
            detail,
            on_cancel: config.server.on_cancel,
            codex: self.shared.codex,
            park,
            may_approve: config.policy.when_unattended == Some(WhenUnattended::ReturnToCaller),
            asked: self.shared.asked.clone(),
            rounds: Rounds::of(
                self.seal(),
                self.same_call(&params.name, params.arguments.as_ref()),
                life,
            ),
            remarks: Vec::new(),
            log: log::wanted(call, *self.connection.logging()),
            ended: self.connection.ended.clone(),
            eof: self.shared.eof.clone(),
        })
    }

    /// The call as it is recognized again when its caller makes it again.
    pub(super) fn same_call(&self, tool: &str, arguments: Option<&JsonObject>) -> String {
        let caller = self.shared.app.tenant().map(|tenant| &*tenant.name);
        same_call(caller, tool, arguments)
    }

    /// How long somebody who was invited back is waited for.
    pub(super) fn park(&self) -> Duration {
        bounded(self.shared.app.config().limits.park_seconds)
    }

    /// The wait budget: of the call, else the owner's, else what is known of the client.
    fn wait(&self, asked: Option<f64>, call: &Call) -> Result<Option<Duration>, String> {
        let configured = self.shared.app.config().limits.wait_seconds;
        let seconds = match (asked, self.shared.wait, configured) {
            (Some(seconds), _, _) | (None, None, Some(seconds)) => seconds,
            (None, Some(owner), _) => return Ok(owner),
            (None, None, None) => return Ok(patience::budget(call)),
        };
        let wait = Duration::try_from_secs_f64(seconds);
        wait.map(|wait| Some(wait.min(A_DAY))).map_err(|_| {
            "argument `wait_seconds`: expected a number of seconds, 0 or more".to_owned()
        })
    }
}

pub(super) fn bounded(seconds: f64) -> Duration {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or(A_DAY);
    whole.min(A_DAY)
}

/// A turn runs under what its process was told it may do, so none is begun in another.
fn held_elsewhere(id: ThreadId) -> String {
    format!(
        "another process works on thread `{id}` and takes no prompt from here; call `{REPLY}` without `prompt` to wait for its turn, or with `interrupt: true` to stop it first"
    )
}

fn not_empty(name: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err(format!("argument `{name}` is empty"))
    } else {
        Ok(())
    }
}
