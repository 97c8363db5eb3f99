//! The sessions of clients up to 2025-11-25, around rmcp's own: none ends while somebody listens or waits, none is kept
//! for ever, and each has its requests once and not without number.
//!
//! rmcp would end a session after five minutes without a message, in the middle of a call that is quiet. So its own
//! clock is stopped, and those that nobody used for [`IDLE`], or that are beyond [`UNUSED`], are closed here when another
//! one is made. One that is full of requests refuses more, as the other transports do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{
        Transport,
        streamable_http_server::{
            SessionId, SessionManager,
            session::{
                RestoreOutcome, ServerSseMessage,
                local::{LocalSessionManager, LocalSessionManagerError},
            },
        },
    },
};

use super::super::transport::{
    admission::Rejection,
    carrier::Carrier,
    in_flight::{InFlight, answers},
};

/// How long a session is kept that nobody uses: longer than a turn may take by default, since its client may come back
/// for the answer.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// Sessions of one tenant.
const MOST: usize = 1024;
/// Of these, those that nobody listens to. Each has 100 kB, most of it the empty queues of rmcp, and many a client leaves
/// one behind with every call.
const UNUSED: usize = 256;

/// The sessions of one tenant. The lock is held for a map operation; nobody awaits under it.
pub(super) struct Sessions {
    inner: LocalSessionManager,
    known: Mutex<HashMap<SessionId, Known>>,
}

/// What we know of a session besides.
struct Known {
    in_flight: InFlight,
    used: Arc<Mutex<Use>>,
}

/// Who uses a session.
struct Use {
    last: Instant,
    /// Streams that somebody reads.
    listeners: usize,
}

impl Default for Use {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            listeners: 0,
        }
    }
}

/// Counted among the listeners of a session until it is dropped.
struct Listening(Arc<Mutex<Use>>);

impl Listening {
    fn to(session: &Known) -> Self {
        locked(&session.used).listeners += 1;
        Self(session.used.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut used = locked(&self.0);
        used.listeners -= 1;
        used.last = Instant::now();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub(super) fn new() -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = None;
        Self {
            inner,
            known: Mutex::default(),
        }
    }

    /// Takes note of a message that comes to a session, or refuses it. One that is not known is nobody's.
    pub(super) fn enter(
        &self,
        id: &str,
        message: RxJsonRpcMessage<RoleServer>,
    ) -> Result<(), Rejection> {
        match self.known().get(id) {
            Some(session) => session.in_flight.enter(message).map(drop),
            None => Ok(()),
        }
    }

    /// A request that entered was refused by others: its id is free again.
    pub(super) fn leave(&self, id: &str, request: &RequestId) {
        if let Some(session) = self.known().get(id) {
            session.in_flight.end(request);
        }
    }

    /// Closes sessions that nobody used for long, and where there are too many, those that were not used for longest.
    /// False if there is no room for another one all the same.
    pub(super) async fn make_room(&self) -> bool {
        for id in self.stale() {
            tracing::debug!("closed a session that nobody used");
            // What cannot be closed has ended already.
            let _ = self.close_session(&id).await;
        }
        self.known().len() < MOST
    }

    fn stale(&self) -> Vec<SessionId> {
        let known = self.known();
        let mut unused: Vec<(Instant, SessionId)> = known
            .iter()
            .filter_map(|(id, session)| {
                let used = locked(&session.used);
                (used.listeners == 0).then(|| (used.last, id.clone()))
            })
            .collect();
        unused.sort();
        let too_many = (known.len() + 1).saturating_sub(MOST);
        let too_many = too_many.max((unused.len() + 1).saturating_sub(UNUSED));
        let old = unused.partition_point(|(last, _)| last.elapsed() > IDLE);
        let leaving = unused.into_iter().take(too_many.max(old));
        leaving.map(|(_, id)| id).collect()
    }

    fn listen<S: Stream>(&self, id: &SessionId, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        let listening = self.known().get(id).map(Listening::to);
        stream.map(move |item| {
            let _counted = &listening;
            item
        })
    }

    fn use_now(&self, id: &SessionId) {
        if let Some(session) = self.known().get(id) {
            locked(&session.used).last = Instant::now();
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SessionId, Known>> {
        locked(&self.known)
    }
}

/// rmcp's transport of a session, with an eye on what is answered.
pub(super) struct Answering<T> {
    inner: T,
    in_flight: InFlight,
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Answering<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let Some(id) = answers(&message) {
            self.in_flight.end(&id);
        }
        self.inner.send(message)
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<RoleServer>>> + Send {
        self.inner.receive()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = Carrier;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, inner) = self.inner.create_session().await?;
        let in_flight = InFlight::default();
        let session = Known {
            in_flight: in_flight.clone(),
            used: Arc::default(),
        };
        self.known().insert(id.clone(), session);
        Ok((id, Carrier::new(Answering { inner, in_flight })))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.known().remove(id);
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.create_stream(id, message).await?;
        Ok(self.listen(id, stream))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        self.use_now(id);
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.create_standalone_stream(id).await?;
        Ok(self.listen(id, stream))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.resume(id, last_event_id).await?;
        Ok(self.listen(id, stream))
    }

    async fn restore_session(
        &self,
        _: SessionId,
    ) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        Ok(RestoreOutcome::NotSupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_that_are_left_open_are_few_and_those_that_somebody_listens_to_stay() {
        let sessions = Sessions::new();
        let mut made = Vec::new();
        let mut listening = None;
        for _ in 0..UNUSED + 20 {
            assert!(sessions.make_room().await);
            // Else it ends.
            let (id, transport) = sessions.create_session().await.unwrap();
            listening.get_or_insert_with(|| Listening::to(&sessions.known()[&id]));
            made.push((id, transport));
        }
        let known = sessions.known();
        assert_eq!(known.len(), UNUSED + 1);
        for (at, (id, _)) in made.iter().enumerate() {
            assert_eq!(known.contains_key(id), at == 0 || at >= 20, "{at}");
        }
    }
}
