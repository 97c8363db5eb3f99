//! The handler behind every transport: understands a call, finds its thread, and lets a follower do the rest.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams,
        CancelledNotificationParam, DiscoverResult, GetTaskParams, GetTaskResult, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
        UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::{self, Detail, QUERY, Query, REPLY, Reply, START, Start, tools},
    asked::{Asked, FRESH, One},
    cancel::Cancellations,
    finding::{self, Found, begin_or_go_on},
    follow::{Followed, Follower, Manner},
    news, patience,
    questions::{self, Way},
    result,
    rounds::{self, Rounds},
    seal::{Seal, same_call},
    tasks,
};
use crate::{
    app::{App, Wish},
    conversation::{SandboxPolicy, ThreadId, TurnId, WhenUnattended, shown_line},
    frontend::attach::attach,
    thread::{Header, ThreadHandle},
    workspace::{Boundaries, Workspace},
};

const INSTRUCTIONS: &str = include_str!("../../../prompts/server.md");
/// Goes before a question that is put to a copy of another thread.
const QUESTION: &str = include_str!("../../../prompts/query.md");

/// The longest that anybody is waited for, whatever the owner set.
const A_DAY: Duration = Duration::from_secs(86_400);

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
    asked: Asked,
    /// Made when the first call comes: a client may start a server only to look at it.
    seal: OnceLock<Arc<Seal>>,
    /// Held for an assignment; nobody awaits under it.
    callers: Mutex<Callers>,
}

/// What is known of what the caller has seen.
#[derive(Default)]
struct Callers {
    /// What "last" means.
    last: Option<ThreadId>,
    /// Items of a thread that a caller who did not wait was told of.
    seen: HashMap<ThreadId, usize>,
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
            asked: Asked::default(),
            seal: OnceLock::new(),
            callers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    async fn start(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
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
        } = arguments::parse(START, params.arguments.clone())?;
        let manner = self.manner(&params, wait_seconds, detail, call)?;
        not_empty("prompt", &prompt)?;
        let key = same_call(START, params.arguments.as_ref());
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
            ..Wish::default()
        };
        let header = self.shared.app.header(wish).map_err(said)?;
        let message = self.attached(&prompt, &files, &header.cwd)?;
        let thread = self.create(header)?;
        self.follow(thread, call, manner, Some(key), async |thread| {
            begin_or_go_on(thread, Some(message), detail).await
        })
        .await
    }

    async fn reply(
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
        let thread = self.thread(&thread_id)?;
        let message = match &prompt {
            Some(prompt) => Some(self.attached(prompt, &files, &thread.header().cwd)?),
            None => None,
        };
        let key = message
            .is_some()
            .then(|| same_call(REPLY, params.arguments.as_ref()));
        // Only if the client gave up on it: the same words may be meant twice.
        if let Some(key) = &key
            && let Some(one) = self.undelivered(key).await?
            && one.given_up
        {
            return self.follow_again(one, call, manner).await;
        }
        if interrupt {
            finding::stop(&thread).await?;
        }
        // Before this call attends: what it says itself is not what a person is asked through it.
        if let Some(decision) = decision {
            finding::decide(&thread, decision).await?;
        }
        self.follow(thread, call, manner, key, async |thread| {
            begin_or_go_on(thread, message, detail).await
        })
        .await
    }

    async fn query(
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
            .then(|| same_call(QUERY, params.arguments.as_ref()));
        if let Some(key) = &key
            && let Some(one) = self.undelivered(key).await?
        {
            return self.follow_again(one, call, manner).await;
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
                let header = self.shared.app.header(wish).map_err(said)?;
                (self.create(header)?, Some(query))
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
    async fn again(
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
        let thread = self.shared.app.threads().find(state.thread);
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
            Found::Result(result) => return Ok((*result).into()),
        };
        let turn_id = started.turn_id;
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
            &self.shared.cancellations,
            manner,
        );
        match follower.drive().await {
            Followed::Whole(response) => {
                self.shared.asked.settled(turn_id);
                self.callers().seen.remove(&id);
                Ok(response)
            }
            Followed::Part(response) => Ok(response),
            Followed::Running => self.running(&thread, turn_id, call).await,
            Followed::GivenUp => {
                self.shared.asked.given_up(turn_id);
                Err("cancelled".to_owned())
            }
            Followed::Nobody(why) => {
                self.shared.asked.settled(turn_id);
                Err(why.to_owned())
            }
        }
    }

    /// The turn goes on while its caller does not wait any longer.
    async fn running(
        &self,
        thread: &ThreadHandle,
        turn_id: TurnId,
        call: &Call,
    ) -> Result<CallToolResponse, String> {
        if tasks::are_understood(call) {
            return Ok(CallToolResponse::Task(tasks::created(turn_id)));
        }
        let items = thread.subscribe().await.map_err(said)?.items;
        let seen = self.callers().seen.insert(thread.id(), items.len());
        let news = news::of(&items[seen.unwrap_or(0).min(items.len())..]);
        Ok(result::running(thread.id(), turn_id, &news).into())
    }

    fn manner(
        &self,
        params: &CallToolRequestParams,
        wait_seconds: Option<f64>,
        detail: Detail,
        call: &Call,
    ) -> Result<Manner, String> {
        let config = self.shared.app.config();
        let seconds = |seconds| {
            let whole = Duration::try_from_secs_f64(seconds).unwrap_or(A_DAY);
            whole.min(A_DAY)
        };
        let park = seconds(config.limits.park_seconds);
        let life = park.max(seconds(config.limits.approval_seconds));
        Ok(Manner {
            wait: self.wait(wait_seconds, call)?,
            detail,
            on_cancel: config.server.on_cancel,
            park,
            may_approve: config.policy.when_unattended == Some(WhenUnattended::ReturnToCaller),
            rounds: Rounds::of(self.seal(), params, life),
            remarks: Vec::new(),
            eof: self.shared.eof.clone(),
        })
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
        wait.map(Some).map_err(|_| {
            "argument `wait_seconds`: expected a number of seconds, 0 or more".to_owned()
        })
    }

    fn seal(&self) -> Arc<Seal> {
        let seal = || Arc::new(Seal::of(self.shared.app.state()));
        self.shared.seal.get_or_init(seal).clone()
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.shared
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let last = self.callers().last;
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

/// An error in words for the calling model.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
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
        if ![START, REPLY, QUERY].contains(&&*params.name) {
            let message = format!(
                "unknown tool `{}`; there are {START}, {REPLY} and {QUERY}",
                shown_line(&params.name)
            );
            return Err(ErrorData::invalid_params(message, None));
        }
        if let Some(sealed) = params.request_state.clone() {
            return self.again(params, &sealed, &call).await;
        }
        let result = match &*params.name {
            START => self.start(params, &call).await,
            REPLY => self.reply(params, &call).await,
            _ => self.query(params, &call).await,
        };
        Ok(result.unwrap_or_else(|error| result::refused(error).into()))
    }

    async fn get_task(&self, task: GetTaskParams, call: Call) -> Result<GetTaskResult, ErrorData> {
        let park = self.shared.app.config().limits.park_seconds;
        let park = Duration::try_from_secs_f64(park)
            .unwrap_or(A_DAY)
            .min(A_DAY);
        tasks::get(&self.shared.app, &task.task_id, park, &call).await
    }

    async fn update_task(&self, task: UpdateTaskParams, _: Call) -> Result<(), ErrorData> {
        tasks::update(&self.shared.app, &task.task_id, &task.input_responses).await
    }

    async fn cancel_task(&self, task: CancelTaskParams, _: Call) -> Result<(), ErrorData> {
        tasks::cancel(&self.shared.app, &task.task_id).await
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
