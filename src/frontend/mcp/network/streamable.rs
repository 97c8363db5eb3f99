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
    model::{ClientRequest, ErrorCode, JsonRpcMessage},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{door::Refusal, early, full, tenants::Tenancy};
use crate::frontend::mcp::transport::admission::{Admission, Rejection};

/// Bytes of a message.
pub(super) const LARGEST: usize = 4 << 20;
/// How long a client may take to send one.
const PATIENCE: Duration = Duration::from_secs(60);
/// The session that a request belongs to.
const SESSION: &str = "mcp-session-id";

/// Answers one request. `room` is held until the answer is out.
pub(super) async fn answer<H: ServerHandler>(
    tenancy: Arc<Tenancy<H>>,
    request: Request,
    room: OwnedSemaphorePermit,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::POST => match read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into_response(),
        },
        _ => Bytes::new(),
    };
    if parts.method == Method::POST {
        let session = parts.headers.get(SESSION).and_then(|id| id.to_str().ok());
        match admitted(&tenancy, session, &body) {
            Ok(Admitted::Message) => {}
            Ok(Admitted::Opening) if tenancy.sessions.make_room().await => {}
            Ok(Admitted::Opening) => return full(),
            Ok(Admitted::Nothing) => return StatusCode::ACCEPTED.into_response(),
            Err(rejection) => return rejected(&rejection),
        }
    }
    let ends_session = parts.method == Method::DELETE;
    let request = http::Request::from_parts(parts, Body::from(body));
    let served = async move { tenancy.http.handle(request).await.map(Body::new) };
    let mut response = early::in_time(served).await;
    if ends_session && response.status() == StatusCode::ACCEPTED {
        // It has ended; clients tell their users that 202 is a failure.
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    match early::is_stream(&response) {
        true => response.map(|body| held(body, room)),
        false => response,
    }
}

/// What is in a body.
enum Admitted {
    Message,
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
    match session {
        Some(session) => tenancy.sessions.enter(session, message)?,
        None if opens => return Ok(Admitted::Opening),
        None => {}
    }
    Ok(Admitted::Message)
}

fn rejected(rejection: &Rejection) -> Response {
    let json = [(CONTENT_TYPE, "application/json")];
    (StatusCode::BAD_REQUEST, json, rejection.to_text()).into_response()
}

/// The whole body. Ended by its end, by [`LARGEST`], or by [`PATIENCE`].
async fn read(body: Body) -> Result<Bytes, Refusal> {
    let slow = |_| {
        Refusal(
            StatusCode::REQUEST_TIMEOUT,
            "the message did not come in time",
        )
    };
    tokio::time::timeout(PATIENCE, whole(body))
        .await
        .map_err(slow)?
}

async fn whole(body: Body) -> Result<Bytes, Refusal> {
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let broken = |_| Refusal(StatusCode::BAD_REQUEST, "the message broke off");
        let piece = piece.map_err(broken)?;
        if whole.len() + piece.len() > LARGEST {
            let why = "a message has at most 4 MiB";
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// A stream that takes up `room` until it ends or is dropped.
fn held(body: Body, room: OwnedSemaphorePermit) -> Body {
    Body::from_stream(body.into_data_stream().map(move |piece| {
        let _taken = &room;
        piece
    }))
}
