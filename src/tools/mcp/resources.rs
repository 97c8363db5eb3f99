//! `list_resources` and `read_resource`: what external servers have to read.

use std::fmt::Write;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    Usable,
    audit::{Journal, Sending},
    connection::Trouble,
    offer::Resource,
    person, result, shown_arguments,
    tool::{failed, interrupted, what_came},
};
use crate::{
    conversation::{Access, OutsideAccess, shortened, shown_line},
    model::ToolSpec,
    tools::{
        Call, Output, Planned, ToolError, input,
        registry::{AnyTool, Run},
    },
    workspace::Workspace,
};

pub(super) const LIST: &str = "list_resources";
pub(super) const READ: &str = "read_resource";

/// Resources in one list.
const MOST_LISTED: usize = 200;

/// List the resources of the external servers: what `read_resource` can read, and templates of more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListInput {
    /// Only those of this server; default: of all.
    #[serde(default)]
    server: Option<String>,
}

/// Read a resource of an external server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadInput {
    /// The server, as `list_resources` names it.
    server: String,
    /// The resource, as `list_resources` names it, or made from a template.
    uri: String,
}

/// Both tools as the model sees them.
pub(super) fn specs() -> [ToolSpec; 2] {
    [
        input::spec::<ListInput>(LIST),
        input::spec::<ReadInput>(READ),
    ]
}

/// Either of them.
pub(super) struct Resources {
    spec: ToolSpec,
    servers: Vec<Usable>,
    journal: Journal,
}

impl Resources {
    pub(super) fn new(spec: ToolSpec, servers: Vec<Usable>, journal: Journal) -> Self {
        Self {
            spec,
            servers,
            journal,
        }
    }

    /// From what is known already, so nothing is asked of anybody.
    fn list(&self, arguments: &str) -> Result<Planned<Run>, ToolError> {
        let ListInput { server } = input::parse(LIST, arguments)?;
        let chosen = match &server {
            Some(name) => vec![self.server(name)?],
            None => self.servers.iter().collect(),
        };
        let mut text = String::new();
        for Usable { server, .. } in chosen {
            let offer = server.offer().unwrap_or_default();
            if offer.resources.is_empty() {
                continue;
            }
            let lines: Vec<String> = offer.resources.iter().take(MOST_LISTED).map(line).collect();
            let more = offer.resources.len() - lines.len();
            let more = if more > 0 {
                format!("\n… {more} more")
            } else {
                String::new()
            };
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{}:\n{}",
                shown_line(&server.name),
                result::marked(&server.name, &(lines.join("\n") + &more))
            );
        }
        if text.is_empty() {
            text.push_str("there are no resources");
        }
        let run: Run = Box::new(|_| async { Ok(text.into()) }.boxed());
        Ok(Planned {
            access: Access::Nothing,
            title: server.unwrap_or_default(),
            plan: run,
        })
    }

    fn read(&self, arguments: &str) -> Result<Planned<Run>, ToolError> {
        let ReadInput { server, uri } = input::parse(READ, arguments)?;
        let usable = self.server(&server)?.clone();
        let Usable { server, settings } = &usable;
        let offer = server.offer().unwrap_or_default();
        let listed = |resource: &Resource| !resource.template && resource.uri == uri;
        // What the server has listed tells it nothing but that it is read, which `context` allows. Any other address may
        // carry what the model has read out of the house.
        let is_listed = offer.resources.iter().any(listed);
        let unasked = settings.runs_unasked(READ) || is_listed && settings.reads_unasked();
        let going = Map::from_iter([("uri".to_owned(), uri.clone().into())]);
        let seen = shown_arguments::of(&going, unasked)?;
        let access = OutsideAccess {
            server: server.name.clone(),
            tool: READ.to_owned(),
            arguments: seen,
            about: String::new(),
            identity: super::digest(&[READ, &uri]),
            changed: false,
            unasked,
        };
        let journal = self.journal.clone();
        let title = shortened(&shown_line(&format!("{} {uri}", server.name)), 160);
        let run: Run = Box::new(move |call| read(usable, uri, journal, call).boxed());
        Ok(Planned {
            access: Access::Outside(Box::new(access)),
            title,
            plan: run,
        })
    }

    fn server(&self, name: &str) -> Result<&Usable, ToolError> {
        self.servers
            .iter()
            .find(|usable| usable.server.name == name)
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .servers
                    .iter()
                    .map(|s| shown_line(&s.server.name))
                    .collect();
                ToolError(format!(
                    "there is no external server `{}`; there are {}",
                    shortened(&shown_line(name), 80),
                    known.join(", ")
                ))
            })
    }
}

fn line(resource: &Resource) -> String {
    let uri = shown_line(&resource.uri);
    let kind = if resource.template { " (template)" } else { "" };
    format!("{uri}{kind} {}", resource.about)
}

impl AnyTool for Resources {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn only_reads(&self) -> bool {
        self.spec.name == LIST
    }

    fn plan(&self, arguments: &str, _: &Workspace) -> Result<Planned<Run>, ToolError> {
        if self.spec.name == LIST {
            self.list(arguments)
        } else {
            self.read(arguments)
        }
    }
}

async fn read(
    usable: Usable,
    uri: String,
    journal: Journal,
    call: Call,
) -> Result<Output, ToolError> {
    let server = &usable.server;
    let connection = server.connection(&call.cancel).await;
    if call.cancel.is_cancelled() {
        return Ok(interrupted());
    }
    let connection = connection.map_err(|why| {
        ToolError(format!(
            "the external server `{}` is not there: {why}",
            shown_line(&server.name)
        ))
    })?;
    let params = json!({"uri": uri});
    let sent = journal.sends(sending(&server.name, &call.id.to_string(), &uri));
    let answer = person::ask(&connection, "resources/read", params, &usable, &call).await;
    let result = match answer {
        Ok(answer) => Ok(result::of_resource(&server.name, &answer)),
        Err(Trouble::Cancelled) => Ok(interrupted()),
        Err(trouble) => Err(failed(&usable, &trouble)),
    };
    let (outcome, bytes) = what_came(&result);
    sent.ended(outcome, bytes);
    result
}

/// The reading of a resource, for the log.
pub(super) fn sending(server: &str, call_id: &str, uri: &str) -> Sending {
    Sending {
        server: server.to_owned(),
        what: READ.to_owned(),
        call_id: call_id.to_owned(),
        arguments: json!({"uri": uri}).to_string(),
    }
}
