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
        CancelledNotificationParam, CompleteRequestParams, CompleteResult, DiscoverResult,
        GetTaskParams, GetTaskResult, Implementation, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
        ReadResourceResponse, ServerCapabilities, ServerConfig, SubscribeRequestParams,
        SubscriptionFilter, TaskPayload, Tool, UnsubscribeRequestParams, UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty};

use super::{
    arguments::{QUERY, REPLY, START, tools},
    asked::Asked,
    cancel::Cancellations,
    codex, hands, log,
    resources::{Resources, Subscriptions},
    result,
    seal::Seal,
    tasks,
};
use crate::{
    app::App,
    conversation::{Prompt, SandboxPolicy, ThreadId, shortened, shown_line},
    frontend::attach::attach,
    thread::{Header, ThreadHandle},
    workspace::{Boundaries, Workspace, may_hold_secrets},
};

const INSTRUCTIONS: &str = include_str!("../../../prompts/server.md");
/// How long a list may be kept by a client: it only changes with the program.
const LISTS_KEEP: u64 = 3_600_000;
/// Characters of a `traceparent`; ours are 55.
const TRACE_PARENT: usize = 100;
const STOPPING: &str =
    "this server is about to stop and begins no turn any more; call again in a minute";

/// The handler of one connection. A clone is the same one.
#[derive(Clone)]
pub struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Arc<Connection>,
}

/// What one client has to itself: the ids of its requests, what it wants to hear of, and its end.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) cancellations: Cancellations,
    subscriptions: Subscriptions,
    /// What the client of a session wants to hear of turns besides their progress; nothing until it says so.
    logging: Mutex<Option<log::Level>>,
    /// Cancelled when the client is gone, or with [`Shared::eof`].
    pub(super) ended: CancellationToken,
}

impl Connection {
    pub(super) fn logging(&self) -> MutexGuard<'_, Option<log::Level>> {
        self.logging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Shared {
    pub(super) app: Arc<App>,
    /// What the owner said about waiting.
    pub(super) wait: Option<Option<Duration>>,
    /// Speak as the peer that users come from.
    pub(super) codex: bool,
    /// The server ends: turns are let go of.
    pub(super) eof: CancellationToken,
    /// The server is about to end: no turn begins any more.
    pub(super) draining: CancellationToken,
    resources: Arc<Resources>,
    pub(super) asked: Arc<Asked>,
    /// Questions of calls without a thread.
    pub(super) by_hand: hands::Asked,
    /// Made when the first call comes: a client may start a server only to look at it.
    seal: OnceLock<Arc<Seal>>,
    /// Held for an assignment; nobody awaits under it.
    callers: Mutex<Callers>,
}

/// What is known of what the caller has seen.
#[derive(Default)]
pub(super) struct Callers {
    /// What "last" means.
    pub(super) last: Option<ThreadId>,
    /// Items of a thread that a caller who did not wait was told of.
    pub(super) seen: HashMap<ThreadId, usize>,
}

pub(super) type Call = RequestContext<RoleServer>;

impl Server {
    /// Of one caller, with one connection for a start.
    pub(super) fn new(
        app: Arc<App>,
        wait: Option<Option<Duration>>,
        codex: bool,
        eof: CancellationToken,
        draining: CancellationToken,
    ) -> Self {
        let ended = eof.clone();
        let shared = Shared {
            resources: Arc::new(Resources::new(app.clone())),
            app,
            wait,
            codex,
            eof,
            draining,
            asked: Arc::default(),
            by_hand: hands::Asked::default(),
            seal: OnceLock::new(),
            callers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            connection: Arc::default(),
        }
        .connected(ended)
    }

    /// The same server for another connection of its caller, which lives until `ended`.
    pub(super) fn connected(&self, ended: CancellationToken) -> Self {
        let connection = Connection {
            ended,
            ..Connection::default()
        };
        Self {
            shared: self.shared.clone(),
            connection: Arc::new(connection),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = match self.shared.codex {
            true => vec![codex::START, codex::REPLY, QUERY],
            false => vec![START, REPLY, QUERY],
        };
        if self.shared.app.workspace_tools() {
            names.extend(hands::NAMES);
        }
        names
    }

    fn tools(&self) -> Vec<Tool> {
        let mut tools = match self.shared.codex {
            true => codex::tools(),
            false => tools(),
        };
        if self.shared.app.workspace_tools() {
            tools.extend(hands::tools());
        }
        tools
    }

    /// The call in our words; with what of it is ignored, where it came in those of the peer.
    fn in_our_words(
        &self,
        params: CallToolRequestParams,
    ) -> Result<(CallToolRequestParams, Option<Vec<String>>), String> {
        let mut params = params;
        if !self.shared.codex || params.name == QUERY {
            return Ok((params, None));
        }
        let arguments = params.arguments.take();
        let (name, ours, ignored) = if params.name == codex::START {
            let network = self.shared.app.config().policy.network;
            let (ours, ignored) = codex::start(arguments, network)?;
            (START, ours, ignored)
        } else {
            (REPLY, codex::reply(arguments)?, Vec::new())
        };
        params.name = name.into();
        params.arguments = Some(ours);
        Ok((params, Some(ignored)))
    }

    /// What is logged on the way of a call says of which: also in the traces of its caller (W3C trace context).
    fn span(&self, params: &CallToolRequestParams, call: &Call) -> Span {
        let span = tracing::error_span!(
            "call",
            tool = %params.name,
            request = %call.id,
            tenant = Empty,
            thread = Empty,
            turn = Empty,
            traceparent = Empty,
        );
        if let Some(tenant) = self.shared.app.tenant() {
            span.record("tenant", &*tenant.name);
        }
        if let Some(parent) = call
            .meta
            .get("traceparent")
            .and_then(|value| value.as_str())
        {
            span.record("traceparent", shown_line(&shortened(parent, TRACE_PARENT)));
        }
        span
    }

    async fn answer(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(sealed) = params.request_state.clone() {
            return self.again(params, &sealed, call).await;
        }
        if self.shared.draining.is_cancelled() && begins_a_turn(&params) {
            return Ok(result::refused(STOPPING.to_owned()).into());
        }
        let result = match &*params.name {
            START => self.start(params, call).await,
            REPLY => self.reply(params, call).await,
            _ => self.query(params, call).await,
        };
        Ok(result.unwrap_or_else(|error| result::refused(error).into()))
    }

    pub(super) fn create(&self, header: Header) -> Result<ThreadHandle, String> {
        let app = &self.shared.app;
        let made = app.threads().create(header.clone());
        let thread = made.map_err(|error| {
            app.abandon(&header);
            said(error)
        })?;
        self.shared.resources.made(thread.header());
        Ok(thread)
    }

    /// The thread of an earlier query.
    pub(super) async fn asked_before(&self, id: &str) -> Result<ThreadHandle, String> {
        let thread = self.thread(id).await?;
        if thread.header().query {
            return Ok(thread);
        }
        Err(format!(
            "`{id}` is not a query; `{REPLY}` goes on with it, or give a `query` to ask about it"
        ))
    }

    pub(super) fn seal(&self) -> Arc<Seal> {
        let seal = || Arc::new(Seal::of(self.shared.app.state()));
        self.shared.seal.get_or_init(seal).clone()
    }

    pub(super) fn callers(&self) -> MutexGuard<'_, Callers> {
        self.shared
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that a caller names, also if another process works on it.
    pub(super) async fn thread(&self, id: &str) -> Result<ThreadHandle, String> {
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
        let thread = self.shared.app.threads().reach(id).await.map_err(said)?;
        self.shared.app.within_roots(thread.header().directory())?;
        Ok(thread)
    }

    /// This caller's newest thread; after a restart the newest of this directory.
    fn last(&self) -> Option<ThreadId> {
        let last = self.callers().last;
        last.or_else(|| {
            let here = self.shared.app.cwd().canonicalize().ok()?;
            let store = self.shared.app.threads().store();
            let ids = store.ids().ok()?.into_iter();
            ids.filter_map(|id| store.glance(id).ok())
                .find(|thread| thread.cwd == here && !thread.query)
                .map(|thread| thread.thread_id)
        })
    }

    pub(super) async fn fork(&self, parent: &ThreadHandle) -> Result<ThreadHandle, String> {
        let snapshot = parent.subscribe().await.map_err(said)?;
        let header = self.shared.app.question_about(parent.header());
        let threads = self.shared.app.threads();
        let thread = threads.fork(header, &snapshot.items).map_err(said)?;
        self.shared.resources.made(thread.header());
        Ok(thread)
    }

    /// The prompt and the files that a caller names: inside the working directory only, which is that of a header.
    pub(super) fn attached(
        &self,
        prompt: &str,
        files: &[String],
        cwd: &Path,
    ) -> Result<Prompt, String> {
        let bounds = Boundaries {
            closed: self.shared.app.closed_in(cwd),
            ..Boundaries::default()
        };
        let workspace = Workspace::open_resolved(cwd, SandboxPolicy::ReadOnly, bounds);
        let workspace = workspace.map_err(said)?;
        attach(prompt, files, |name| readable(&workspace, name))
    }
}

/// True for anything but a reply that only waits or answers.
fn begins_a_turn(params: &CallToolRequestParams) -> bool {
    let arguments = params.arguments.as_ref();
    params.name != REPLY || arguments.is_some_and(|given| given.contains_key("prompt"))
}

fn readable(workspace: &Workspace, name: &str) -> Result<PathBuf, String> {
    let real = workspace
        .resolve(name)
        .map_err(|error| format!("argument `files`: {error}"))?;
    if may_hold_secrets(&real) {
        return Err(format!(
            "argument `files`: `{}` may hold secrets and is not read",
            shown_line(name)
        ));
    }
    Ok(real)
}

/// An error in words for the calling model.
pub(super) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn capabilities() -> ServerCapabilities {
    let capabilities = ServerCapabilities::builder()
        .enable_tools()
        .enable_resources()
        .enable_resources_list_changed()
        .enable_resources_subscribe()
        .enable_completions()
        .enable_tasks()
        .build();
    log::announced(capabilities)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(capabilities())
            .with_server_info(
                Implementation::new("openoxide", env!("CARGO_PKG_VERSION")).with_title("openoxide"),
            )
            .with_instructions(if self.shared.codex {
                codex::INSTRUCTIONS
            } else {
                INSTRUCTIONS
            })
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
        Ok(ListToolsResult::with_all_items(self.tools())
            .with_ttl_ms(LISTS_KEEP)
            .with_cache_scope(CacheScope::Public))
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        _: Call,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = page.and_then(|page| page.cursor);
        self.shared.resources.clone().list(cursor).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Call,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(Resources::templates())
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        _: Call,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let read = self.shared.resources.clone().read(&params.uri).await;
        Ok(read?.into())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(self.shared.resources.accept(requested))
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let Resources {
            changes, watching, ..
        } = &*self.shared.resources;
        tokio::select! {
            () = changes.serve(&subscription, &self.connection.ended) => {}
            () = watching.serve(&subscription) => {}
        }
        Ok(())
    }

    async fn subscribe(&self, params: SubscribeRequestParams, call: Call) -> Result<(), ErrorData> {
        let (resources, own) = (self.shared.resources.clone(), &self.connection);
        resources
            .subscribe(params.uri, &own.subscriptions, &call.peer, &own.ended)
            .await
    }

    async fn unsubscribe(
        &self,
        params: UnsubscribeRequestParams,
        _: Call,
    ) -> Result<(), ErrorData> {
        self.connection.subscriptions.remove(&params.uri);
        Ok(())
    }

    async fn set_level(&self, params: log::SetLevel, _: Call) -> Result<(), ErrorData> {
        *self.connection.logging() = Some(log::level(&params));
        Ok(())
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        _: Call,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(CompleteResult::new(
            self.shared.resources.clone().complete(params).await,
        ))
    }

    async fn on_initialized(&self, session: NotificationContext<RoleServer>) {
        let (resources, ended) = (self.shared.resources.clone(), self.connection.ended.clone());
        tokio::spawn(async move { resources.changes.announce(session.peer, ended).await });
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        call: Call,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.names().contains(&&*params.name) {
            let message = format!(
                "unknown tool `{}`; there are {}",
                shown_line(&params.name),
                self.names().join(", ")
            );
            return Err(ErrorData::invalid_params(message, None));
        }
        if hands::NAMES.contains(&&*params.name) {
            return self.by_hand(params, &call).await;
        }
        let (params, ignored) = match self.in_our_words(params) {
            Ok(understood) => understood,
            Err(error) => return Ok(result::refused(error).into()),
        };
        let span = self.span(&params, &call);
        let response = self.answer(params, &call).instrument(span).await?;
        Ok(match (response, ignored) {
            (CallToolResponse::Complete(result), Some(ignored)) => {
                codex::shaped(result, &ignored).into()
            }
            (CallToolResponse::Complete(result), None) if self.shared.codex => {
                codex::in_its_names(result).into()
            }
            (response, _) => response,
        })
    }

    async fn get_task(&self, task: GetTaskParams, call: Call) -> Result<GetTaskResult, ErrorData> {
        let found = tasks::get(&self.shared.app, &task.task_id, self.park(), &call).await?;
        if let (TaskPayload::Completed { .. }, Ok(turn_id)) =
            (&found.task.payload, task.task_id.parse())
        {
            self.shared.asked.settled(turn_id);
        }
        Ok(found)
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
            self.connection.cancellations.tell(id, cancelled.reason);
        }
    }
}
