//! What `doctor` says of the external MCP servers: each is started, as `openoxide mcp test` does.

use super::Finding;
use crate::{app::App, conversation::shown_line, frontend::cli::mcp};

pub(super) async fn servers(app: &App) -> anyhow::Result<Vec<Finding>> {
    let tested = mcp::test(app, None).await;
    app.servers().end().await;
    let findings = tested?.into_iter().map(|report| {
        let last = report.stderr.last();
        let last = last.map(|line| format!("; its last words: {}", shown_line(line)));
        let about = match report.error {
            Some(why) => shown_line(&why) + &last.unwrap_or_default(),
            None => format!("{} tools", report.tools.len()),
        };
        Finding {
            what: "external server",
            fine: report.state != "failed",
            found: format!("{}, {}: {about}", shown_line(&report.name), report.state),
            to_do: report.to_do,
        }
    });
    Ok(findings.collect())
}
