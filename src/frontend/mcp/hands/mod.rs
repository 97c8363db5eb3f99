//! Tools for callers who want hands and not an agent (`--workspace-tools`): search, run, analyze. Each is the agent's own
//! tool behind the same gate, for one call and without a thread.
//!
//! A call holds what it needs and ends it when it ends. Nothing happens before a question is answered, so a call that has
//! to ask by a result ([`asking`]) is simply made anew when the answer comes.

mod arguments;
mod asking;

use std::{path::PathBuf, sync::Arc};

use rmcp::{
    ErrorData,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock},
};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    progress::{MERGED, Progress},
    result,
    server::{Call, Server},
};
use crate::{
    conversation::{CallId, OutputStatus, ToolCall},
    tools::gate::{Gate, Passed},
};
pub(super) use arguments::{ANALYZE, NAMES, RUN, SEARCH, tools};
use arguments::{AnalyzeFile, RunCommand, SearchCodebase};
pub(super) use asking::Asked;
use asking::Asker;

/// A call as the gate takes it.
struct Meant {
    gate: Gate,
    /// Of the agent's tool.
    name: &'static str,
    arguments: Value,
}

impl Server {
    /// Does what a call of one of [`NAMES`] says. Ended by the tool, by a question that nobody answers or that travels
    /// as a result, by a cancellation, or by the end of the connection.
    pub(super) async fn by_hand(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, ErrorData> {
        let asker = Arc::new(Asker::of(self, &params, call)?);
        let meant = match self.meant(&params) {
            Ok(meant) => meant,
            Err(error) => return Ok(result::refused(error).into()),
        };
        let passed = self.pass(&meant, asker.clone(), call).await;
        // Nothing of it goes on without the call.
        meant.gate.end_sessions().await;
        if let Some(round) = asker.round() {
            return Ok(round.into());
        }
        Ok(told(passed).into())
    }

    fn meant(&self, params: &CallToolRequestParams) -> Result<Meant, String> {
        let arguments = params.arguments.clone();
        match &*params.name {
            SEARCH => {
                let search: SearchCodebase = super::arguments::parse(SEARCH, arguments)?;
                let (gate, path) = self.reading(search.path.as_deref().unwrap_or("."))?;
                let arguments = json!({
                    "pattern": search.pattern, "path": path, "glob": search.glob, "ignore_case": search.ignore_case,
                    "context_lines": search.context_lines, "limit": search.limit,
                });
                Ok(Meant {
                    gate,
                    name: "search",
                    arguments,
                })
            }
            ANALYZE => {
                let analyze: AnalyzeFile = super::arguments::parse(ANALYZE, arguments)?;
                let (gate, path) = self.reading(&analyze.path)?;
                Ok(Meant {
                    gate,
                    name: "analyze_file",
                    arguments: json!({"path": path}),
                })
            }
            _ => {
                let run: RunCommand = super::arguments::parse(RUN, arguments)?;
                let gate = self.shared.app.hands(run.cwd, false)?;
                Ok(Meant {
                    gate,
                    name: "shell",
                    arguments: json!({"command": run.command, "timeout_seconds": run.timeout_seconds}),
                })
            }
        }
    }

    /// A gate for looking at `path`: in the server's directory, or in that of the owner's roots which it is in.
    fn reading(&self, path: &str) -> Result<(Gate, String), String> {
        let app = &self.shared.app;
        let named = app.cwd().join(path);
        let real = named.canonicalize().unwrap_or(named);
        let roots = app.config().server.roots.iter().cloned();
        let mut places = std::iter::once(app.cwd().to_owned())
            .chain(roots)
            .filter_map(|root| root.canonicalize().ok());
        let inside = |place: &PathBuf| real.starts_with(place) && app.within_roots(place).is_ok();
        match places.find(inside) {
            Some(place) => Ok((
                app.hands(Some(place), true)?,
                real.to_string_lossy().into_owned(),
            )),
            // The gate of the server's directory says what is wrong with it.
            None => Ok((app.hands(None, true)?, path.to_owned())),
        }
    }

    async fn pass(&self, meant: &Meant, asker: Arc<Asker>, call: &Call) -> Passed {
        let wanted = ToolCall {
            call_id: CallId(call.id.to_string()),
            name: meant.name.to_owned(),
            arguments: meant.arguments.to_string(),
            wire: None,
        };
        let (cancel, eof) = (CancellationToken::new(), &self.shared.eof);
        let mut progress = Progress::new(call, None);
        progress.say(&format!("{} began", meant.name), eof).await;
        let passing = meant.gate.pass(&wanted, asker.clone(), cancel.clone());
        tokio::pin!(passing);
        let mut tick = interval(MERGED);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                passed = &mut passing => return passed,
                // The tool ends its processes, and then itself.
                () = call.ct.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                () = eof.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                _ = tick.tick() => {
                    asker.news().iter().for_each(|news| progress.note(news));
                    progress.send_what_is_due(eof).await;
                }
            }
        }
    }
}

/// What came of a call, for a program and for a reader.
fn told(passed: Passed) -> CallToolResult {
    let done = passed.output.status == OutputStatus::Done;
    let text = result::head_and_tail(&passed.output.content, TEXT);
    match passed.structured.filter(|_| done) {
        Some(structured) => {
            let mut result = CallToolResult::structured(structured);
            result.content = vec![ContentBlock::text(text)];
            result.is_error = Some(false);
            result
        }
        None => result::refused(text),
    }
}

/// Characters of a text.
const TEXT: usize = 30_000;
