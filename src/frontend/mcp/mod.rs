//! The MCP server: three tools, served to both generations of the protocol by one handler.
//!
//! It holds no conversation state. A call starts a turn on a thread, or finds one, and follows it; the turn belongs to
//! its thread and outlives the call.

mod arguments;
mod asked;
mod calls;
mod cancel;
mod codex;
mod finding;
mod follow;
mod hands;
mod log;
pub mod network;
mod news;
mod patience;
mod progress;
mod questions;
mod resources;
mod result;
mod rounds;
mod seal;
mod server;
mod tasks;
pub mod transport;

use std::{sync::Arc, time::Duration};

use rmcp::{ServiceExt, service::ServerInitializeError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use server::Server;
use transport::{carrier::Carrier, process, stdio::Stdio};

/// How long turns get to wind down and be recorded after the input ended.
const WINDING_DOWN: Duration = Duration::from_millis(1200);

/// After this the process ends, whatever a client that does not read keeps open.
const OVERDUE: Duration = Duration::from_millis(1600);

/// Serves one client on standard input/output until the input ends or a signal comes. `wait` is the owner's wait
/// budget; the outer `None` where they said nothing. With `codex` the tools are called, and speak, as that peer's.
///
/// # Errors
/// If signals cannot be listened to.
pub async fn serve(app: App, wait: Option<Option<Duration>>, codex: bool) -> std::io::Result<()> {
    let eof = CancellationToken::new();
    end_on_signal(eof.clone())?;
    let app = Arc::new(app);
    let server = Server::new(
        app.clone(),
        wait,
        codex,
        eof.clone(),
        CancellationToken::new(),
    );
    app.expire_threads();
    let transport = Stdio::new(process::input(), process::output(), eof.clone());
    let session = async {
        match server.serve(Carrier::new(transport)).await {
            Ok(running) => drop(running.waiting().await),
            // A client that only looked.
            Err(ServerInitializeError::ConnectionClosed(_)) => {}
            Err(error) => tracing::error!(%error, "the session could not be set up"),
        }
    };
    let winding_down = async {
        eof.cancelled().await;
        app.shut_down(WINDING_DOWN).await;
        let app = app.clone();
        // As long as it takes, or until this is overdue.
        let _ = tokio::task::spawn_blocking(move || app.clear_unused_worktrees()).await;
    };
    let overdue = async {
        eof.cancelled().await;
        tokio::time::sleep(OVERDUE).await;
    };
    tokio::select! {
        _ = async { tokio::join!(session, winding_down) } => {}
        () = overdue => {}
    }
    Ok(())
}

/// A signal ends the input, and so takes the same road as a client that goes away.
fn end_on_signal(eof: CancellationToken) -> std::io::Result<()> {
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ] {
        let mut signals = signal(kind)?;
        let eof = eof.clone();
        tokio::spawn(async move {
            signals.recv().await;
            eof.cancel();
        });
    }
    Ok(())
}
