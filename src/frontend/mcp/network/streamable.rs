//! Streamable HTTP at `/mcp`, for both generations: one message a POST, bounded and read whole before rmcp sees it.
//!
//! What is not a message is answered here, as on the other transports. Dropping the answer of a request of 2026-07-28
//! cancels its call; one of a session goes on, and its client may come back for it.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use rmcp::{
    ServerHandler,
    model::{ClientRequest, ErrorCode, JsonRpcMessage, RequestId},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Stay, door::Refusal, early, full, tenants::Tenancy};
use crate::frontend::mcp::transport::admission::{Admission, Rejection};

/// Bytes of a message.
pub(super) const LARGEST: usize = 4 << 20;
/// How long a client may take to send one.
const PATIENCE: Duration = Duration::from_secs(60);
/// The session that a request belongs to.
const SESSION: &str = "mcp-session-id";

/// Answers one request, which stays until the answer is out.
pub(super) async fn answer<H: ServerHandler>(
    tenancy: Arc<Tenancy<H>>,
    request: Request,
    stay: Stay,
) -> Response {
    let (parts, body) = request.into_parts();
    let (body, memory) = match parts.method {
        Method::POST => match read(body, &tenancy.memory).await {
            Ok(read) => read,
            Err(refused) => return refused,
        },
        _ => (Bytes::new(), None),
    };
    let session = parts.headers.get(SESSION).and_then(|id| id.to_str().ok());
    let session = session.map(str::to_owned);
    let (mut opens, mut entered) = (false, None);
    if parts.method == Method::POST {
        match admitted(&tenancy, session.as_deref(), &body) {
            Ok(Admitted::Message(request)) => entered = session.zip(request),
            Ok(Admitted::Opening) if tenancy.sessions.make_room().await => opens = true,
            Ok(Admitted::Opening) => return full(),
            Ok(Admitted::Nothing) => return StatusCode::ACCEPTED.into_response(),
            Err(rejection) => return rejected(&rejection),
        }
    }
    let ends_session = parts.method == Method::DELETE;
    let request = http::Request::from_parts(parts, Body::from(body));
    let sessions = tenancy.sessions.clone();
    let served = async move { tenancy.http.handle(request).await.map(Body::new) };
    let mut response = match opens {
        // Its headers name the session, so they cannot go out before. It waits for nobody.
        true => served.await,
        false => early::in_time(served).await,
    };
    if let Some((session, request)) = entered
        && !response.status().is_success()
    {
        sessions.leave(&session, &request);
    }
    if ends_session && response.status() == StatusCode::ACCEPTED {
        // It has ended; clients tell their users that 202 is a failure.
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    match early::is_stream(&response) {
        true => response.map(|body| held(body, stay, memory)),
        false => response,
    }
}

/// What is in a body.
enum Admitted {
    /// With its id, if it is a request.
    Message(Option<RequestId>),
    /// The first message of a session.
    Opening,
    /// What needs no answer, and nobody can use.
    Nothing,
}

fn admitted<H: ServerHandler>(
    tenancy: &Tenancy<H>,
    session: Option<&str>,
    body: &[u8],
) -> Result<Admitted, Rejection> {
    if body.trim_ascii().is_empty() {
        return Err(Rejection::new(
            ErrorCode::PARSE_ERROR,
            None,
            "there is no message",
        ));
    }
    let Some(message) = Admission::opened().admit(body)? else {
        return Ok(Admitted::Nothing);
    };
    let opens = matches!(&message, JsonRpcMessage::Request(request)
        if matches!(request.request, ClientRequest::InitializeRequest(_)));
    let request = match &message {
        JsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    };
    match session {
        Some(session) => tenancy.sessions.enter(session, message)?,
        None if opens => return Ok(Admitted::Opening),
        None => {}
    }
    Ok(Admitted::Message(request))
}

fn rejected(rejection: &Rejection) -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    (StatusCode::BAD_REQUEST, json, rejection.to_text()).into_response()
}

/// The whole body, and the room that it takes up in `memory`. Ended by its end, by [`LARGEST`], or by [`PATIENCE`].
async fn read(
    body: Body,
    memory: &Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response> {
    let slow = |_| {
        refused(
            StatusCode::REQUEST_TIMEOUT,
            "the message did not come in time",
        )
    };
    tokio::time::timeout(PATIENCE, whole(body, memory))
        .await
        .map_err(slow)?
}

async fn whole(
    body: Body,
    memory: &Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response> {
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    let mut taken: Option<OwnedSemaphorePermit> = None;
    while let Some(piece) = pieces.next().await {
        let broken = |_| refused(StatusCode::BAD_REQUEST, "the message broke off");
        let piece = piece.map_err(broken)?;
        if whole.len() + piece.len() > LARGEST {
            let why = "a message has at most 4 MiB";
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        let more = memory.clone().try_acquire_many_owned(size(&piece));
        let more = more.map_err(|_| full())?;
        match &mut taken {
            Some(taken) => taken.merge(more),
            None => taken = Some(more),
        }
        whole.extend_from_slice(&piece);
    }
    Ok((whole.into(), taken))
}

/// At most [`LARGEST`].
fn size(piece: &Bytes) -> u32 {
    u32::try_from(piece.len()).unwrap_or(u32::MAX)
}

fn refused(status: StatusCode, why: &'static str) -> Response {
    Refusal(status, why).into_response()
}

/// A stream that takes up room until it ends or is dropped. It ends early with its token.
fn held(body: Body, stay: Stay, memory: Option<OwnedSemaphorePermit>) -> Body {
    let Stay { room, expired } = stay;
    let pieces = body
        .into_data_stream()
        .take_until(expired.cancelled_owned());
    Body::from_stream(pieces.map(move |piece| {
        let _taken = (&room, &memory);
        piece
    }))
}
