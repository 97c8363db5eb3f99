//! A tool of an external server as the gate and the model see it.

use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::{Map, Value, json};

use super::{
    Outside, Usable,
    audit::{Journal, Sending},
    connection::{Connection, Trouble},
    offer::{Offered, words},
    person, result, shown_arguments,
};
use crate::{
    conversation::{Access, OutsideAccess, shortened, shown_line},
    model::ToolSpec,
    tools::{
        Call, Output, Planned, ToolError,
        registry::{AnyTool, Run},
    },
    workspace::Workspace,
};

/// Characters of the arguments in one line.
const TITLE: usize = 120;

/// The tool as the model sees it. Whose words the description is, is said first.
pub(super) fn spec(name: &str, server: &str, tool: &Offered) -> ToolSpec {
    let server = shown_line(server);
    let description = match tool.description.trim() {
        "" => format!("A tool of the external server `{server}`."),
        words => format!("A tool of the external server `{server}`, in its words: {words}"),
    };
    ToolSpec {
        name: name.to_owned(),
        description,
        parameters: tool.parameters.clone(),
    }
}

/// See [`super::Servers::tools`].
pub(super) struct External {
    spec: ToolSpec,
    tool: String,
    /// What the thread was told of it.
    digest: String,
    usable: Usable,
    journal: Journal,
}

impl External {
    pub(super) fn new(spec: ToolSpec, outside: &Outside, usable: Usable, journal: Journal) -> Self {
        Self {
            spec,
            tool: outside.tool.clone(),
            digest: outside.digest.clone(),
            usable,
            journal,
        }
    }

    fn access(&self, arguments: &Map<String, Value>) -> Result<OutsideAccess, ToolError> {
        let offer = self.usable.server.offer();
        let now = offer.as_ref().and_then(|offer| offer.tool(&self.tool));
        // One that cannot be seen now is looked at again before it runs.
        let digest = now.map_or(&self.digest, |tool| &tool.digest);
        let changed = *digest != self.digest;
        let unasked = !changed && self.usable.settings.runs_unasked(&self.tool);
        Ok(OutsideAccess {
            server: self.usable.server.name.clone(),
            tool: self.tool.clone(),
            arguments: shown_arguments::of(arguments, unasked)?,
            about: now.map(about).unwrap_or_default(),
            identity: digest.clone(),
            changed,
            unasked,
        })
    }

    /// The model knows it for the thread's life; whether it may still be asked is for the owner, the project and the
    /// caller as they are now.
    fn is_still_offered(&self) -> Result<(), ToolError> {
        let Usable { server, settings } = &self.usable;
        if settings.offers(&self.tool) {
            return Ok(());
        }
        Err(ToolError(format!(
            "`{}` of the external server `{}` has been taken away since this thread began (`tools`, `deny_tools`). Nothing was done; go on without it.",
            shown_line(&self.tool),
            shown_line(&server.name)
        )))
    }
}

/// What the server says of the tool, for a person who is asked.
fn about(tool: &Offered) -> String {
    let hints = match tool.hints.as_slice() {
        [] => String::new(),
        hints => format!(
            "\nIt calls itself {}, which nobody has checked.",
            hints.join(", ")
        ),
    };
    format!("{}{hints}", shortened(&tool.description, 1_000))
}

impl AnyTool for External {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    /// Nobody knows, whatever the server says.
    fn only_reads(&self) -> bool {
        false
    }

    fn plan(&self, arguments: &str, _: &Workspace) -> Result<Planned<Run>, ToolError> {
        self.is_still_offered()?;
        let arguments = object(&self.spec.name, arguments)?;
        let access = self.access(&arguments)?;
        let asked = Asked {
            usable: self.usable.clone(),
            tool: self.tool.clone(),
            identity: access.identity.clone(),
            arguments: arguments.clone(),
            journal: self.journal.clone(),
        };
        let run: Run = Box::new(move |call| asked.run(call).boxed());
        Ok(Planned {
            title: shortened(&shown_line(&Value::Object(arguments).to_string()), TITLE),
            access: Access::Outside(Box::new(access)),
            plan: run,
        })
    }
}

/// The arguments, which are an object.
fn object(name: &str, arguments: &str) -> Result<Map<String, Value>, ToolError> {
    let text = match arguments.trim() {
        "" => "{}",
        text => text,
    };
    serde_json::from_str(text).map_err(|error| {
        ToolError(format!(
            "the arguments of `{name}` could not be read: {error}. Nothing was done; send the call again with one JSON object that fits its schema."
        ))
    })
}

/// A call that passed the gate.
struct Asked {
    usable: Usable,
    tool: String,
    /// What was known of the tool when the gate decided.
    identity: String,
    arguments: Map<String, Value>,
    journal: Journal,
}

impl Asked {
    async fn run(self, call: Call) -> Result<Output, ToolError> {
        let connection = match self.connection(&call).await? {
            Some(connection) => connection,
            None => return Ok(interrupted()),
        };
        let sent = self.journal.sends(Sending {
            server: self.usable.server.name.clone(),
            what: self.tool.clone(),
            call_id: call.id.to_string(),
            arguments: Value::Object(self.arguments.clone()).to_string(),
        });
        let result = self.ask(&connection, &call).await;
        let (outcome, bytes) = what_came(&result);
        sent.ended(outcome, bytes);
        result
    }

    /// To a server that still has the tool as it was allowed; none if the turn was interrupted.
    async fn connection(&self, call: &Call) -> Result<Option<Arc<Connection>>, ToolError> {
        let server = shown_line(&self.usable.server.name);
        let connection = self.usable.server.connection(&call.cancel).await;
        if call.cancel.is_cancelled() {
            return Ok(None);
        }
        let connection = connection.map_err(|why| {
            ToolError(format!(
                "the external server `{server}` is not there: {why}. Go on without it, or try again later."
            ))
        })?;
        match connection.offer().tool(&self.tool) {
            None => Err(ToolError(format!(
                "the external server `{server}` has no such tool any more. Nothing was done."
            ))),
            Some(tool) if tool.digest != self.identity => Err(ToolError(format!(
                "the external server `{server}` describes this tool differently than when it was allowed. Nothing was done; call it again to have it asked about as it is now."
            ))),
            Some(_) => Ok(Some(connection)),
        }
    }

    async fn ask(&self, connection: &Arc<Connection>, call: &Call) -> Result<Output, ToolError> {
        let params = json!({"name": self.tool, "arguments": self.arguments});
        let answer = person::ask(connection, "tools/call", params, &self.usable, call).await;
        match answer {
            Ok(answer) => result::of_call(&self.usable.server.name, &answer),
            Err(Trouble::Cancelled) => Ok(interrupted()),
            Err(trouble) => {
                if trouble == Trouble::Gone {
                    self.usable.server.lost(connection).await;
                }
                Err(failed(&self.usable, &trouble))
            }
        }
    }
}

/// Outcome and bytes, for the log.
pub(super) fn what_came(result: &Result<Output, ToolError>) -> (&'static str, usize) {
    match result {
        Ok(output) if output.interrupted => ("interrupted", 0),
        Ok(output) => ("done", output.content.len()),
        Err(error) => ("failed", error.0.len()),
    }
}

pub(super) fn interrupted() -> Output {
    Output {
        content: "interrupted while it ran; its effects are unknown, so look before repeating it"
            .to_owned(),
        interrupted: true,
        ..Output::default()
    }
}

/// What the model reads of a request that came to nothing.
pub(super) fn failed(usable: &Usable, trouble: &Trouble) -> ToolError {
    let name = shown_line(&usable.server.name);
    ToolError(match trouble {
        Trouble::Refused(why) => {
            let why = result::marked(&usable.server.name, why);
            format!("the external server `{name}` refused:\n{why}")
        }
        Trouble::TimedOut => format!(
            "the external server `{name}` did not answer within {} s (`call_seconds`) and was told to stop; what it did is unknown, so look before repeating it",
            usable.settings.call_seconds
        ),
        Trouble::Gone => format!(
            "the external server `{name}` ended in the middle; what it did is unknown, so look before repeating it. It is being started again."
        ),
        Trouble::Locked(why) => format!(
            "the external server `{name}` did nothing: {why}. Only the user can do that; say so, and go on without it."
        ),
        Trouble::Cancelled => words(trouble),
    })
}
