//! What `doctor` says of the external MCP servers: each is started, as `openoxide mcp test` does.

use super::{Finding, broken};
use crate::{app::App, conversation::shown_line, frontend::cli::mcp};

pub(super) async fn servers(app: &App) -> Vec<Finding> {
    let tested = mcp::test(app, None).await;
    app.servers().end().await;
    // Only a project's file can be wrong yet.
    let tested = match tested {
        Ok(tested) => tested,
        Err(error) => return vec![broken(&error)],
    };
    let findings = tested.into_iter().map(|report| {
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
    findings.collect()
}
