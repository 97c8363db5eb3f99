//! The tools of one thread, by name, in a stable order.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Call, Output, Planned, Tool, ToolError, analyze_file::AnalyzeFile, edit_file::EditFile, input,
    list_files::ListFiles, outline::Outline, read_file::ReadFile, search::Search, shell::Shell,
    shell_input::ShellInput, update_plan::UpdatePlan, write_file::WriteFile,
};
use crate::{
    conversation::{ApprovalPolicy, SandboxPolicy},
    model::ToolSpec,
    workspace::{Workspace, sandbox::Launcher, shell::Sessions},
};

/// A tool without its types.
pub trait AnyTool: Send + Sync {
    /// As the model sees it.
    fn spec(&self) -> ToolSpec;

    /// True if no input can make it change anything.
    fn only_reads(&self) -> bool;

    /// The file that a call names to be written, if it can be read and names one.
    fn writes(&self, _arguments: &str) -> Option<String> {
        None
    }

    /// Understands a call; what comes back is run or dropped.
    fn plan(&self, arguments: &str, workspace: &Workspace) -> Result<Planned<Run>, ToolError>;
}

/// What is left of a planned call: run it with what it may use.
pub type Run = Box<dyn FnOnce(Call) -> BoxFuture<'static, Result<Output, ToolError>> + Send>;

impl<T: Tool> AnyTool for Arc<T> {
    fn spec(&self) -> ToolSpec {
        input::spec::<T::Input>(T::NAME)
    }

    fn only_reads(&self) -> bool {
        T::ONLY_READS
    }

    fn writes(&self, arguments: &str) -> Option<String> {
        written_by::<T>(arguments)
    }

    fn plan(&self, arguments: &str, workspace: &Workspace) -> Result<Planned<Run>, ToolError> {
        let Planned {
            access,
            title,
            plan,
        } = T::plan(self, input::parse(T::NAME, arguments)?, workspace)?;
        let tool = self.clone();
        let run: Run = Box::new(move |call| async move { tool.run(plan, call).await }.boxed());
        Ok(Planned {
            access,
            title,
            plan: run,
        })
    }
}

/// The tools that a thread offers.
pub struct Registry {
    tools: Vec<(String, Box<dyn AnyTool>)>,
    /// What a model may know from elsewhere.
    withheld: Vec<Withheld>,
    /// Of `shell` and `shell_input`; they end with this.
    sessions: Arc<Sessions>,
}

/// A tool that is not offered.
#[derive(Debug)]
pub struct Withheld {
    name: &'static str,
    /// The reason.
    pub why: &'static str,
    /// The file that a call names to be written.
    pub writes: fn(&str) -> Option<String>,
}

fn written_by<T: Tool>(arguments: &str) -> Option<String> {
    let input = input::parse(T::NAME, arguments).ok()?;
    T::writes(&input).map(str::to_owned)
}

const NO_EDITS: &str =
    "the sandbox is `read-only` and the policy is to never ask, so nothing is edited";
const NO_COMMANDS: &str =
    "the sandbox is `read-only`, and nothing on this machine keeps a command from writing";

/// What the tools of a thread are made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Variables that every command gets.
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Whether the kernel keeps a command from writing under `read-only`.
    pub commands_are_held: bool,
    /// What stands in front of commands outside the sandbox, so that nothing of them outlives this process.
    pub keeper: Option<Launcher>,
}

impl Registry {
    /// The built-in tools that the policies leave room for. A new tool is one line here.
    pub fn built_in(sandbox: SandboxPolicy, approval: ApprovalPolicy, settings: &Settings) -> Self {
        let may_edit = sandbox != SandboxPolicy::ReadOnly || approval != ApprovalPolicy::Never;
        let sessions = Arc::new(Sessions::default());
        let mut registry = Self {
            tools: Vec::new(),
            withheld: Vec::new(),
            sessions: sessions.clone(),
        };
        registry.add(ReadFile);
        registry.add(ListFiles);
        registry.add(Search);
        registry.add(Outline);
        if may_edit {
            registry.add(EditFile);
            registry.add(WriteFile);
        } else {
            registry.withhold::<EditFile>(NO_EDITS);
            registry.withhold::<WriteFile>(NO_EDITS);
        }
        if sandbox != SandboxPolicy::ReadOnly || settings.commands_are_held {
            registry.add(Shell {
                environment: settings.environment.clone(),
                keeper: settings.keeper.clone(),
                sessions: sessions.clone(),
            });
            registry.add(ShellInput { sessions });
        } else {
            registry.withhold::<Shell>(NO_COMMANDS);
            registry.withhold::<ShellInput>(NO_COMMANDS);
        }
        registry.add(UpdatePlan);
        registry
    }

    /// What a caller may use with its own hands: the same tools, under the same policies.
    pub fn of_hands(settings: &Settings) -> Self {
        let sessions = Arc::new(Sessions::default());
        let mut registry = Self {
            tools: Vec::new(),
            withheld: Vec::new(),
            sessions: sessions.clone(),
        };
        registry.add(Search);
        registry.add(Shell {
            environment: settings.environment.clone(),
            keeper: settings.keeper.clone(),
            sessions,
        });
        registry.add(AnalyzeFile);
        registry
    }

    /// Adds a tool at the end.
    pub fn add<T: Tool>(&mut self, tool: T) {
        self.tools
            .push((T::NAME.to_owned(), Box::new(Arc::new(tool))));
    }

    fn withhold<T: Tool>(&mut self, why: &'static str) {
        self.withheld.push(Withheld {
            name: T::NAME,
            why,
            writes: written_by::<T>,
        });
    }

    /// The tool of that name, where there is one and the policies leave no room for it.
    pub fn withheld(&self, name: &str) -> Option<&Withheld> {
        self.withheld.iter().find(|withheld| withheld.name == name)
    }

    /// Adds tools of external servers at the end.
    pub fn extend(&mut self, tools: impl IntoIterator<Item = (String, Box<dyn AnyTool>)>) {
        self.tools.extend(tools);
    }

    /// All of them as the model sees them.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|(_, tool)| tool.spec()).collect()
    }

    /// The tool of that name.
    pub fn find(&self, name: &str) -> Option<&dyn AnyTool> {
        self.tools
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, tool)| tool.as_ref())
    }

    /// The commands that run in the background.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(sandbox: SandboxPolicy) -> Registry {
        Registry::built_in(
            sandbox,
            ApprovalPolicy::Never,
            &Settings {
                environment: Vec::new(),
                commands_are_held: false,
                keeper: None,
            },
        )
    }

    #[test]
    fn schemas_are_plain_enough_for_every_model_server() {
        for spec in registry(SandboxPolicy::WorkspaceWrite).specs() {
            let text = spec.parameters.to_string();
            assert_eq!(spec.parameters["type"], "object", "{}", spec.name);
            assert!(!spec.description.is_empty(), "{}", spec.name);
            for word in [
                "$ref", "$defs", "oneOf", "anyOf", "\"null\"", "format", "title\":",
            ] {
                assert!(!text.contains(word), "{} has {word}: {text}", spec.name);
            }
        }
    }

    #[test]
    fn read_only_that_never_asks_offers_nothing_that_acts() {
        let registry = registry(SandboxPolicy::ReadOnly);
        assert!(
            registry
                .names()
                .all(|name| registry.find(name).unwrap().only_reads())
        );
        assert!(registry.find("shell").is_none());
    }
}
