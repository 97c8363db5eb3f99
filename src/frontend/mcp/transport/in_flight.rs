//! The requests of one connection that have no answer yet: each id once, and not without number.
//!
//! rmcp would answer the first of two requests with one id and drop the other's answer, and it takes on as many as
//! come. An answer counts when it is its turn to be written, so that a client that reads nothing is soon refused, and
//! what is kept for it stays small.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    RoleServer,
    model::{ClientNotification, ErrorCode, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
};

use super::admission::Rejection;

/// Requests at once.
pub(in crate::frontend::mcp) const MOST: usize = 128;

/// The ids. The lock is held for an insertion; nobody awaits under it.
#[derive(Clone, Debug, Default)]
pub(in crate::frontend::mcp) struct InFlight(Arc<Mutex<HashSet<RequestId>>>);

impl InFlight {
    /// Takes note of an incoming message, or refuses it.
    pub(in crate::frontend::mcp) fn enter(
        &self,
        message: RxJsonRpcMessage<RoleServer>,
    ) -> Result<RxJsonRpcMessage<RoleServer>, Rejection> {
        match &message {
            JsonRpcMessage::Request(request) => self.begin(&request.id)?,
            JsonRpcMessage::Notification(told) => {
                if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // It gets no answer any more.
                    self.end(id);
                }
            }
            _ => {}
        }
        Ok(message)
    }

    fn begin(&self, id: &RequestId) -> Result<(), Rejection> {
        let mut ids = self.ids();
        let why = if ids.contains(id) {
            format!("the id {id} belongs to a request that has no answer yet")
        } else if ids.len() >= MOST {
            format!("there are {MOST} requests without an answer already")
        } else {
            ids.insert(id.clone());
            return Ok(());
        };
        Err(Rejection::new(
            ErrorCode::INVALID_REQUEST,
            Some(id.clone()),
            why,
        ))
    }

    /// Its answer is being written, or will never be.
    pub(in crate::frontend::mcp) fn end(&self, id: &RequestId) {
        self.ids().remove(id);
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request that `message` answers.
pub(in crate::frontend::mcp) fn answers(
    message: &TxJsonRpcMessage<RoleServer>,
) -> Option<RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(response.id.clone()),
        JsonRpcMessage::Error(error) => error.id.clone(),
        _ => None,
    }
}
