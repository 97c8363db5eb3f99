//! `openoxide mcp-server --http`: says where it listens and how to come in, and stops when it is told to.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::OK;
use crate::{
    app::App,
    conversation::shown_line,
    frontend::mcp::network::{Network, Options},
};

/// Serves until a signal comes. A second one ends the grace of running turns.
pub(super) async fn run(app: App, options: Options) -> anyhow::Result<u8> {
    let (told, hurried) = (CancellationToken::new(), CancellationToken::new());
    listen_to_signals(&told, &hurried)?;
    app.expire_threads();
    let network = Network::bind(app, &options).await?;
    let mut stderr = anstream::stderr();
    let address = network.address();
    // Nobody may be there to read it.
    let _ = writeln!(
        stderr,
        "openoxide serves MCP at http://{address}/mcp and ws://{address}/ws"
    );
    if let Some(path) = network.own_token() {
        let path = shown_line(&path.to_string_lossy());
        let _ = writeln!(
            stderr,
            "clients need the token in `{path}`: `Authorization: Bearer $(cat {path})`"
        );
    }
    if options.no_auth {
        let _ = writeln!(
            stderr,
            "warning: --no-auth lets every process and every user of this machine run commands as you"
        );
    }
    network.serve(told, hurried).await;
    Ok(OK)
}

fn listen_to_signals(told: &CancellationToken, hurried: &CancellationToken) -> std::io::Result<()> {
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ] {
        let mut signals = signal(kind)?;
        let (told, hurried) = (told.clone(), hurried.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if told.is_cancelled() {
                    hurried.cancel();
                }
                told.cancel();
            }
        });
    }
    Ok(())
}
