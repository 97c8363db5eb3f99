//! The handler behind every transport: understands a call, finds its thread, and lets a follower do the rest.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult,
        CancelledNotificationParam, DiscoverResult, Implementation, JsonObject, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig,
    },
    service::{NotificationContext, RequestContext},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::{self, Detail, GivenDecision, QUERY, Query, REPLY, Reply, START, Start, tools},
    cancel::Cancellations,
    follow::{Follower, Manner},
    questions, result,
};
use crate::{
    app::{App, Wish},
    conversation::{Answer, Decision, ResolvedBy, SandboxPolicy, Status, ThreadId, shown_line},
    frontend::attach::attach,
    thread::{Follow, Header, Started, ThreadHandle},
    workspace::{Boundaries, Workspace},
};

const INSTRUCTIONS: &str = include_str!("../../../prompts/server.md");
/// Goes before a question that is put to a copy of another thread.
const QUESTION: &str = include_str!("../../../prompts/query.md");

/// How long a list may be kept by a client: it only changes with the program.
const LISTS_KEEP: u64 = 3_600_000;

/// The handler. A clone is the same server.
#[derive(Clone)]
pub(super) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    app: Arc<App>,
    /// What the owner said about waiting.
    wait: Option<Option<Duration>>,
    eof: CancellationToken,
    cancellations: Cancellations,
    /// What "last" means. Held for an assignment; nobody awaits under it.
    last: Mutex<Option<ThreadId>>,
}

/// What came of understanding a call: a turn to follow, or a result at once.
enum Found {
    Turn(ThreadHandle, Started, Option<String>),
    Result(CallToolResult),
}

type Call = RequestContext<RoleServer>;

impl Server {
    pub(super) fn new(
        app: Arc<App>,
        wait: Option<Option<Duration>>,
        eof: CancellationToken,
    ) -> Self {
        let shared = Shared {
            app,
            wait,
            eof,
            cancellations: Cancellations::default(),
            last: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    async fn start(
        &self,
        arguments: Option<JsonObject>,
        call: &Call,
    ) -> Result<CallToolResult, String> {
        let Start {
            prompt,
            cwd,
            model,
            sandbox,
            approval_policy,
            instructions,
            files,
            config,
            wait_seconds,
            detail,
            ..
        } = arguments::parse(START, arguments)?;
        let manner = self.manner(wait_seconds, detail)?;
        not_empty("prompt", &prompt)?;
        let wish = Wish {
            cwd,
            model,
            sandbox,
            approval_policy,
            instructions,
            narrowing: config.unwrap_or_default(),
            ..Wish::default()
        };
        let header = self.shared.app.header(wish).await.map_err(said)?;
        let message = self.attached(&prompt, &files, &header.cwd)?;
        let thread = self.create(header)?;
        self.follow(thread, call, manner, async |thread| {
            begin_or_go_on(thread, Some(message), detail).await
        })
        .await
    }

    async fn reply(
        &self,
        arguments: Option<JsonObject>,
        call: &Call,
    ) -> Result<CallToolResult, String> {
        let Reply {
            thread_id,
            prompt,
            decision,
            interrupt,
            files,
            wait_seconds,
            detail,
        } = arguments::parse(REPLY, arguments)?;
        let manner = self.manner(wait_seconds, detail)?;
        if let Some(prompt) = &prompt {
            not_empty("prompt", prompt)?;
        }
        let thread = self.thread(&thread_id)?;
        let message = match &prompt {
            Some(prompt) => Some(self.attached(prompt, &files, &thread.header().cwd)?),
            None => None,
        };
        self.follow(thread, call, manner, async |thread| {
            if interrupt {
                stop(&thread).await?;
            }
            if let Some(decision) = decision {
                answer(&thread, decision).await?;
            }
            begin_or_go_on(thread, message, detail).await
        })
        .await
    }

    async fn query(
        &self,
        arguments: Option<JsonObject>,
        call: &Call,
    ) -> Result<CallToolResult, String> {
        let Query {
            query,
            cwd,
            thread_id,
            model,
            wait_seconds,
        } = arguments::parse(QUERY, arguments)?;
        let manner = self.manner(wait_seconds, Detail::Brief)?;
        if let Some(query) = &query {
            not_empty("query", query)?;
        }
        let (thread, message) = match (query, thread_id) {
            (None, None) => return Err(format!("argument `query` of `{QUERY}` is missing")),
            (None, Some(id)) => (self.asked_before(&id)?, None),
            (Some(query), Some(id)) => {
                let fork = self.fork(&self.thread(&id)?).await?;
                (fork, Some(format!("{}\n{query}", QUESTION.trim())))
            }
            (Some(query), None) => {
                let wish = Wish {
                    cwd,
                    model,
                    query: true,
                    ..Wish::default()
                };
                let header = self.shared.app.header(wish).await.map_err(said)?;
                (self.create(header)?, Some(query))
            }
        };
        let detail = Detail::Brief;
        self.follow(thread, call, manner, async |thread| {
            begin_or_go_on(thread, message, detail).await
        })
        .await
    }

    fn create(&self, header: Header) -> Result<ThreadHandle, String> {
        self.shared.app.threads().create(header).map_err(said)
    }

    /// The thread of an earlier query.
    fn asked_before(&self, id: &str) -> Result<ThreadHandle, String> {
        let thread = self.thread(id)?;
        if thread.header().query {
            return Ok(thread);
        }
        Err(format!(
            "`{id}` is not a query; `{REPLY}` goes on with it, or give a `query` to ask about it"
        ))
    }

    /// Does what `find` does to the thread, and follows the turn that it gives. Subscribed before, so nothing is missed.
    async fn follow(
        &self,
        thread: ThreadHandle,
        call: &Call,
        manner: Manner,
        find: impl AsyncFnOnce(ThreadHandle) -> Result<Found, String>,
    ) -> Result<CallToolResult, String> {
        if !thread.header().query {
            *self
                .shared
                .last
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(thread.id());
        }
        let lease = match questions::can_be_asked(call) {
            true => Some(thread.attend().await.map_err(said)?),
            false => None,
        };
        let snapshot = thread.subscribe().await.map_err(said)?;
        let (thread, started, remark) = match find(thread).await? {
            Found::Turn(thread, started, remark) => (thread, started, remark),
            Found::Result(result) => return Ok(result),
        };
        let manner = Manner { remark, ..manner };
        let follower = Follower::new(
            thread,
            started,
            snapshot,
            lease,
            call,
            &self.shared.cancellations,
            manner,
        );
        Ok(follower.drive().await)
    }

    fn manner(&self, wait_seconds: Option<f64>, detail: Detail) -> Result<Manner, String> {
        Ok(Manner {
            wait: self.wait(wait_seconds)?,
            detail,
            on_cancel: self.shared.app.config().server.on_cancel,
            remark: None,
            eof: self.shared.eof.clone(),
        })
    }

    /// The wait budget: of the call, else the owner's, else none.
    fn wait(&self, asked: Option<f64>) -> Result<Option<Duration>, String> {
        let seconds = match (asked, self.shared.wait) {
            (None, Some(owner)) => return Ok(owner),
            (None, None) => self.shared.app.config().limits.wait_seconds,
            (asked, _) => asked,
        };
        let Some(seconds) = seconds else {
            return Ok(None);
        };
        let wait = Duration::try_from_secs_f64(seconds);
        wait.map(Some).map_err(|_| {
            "argument `wait_seconds`: expected a number of seconds, 0 or more".to_owned()
        })
    }

    fn thread(&self, id: &str) -> Result<ThreadHandle, String> {
        let unknown = || {
            format!(
                "there is no thread `{}`; `{START}` starts one",
                shown_line(id)
            )
        };
        let id = match id {
            "last" => self.last().ok_or_else(unknown)?,
            id => id.parse().map_err(|_| unknown())?,
        };
        let thread = self.shared.app.threads().find(id).map_err(said)?;
        self.shared.app.within_roots(&thread.header().cwd)?;
        Ok(thread)
    }

    /// This caller's newest thread; after a restart the newest of this directory.
    fn last(&self) -> Option<ThreadId> {
        let last = *self
            .shared
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.or_else(|| {
            let here = self.shared.app.cwd().canonicalize().ok()?;
            let threads = self.shared.app.threads().store().list().ok()?;
            threads
                .into_iter()
                .find(|thread| thread.cwd == here && !thread.query)
                .map(|thread| thread.thread_id)
        })
    }

    async fn fork(&self, parent: &ThreadHandle) -> Result<ThreadHandle, String> {
        let snapshot = parent.subscribe().await.map_err(said)?;
        let header = self.shared.app.question_about(parent.header());
        self.shared
            .app
            .threads()
            .fork(header, &snapshot.items)
            .map_err(said)
    }

    /// The prompt and the files that a caller names: inside the working directory only.
    fn attached(&self, prompt: &str, files: &[String], cwd: &Path) -> Result<String, String> {
        let bounds = Boundaries {
            closed: self.shared.app.closed().to_vec(),
            ..Boundaries::default()
        };
        let workspace = Workspace::open(cwd, SandboxPolicy::ReadOnly, bounds).map_err(said)?;
        attach(prompt, files, |name| readable(&workspace, name))
    }
}

fn readable(workspace: &Workspace, name: &str) -> Result<PathBuf, String> {
    let real = workspace
        .resolve(name)
        .map_err(|error| format!("argument `files`: {error}"))?;
    let is_env = real
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(".env"));
    if is_env {
        return Err(format!(
            "argument `files`: `{}` may hold secrets and is not read",
            shown_line(name)
        ));
    }
    Ok(real)
}

fn not_empty(name: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err(format!("argument `{name}` is empty"))
    } else {
        Ok(())
    }
}

async fn begin_or_go_on(
    thread: ThreadHandle,
    message: Option<String>,
    detail: Detail,
) -> Result<Found, String> {
    match message {
        Some(message) => {
            let started = thread.start(message).await.map_err(said)?;
            Ok(Found::Turn(thread, started, None))
        }
        None => go_on(thread, detail).await,
    }
}

/// An error in words for the calling model.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Waits for the running turn, resumes an interrupted one, or gives the last outcome again.
async fn go_on(thread: ThreadHandle, detail: Detail) -> Result<Found, String> {
    let resumed = match thread.follow().await.map_err(said)? {
        Follow::Running(started) => return Ok(Found::Turn(thread, started, None)),
        Follow::Ended(outcome) if outcome.status != Status::Interrupted => {
            return Ok(Found::Result(result::outcome(
                &outcome,
                detail,
                Some("this turn had ended before"),
            )));
        }
        Follow::Ended(_) | Follow::Nothing => thread.resume().await,
    };
    let started = resumed.map_err(said)?;
    Ok(Found::Turn(
        thread,
        started,
        Some("resumed: the turn before was cut short".to_owned()),
    ))
}

/// Interrupts the running turn and waits for its end.
async fn stop(thread: &ThreadHandle) -> Result<(), String> {
    if let Follow::Running(started) = thread.follow().await.map_err(said)? {
        thread
            .interrupt(Some(started.turn_id))
            .await
            .map_err(said)?;
        // If the thread is lost, what comes next says so.
        let _ = started.outcome.await;
    }
    Ok(())
}

/// The caller is a model: it may say no, and no more.
async fn answer(thread: &ThreadHandle, given: GivenDecision) -> Result<(), String> {
    if matches!(
        given.decision,
        Decision::Approve | Decision::ApproveForSession
    ) {
        return Err(
            "argument `decision`: a caller may deny or abort; approving is for a person".to_owned(),
        );
    }
    let pending = thread.subscribe().await.map_err(said)?.pending;
    let id = match (given.approval_id, pending.as_slice()) {
        (Some(id), _) => id,
        (None, [only]) => only.id,
        (None, []) => return Err("argument `decision`: no question is open".to_owned()),
        (None, several) => {
            let ids: Vec<String> = several
                .iter()
                .map(|approval| approval.id.to_string())
                .collect();
            return Err(format!(
                "argument `decision`: name one of the open questions: {}",
                ids.join(", ")
            ));
        }
    };
    let answer = Answer {
        decision: given.decision,
        note: given.note,
    };
    match thread.answer(id, answer, ResolvedBy::Caller).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "argument `decision`: question `{id}` is not open (any more)"
        )),
        Err(error) => Err(error.to_string()),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("openoxide", env!("CARGO_PKG_VERSION")).with_title("openoxide"),
            )
            .with_instructions(INSTRUCTIONS)
    }

    async fn discover(&self, _: Call) -> Result<DiscoverResult, ErrorData> {
        Ok(DiscoverResult::from_server_info(
            self.supported_protocol_versions().into_owned(),
            self.get_info(),
        )
        .with_ttl_ms(LISTS_KEEP)
        .with_cache_scope(CacheScope::Public))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Call,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools())
            .with_ttl_ms(LISTS_KEEP)
            .with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        call: Call,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = match &*params.name {
            START => self.start(params.arguments, &call).await,
            REPLY => self.reply(params.arguments, &call).await,
            QUERY => self.query(params.arguments, &call).await,
            other => {
                let message = format!(
                    "unknown tool `{}`; there are {START}, {REPLY} and {QUERY}",
                    shown_line(other)
                );
                return Err(ErrorData::invalid_params(message, None));
            }
        };
        Ok(result.unwrap_or_else(result::refused).into())
    }

    async fn on_cancelled(
        &self,
        cancelled: CancelledNotificationParam,
        _: NotificationContext<RoleServer>,
    ) {
        if let Some(id) = &cancelled.request_id {
            self.shared.cancellations.tell(id, cancelled.reason);
        }
    }
}
