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
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, TaskPayload,
        UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::{QUERY, REPLY, START, tools},
    asked::Asked,
    cancel::Cancellations,
    result,
    seal::Seal,
    tasks,
};
use crate::{
    app::App,
    conversation::{SandboxPolicy, ThreadId, shown_line},
    frontend::attach::attach,
    thread::{Header, ThreadHandle},
    workspace::{Boundaries, Workspace},
};

const INSTRUCTIONS: &str = include_str!("../../../prompts/server.md");
/// How long a list may be kept by a client: it only changes with the program.
const LISTS_KEEP: u64 = 3_600_000;

/// The handler. A clone is the same server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) app: Arc<App>,
    /// What the owner said about waiting.
    pub(super) wait: Option<Option<Duration>>,
    pub(super) eof: CancellationToken,
    pub(super) cancellations: Cancellations,
    pub(super) asked: Arc<Asked>,
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
            asked: Arc::default(),
            seal: OnceLock::new(),
            callers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn create(&self, header: Header) -> Result<ThreadHandle, String> {
        self.shared.app.threads().create(header).map_err(said)
    }

    /// The thread of an earlier query.
    pub(super) fn asked_before(&self, id: &str) -> Result<ThreadHandle, String> {
        let thread = self.thread(id)?;
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

    pub(super) fn thread(&self, id: &str) -> Result<ThreadHandle, String> {
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

    pub(super) async fn fork(&self, parent: &ThreadHandle) -> Result<ThreadHandle, String> {
        let snapshot = parent.subscribe().await.map_err(said)?;
        let header = self.shared.app.question_about(parent.header());
        self.shared
            .app
            .threads()
            .fork(header, &snapshot.items)
            .map_err(said)
    }

    /// The prompt and the files that a caller names: inside the working directory only.
    pub(super) fn attached(
        &self,
        prompt: &str,
        files: &[String],
        cwd: &Path,
    ) -> Result<String, String> {
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

/// An error in words for the calling model.
pub(super) fn said(error: impl std::fmt::Display) -> String {
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
            self.shared.cancellations.tell(id, cancelled.reason);
        }
    }
}
