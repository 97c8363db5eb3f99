//! Resources: the threads of this server's directories, what their turns changed, and files.
//!
//! Nothing is started and no thread is loaded to look at one. Lists are read from the ends of rollouts, so that a client
//! that asks at connect is answered at once.

mod changes;
mod places;
mod threads;
mod uri;
mod watching;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    ErrorData, Peer, RoleServer,
    model::{
        CacheScope, CompleteRequestParams, CompletionInfo, ListResourceTemplatesResult,
        ListResourcesResult, ReadResourceResult, Reference, Resource, ResourceContents,
        ResourceTemplate, SubscriptionFilter,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    conversation::{Status, ThreadId, TurnId, shortened, shown_line},
    thread::{Follow, Header, Loaded, StoreError, ThreadSummary},
    workspace::watch::Target,
};
use changes::Changes;
use places::Places;
use uri::Address;
pub(super) use uri::diff as turn_diff;
pub(super) use watching::Subscriptions;
use watching::{Watched, Watching};

/// Threads of one page.
const PAGE: usize = 100;
/// Rollouts that are looked at for one page, so that threads of other directories do not make it slow.
const LOOKS: usize = 1000;
/// Milliseconds for which what never changes may be kept.
const FOR_LONG: u64 = 3_600_000;

/// What is served besides tools.
pub(super) struct Resources {
    app: Arc<App>,
    /// Directories of threads that callers started here. Held for a set operation; nobody awaits under it.
    called_with: Mutex<BTreeSet<PathBuf>>,
    /// Who is told when a thread is made.
    pub(super) changes: Changes,
    /// Who is told when a file changes.
    pub(super) watching: Watching,
}

impl Resources {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            app,
            called_with: Mutex::default(),
            changes: Changes::default(),
            watching: Watching::default(),
        }
    }

    /// A thread was made here. A fork works where its parent does: naming a thread opens no directory. Where the owner
    /// named roots, those are all that there is.
    pub(super) fn made(&self, header: &Header) {
        if header.parent.is_none() && self.app.named_roots().is_empty() {
            let mut called_with = self
                .called_with
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            called_with.insert(header.directory().to_owned());
        }
        self.changes.tell();
    }

    /// The threads of this server's directories, newest first, a page at a time.
    pub(super) async fn list(
        self: Arc<Self>,
        cursor: Option<String>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let after = match &cursor {
            None => None,
            Some(cursor) => Some(cursor.parse().map_err(|_| {
                ErrorData::invalid_params("this `cursor` is not one that was given here", None)
            })?),
        };
        let (threads, next) = self.page(after).await?;
        let mut resources = Vec::new();
        if after.is_none() {
            let all = Resource::new(uri::THREADS, "threads")
                .with_title("Threads")
                .with_description("The threads of this server's directories, newest first.")
                .with_mime_type("application/json");
            resources.push(all);
        }
        resources.extend(threads.iter().map(listed));
        let mut list = ListResourcesResult::with_all_items(resources)
            .with_ttl_ms(0)
            .with_cache_scope(CacheScope::Private);
        list.next_cursor = next.map(|id| id.to_string());
        Ok(list)
    }

    /// The shapes of addresses; the same for everybody.
    pub(super) fn templates() -> ListResourceTemplatesResult {
        let template = |uri: &str, name: &str, description: &str, kind: Option<&str>| {
            let template = ResourceTemplate::new(uri, name).with_description(description);
            match kind {
                Some(kind) => template.with_mime_type(kind),
                None => template,
            }
        };
        let json = Some("application/json");
        let diff = Some("text/x-diff");
        let templates = vec![
            template(
                "openoxide://threads/{thread_id}",
                "thread",
                "A thread: its turns and their whole outcomes.",
                json,
            ),
            template(
                "openoxide://threads/{thread_id}/diff",
                "diff",
                "What the last turn of a thread changed.",
                diff,
            ),
            template(
                "openoxide://threads/{thread_id}/turns/{turn_id}/diff",
                "turn-diff",
                "What one turn changed.",
                diff,
            ),
            template(
                "file://{path}",
                "file",
                "A file in the server's directories.",
                None,
            ),
            template(
                "directory://{path}",
                "directory",
                "The entries of a directory.",
                json,
            ),
        ];
        ListResourceTemplatesResult::with_all_items(templates)
            .with_ttl_ms(FOR_LONG)
            .with_cache_scope(CacheScope::Public)
    }

    /// One resource. What is not there and what is not for this caller get the same answer.
    pub(super) async fn read(self: Arc<Self>, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        let address = Address::parse(uri).ok_or_else(|| unknown(uri, KINDS))?;
        let mut keep = 0;
        let contents = match address {
            Address::Threads => {
                let (threads, next) = self.page(None).await?;
                threads::all(&threads, next.is_some())
            }
            Address::Thread(id) => {
                let running = self.running(id).await;
                threads::whole(&self.thread(id, uri).await?, running)
            }
            Address::Diff(id, turn) => {
                let loaded = self.thread(id, uri).await?;
                let outcome = match turn {
                    None => loaded.last_outcome(),
                    Some(turn) => {
                        keep = FOR_LONG;
                        let mut turns = loaded.turns.iter();
                        let found = turns.find(|known| known.turn_id == turn);
                        found.and_then(|turn| turn.outcome.as_ref())
                    }
                };
                let none = "the thread has no such turn, or the turn has not ended";
                threads::diff(outcome.ok_or_else(|| unknown(uri, none))?, uri)
            }
            Address::File(path) => {
                let path = self.app.cwd().join(path);
                self.place(uri, move |places, uri| places.file(&path, uri))
                    .await?
            }
            Address::Directory(path) => {
                let path = self.app.cwd().join(path);
                self.place(uri, move |places, uri| places.directory(&path, uri))
                    .await?
            }
        };
        Ok(ReadResourceResult::new(vec![contents])
            .with_ttl_ms(keep)
            .with_cache_scope(CacheScope::Private))
    }

    /// Tells the client of `session` when `uri` changes, until it unsubscribes.
    pub(super) async fn subscribe(
        self: Arc<Self>,
        uri: String,
        session: &Subscriptions,
        peer: &Peer<RoleServer>,
        eof: &CancellationToken,
    ) -> Result<(), ErrorData> {
        if Address::parse(&uri).is_some_and(|address| address.is_of_threads()) {
            return Err(ErrorData::invalid_params(UNWATCHED, None));
        }
        let (here, named) = (self.clone(), uri.clone());
        let looked = tokio::task::spawn_blocking(move || here.watched(&named)).await;
        let watched = looked.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let watched = watched.ok_or_else(|| unknown(&uri, WATCHED))?;
        let subscribed = session.add(watched, peer, eof);
        subscribed.map_err(|why| ErrorData::invalid_params(why, None))
    }

    /// The part of a subscription that can be served: files and directories that may be read, so many of them.
    pub(super) fn accept(&self, requested: &SubscriptionFilter) -> SubscriptionFilter {
        let mut filter = self.changes.accept(requested);
        let wanted = requested
            .resource_subscriptions
            .as_deref()
            .unwrap_or_default();
        let watched: Vec<Watched> = wanted
            .iter()
            .take(watching::MOST)
            .filter_map(|uri| self.watched(uri))
            .collect();
        if !watched.is_empty() {
            let uris = watched.iter().map(|one| one.uri.clone());
            filter.resource_subscriptions = Some(uris.collect());
            self.watching.accept(watched);
        }
        filter
    }

    /// Blocks for a look at the disk.
    fn watched(&self, uri: &str) -> Option<Watched> {
        let (Address::File(path) | Address::Directory(path)) = Address::parse(uri)? else {
            return None;
        };
        let places = Places::new(&self.roots(), &self.app.closed())?;
        let real = places.find(&self.app.cwd().join(path)).ok()?;
        Some(Watched {
            uri: uri.to_owned(),
            target: Target::new(real),
        })
    }

    /// What a path that somebody begins to type may become, in a template of ours.
    pub(super) async fn complete(self: Arc<Self>, asked: CompleteRequestParams) -> CompletionInfo {
        let Reference::Resource(template) = asked.r#ref else {
            return CompletionInfo::default();
        };
        let folders_only = match template.uri.as_str() {
            "file://{path}" => false,
            "directory://{path}" => true,
            _ => return CompletionInfo::default(),
        };
        let look = move || {
            let places = Places::new(&self.roots(), &self.app.closed())?;
            Some(places.begun_with(self.app.cwd(), &asked.argument.value, folders_only))
        };
        // What cannot be looked at has no completions.
        let mut found = tokio::task::spawn_blocking(look)
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        let total = u32::try_from(found.len()).ok();
        let more = found.len() > CompletionInfo::MAX_VALUES;
        found.truncate(CompletionInfo::MAX_VALUES);
        CompletionInfo::with_pagination(found, total, more).unwrap_or_default()
    }

    /// The owner's roots; else the server's own directory and those that callers started threads in.
    fn roots(&self) -> Vec<PathBuf> {
        let set = self.app.named_roots();
        if !set.is_empty() {
            return set
                .iter()
                .filter_map(|root| root.canonicalize().ok())
                .collect();
        }
        let called_with = self
            .called_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = self
            .app
            .shown_directory()
            .and_then(|own| own.canonicalize().ok());
        own.into_iter().chain(called_with.iter().cloned()).collect()
    }

    /// Threads in the roots after `cursor`, and where the next page begins.
    async fn page(
        self: &Arc<Self>,
        cursor: Option<ThreadId>,
    ) -> Result<(Vec<ThreadSummary>, Option<ThreadId>), ErrorData> {
        let here = self.clone();
        let looked = tokio::task::spawn_blocking(move || here.look(cursor)).await;
        let (mut threads, next) = looked
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        for thread in &mut threads {
            if thread.status == Some(Status::Interrupted)
                && self.running(thread.thread_id).await.is_some()
            {
                thread.status = Some(Status::Running);
            }
        }
        Ok((threads, next))
    }

    /// Blocks.
    fn look(
        &self,
        cursor: Option<ThreadId>,
    ) -> Result<(Vec<ThreadSummary>, Option<ThreadId>), StoreError> {
        let mut roots = self.roots();
        // Its threads are the caller's, whatever of its files is shown.
        roots.extend(
            self.app
                .cwd()
                .canonicalize()
                .ok()
                .filter(|_| self.app.named_roots().is_empty()),
        );
        let store = self.app.threads().store();
        let mut ids = store
            .ids()?
            .into_iter()
            .skip_while(|id| cursor.is_some_and(|cursor| *id >= cursor));
        let (mut found, mut last) = (Vec::new(), None);
        for id in ids.by_ref().take(LOOKS) {
            last = Some(id);
            // A thread that cannot be read must not hide the others.
            let seen = store.glance(id).ok();
            found.extend(
                seen.filter(|thread| roots.iter().any(|root| thread.cwd.starts_with(root))),
            );
            if found.len() == PAGE {
                break;
            }
        }
        let next = ids.next().and(last);
        Ok((found, next))
    }

    /// The turn that this process is at, on a thread that it has in memory.
    async fn running(&self, id: ThreadId) -> Option<TurnId> {
        match self.app.threads().in_memory(id)?.follow().await {
            Ok(Follow::Running(started)) => Some(started.turn_id),
            _ => None,
        }
    }

    /// A thread by its whole name: in the owner's roots, where there are some.
    async fn thread(&self, id: ThreadId, uri: &str) -> Result<Loaded, ErrorData> {
        let store = self.app.threads().store().clone();
        let read = tokio::task::spawn_blocking(move || store.read(id).ok()).await;
        read.ok()
            .flatten()
            .filter(|loaded| self.app.within_roots(loaded.header.directory()).is_ok())
            .ok_or_else(|| unknown(uri, "there is no such thread"))
    }

    /// A file or a directory. Reading a disk blocks.
    async fn place(
        self: &Arc<Self>,
        uri: &str,
        read: impl FnOnce(Places, &str) -> Result<ResourceContents, String> + Send + 'static,
    ) -> Result<ResourceContents, ErrorData> {
        let (resources, named) = (self.clone(), uri.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let places = Places::new(&resources.roots(), &resources.app.closed());
            read(places.ok_or("no directory is served here")?, &named)
        });
        read.await
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?
            .map_err(|why| unknown(uri, &why))
    }
}

const WATCHED: &str = "only files and directories inside the server's directories can be watched, never credentials or `.env*`";
const UNWATCHED: &str = "threads cannot be subscribed to, only files and directories: a new thread is told by `notifications/resources/list_changed`, and a call that goes on with a thread without a prompt waits for its turn";
const KINDS: &str =
    "resources here are `openoxide://threads…`, `file://PATH` and `directory://PATH`";

/// A thread as a line of the list.
fn listed(thread: &ThreadSummary) -> Resource {
    let title = if thread.title.is_empty() {
        "(nothing asked yet)"
    } else {
        &thread.title
    };
    let about = format!(
        "{}{} · {}",
        if thread.query { "query, " } else { "" },
        thread.status.map_or("new", Status::as_str),
        shown_line(&thread.cwd.to_string_lossy())
    );
    Resource::new(uri::thread(thread.thread_id), thread.thread_id.to_string())
        .with_title(title)
        .with_description(about)
        .with_mime_type("application/json")
}

/// rmcp gives it the code of the client's protocol version.
fn unknown(uri: &str, why: &str) -> ErrorData {
    let shown = shortened(&shown_line(uri), 300);
    ErrorData::resource_not_found(
        format!("there is no resource `{shown}`: {why}"),
        Some(json!({"uri": uri})),
    )
}
