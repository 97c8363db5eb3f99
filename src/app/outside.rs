//! The external MCP servers of threads: which there are for a directory, which may start, and the tools they bring.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{App, wiring::Wiring};
use crate::{
    config::{self, Config, ConfigError, Named},
    conversation::{Prompt, shown_line},
    thread::Header,
    tools::{
        mcp::{self, Servers},
        registry::AnyTool,
    },
};

/// An external server as `openoxide mcp` shows it.
pub struct External {
    /// As the owner or the project calls it.
    pub name: String,
    /// What is configured, variables of a project's file not filled in.
    pub settings: mcp::Settings,
    /// A file of the project names it, and not its owner.
    pub project: bool,
    /// Where it stands.
    pub standing: Standing,
    /// What came of starting it, where that was wished and it can be.
    pub started: Option<Result<mcp::Usable, String>>,
}

/// Where an external server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be started.
    Enabled,
    /// The owner or the project has switched it off.
    Disabled,
    /// The project names it, and the owner has not agreed.
    Untrusted,
}

/// Where external servers are used. Those are two directories for a thread in a worktree of its own.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Whose configuration holds, and what trust is bound to: nothing that the thread itself could write.
    pub(super) project: &'a Path,
    /// Where programs start, so that they work on what the thread works on.
    pub(super) starts: &'a Path,
}

/// For the log of what is asked.
fn whose(header: &Header) -> mcp::Whose {
    mcp::Whose {
        thread_id: header.thread_id.to_string(),
        tenant: header.owner.clone(),
    }
}

fn resolved(directory: &Path) -> PathBuf {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned())
}

impl App {
    /// The external servers that threads of the working directory would have, with where each stands, and the
    /// handle of those that can be started and are to `start`.
    pub fn external(&self, start: impl Fn(&str) -> bool) -> Result<Vec<External>, ConfigError> {
        let config = self.wiring.layers.in_project(&self.setup.cwd)?;
        Ok(self.wiring.listed(&config, &self.setup.cwd, start))
    }

    /// `prompt` with resources of external servers behind it that fit it, where the owner wants that.
    pub async fn with_resources(&self, prompt: Prompt, header: &Header) -> Prompt {
        let wanted = self.config.mcp_servers.values();
        if !wanted.into_iter().any(|settings| settings.context) {
            return prompt;
        }
        let servers = self.wiring.recorded_servers(header);
        match self
            .servers()
            .fitting(whose(header), &servers, &prompt.text)
            .await
        {
            Some(found) => Prompt {
                text: format!("{}\n\n{found}", prompt.text),
                ..prompt
            },
            None => prompt,
        }
    }

    /// Begins a sign-in at an external server, where `scopes` are to be allowed besides what it wants itself.
    pub async fn login(
        &self,
        external: &External,
        scopes: &[String],
    ) -> Result<mcp::Login, String> {
        let External { name, settings, .. } = external;
        let settings = self.wiring.filled(settings, external.project)?;
        let variable = self.wiring.variable(external.project);
        self.servers()
            .login(name, &settings, scopes, variable)
            .await
    }

    /// Forgets what a person allowed at an external server. False if that was nothing.
    pub fn logout(&self, external: &External) -> Result<bool, String> {
        let settings = self.wiring.filled(&external.settings, external.project)?;
        self.servers().logout(&external.name, &settings)
    }

    /// The external servers of this process.
    pub fn servers(&self) -> &Servers {
        &self.wiring.servers
    }

    /// What is known of an external server without starting it. `state` says where it stands.
    pub fn known(&self, external: &External, state: &str) -> mcp::Report {
        let External { name, settings, .. } = external;
        let used = self.wiring.used(settings, external.project);
        // One whose variables are missing was never started as it is.
        let used = used.unwrap_or_else(|_| settings.clone());
        let directory = resolved(&self.setup.cwd);
        let variable = self.wiring.variable(external.project);
        mcp::Report {
            // What stands in the file, and not what its variables hold.
            target: settings.target(),
            ..mcp::Report::known(self.servers(), name, &used, &directory, variable, state)
        }
    }

    /// What the owner has agreed to of what projects name.
    pub fn trust(&self) -> mcp::Trust {
        self.wiring.trust()
    }
}

impl Wiring {
    /// The tools of external servers that were recorded for a thread.
    pub(super) fn outside_tools(&self, header: &Header) -> Vec<(String, Box<dyn AnyTool>)> {
        let context = &header.context;
        let servers = self.recorded_servers(header);
        self.servers
            .tools(whose(header), &context.outside, &context.tools, &servers)
    }

    /// The external servers that were recorded for a thread.
    fn recorded_servers(&self, header: &Header) -> Vec<mcp::Usable> {
        let recorded = &header.context.outside;
        if recorded.is_empty() {
            return Vec::new();
        }
        // What the project has taken away since stays away; a file that cannot be read takes away all.
        let place = Place {
            project: header.directory(),
            starts: &header.cwd,
        };
        match self.layers.in_project(place.project) {
            Ok(config) => self.external(&config, place, |name| {
                recorded.iter().any(|outside| outside.server == name)
            }),
            Err(error) => {
                tracing::warn!("no external servers: {error}");
                Vec::new()
            }
        }
    }

    /// The external servers for threads of `place` that are `wished`, started. What keeps one away is a warning.
    pub(super) fn external(
        &self,
        config: &Config,
        place: Place<'_>,
        wished: impl Fn(&str) -> bool,
    ) -> Vec<mcp::Usable> {
        let mut servers = Vec::new();
        for (name, settings, project) in self.configured(config, place.project) {
            let name_shown = shown_line(&name);
            let tenant = self.tenant.as_ref();
            let is_allowed = tenant.is_none_or(|tenant| tenant.may_use(&name, project));
            if !settings.enabled || !is_allowed || !wished(&name) {
                continue;
            }
            if project
                && !self
                    .trust()
                    .holds(&name, &settings, &resolved(place.project))
            {
                tracing::warn!(
                    "this project names the external server `{name_shown}`, which starts only after `openoxide mcp trust {name_shown}`"
                );
                continue;
            }
            match self.start(&name, &settings, place.starts, project) {
                Ok(server) => servers.push(server),
                Err(why) => {
                    tracing::warn!("external server `{name_shown}` is left out: {why}");
                }
            }
        }
        servers
    }

    /// The same to look at.
    pub(super) fn listed(
        &self,
        config: &Config,
        cwd: &Path,
        start: impl Fn(&str) -> bool,
    ) -> Vec<External> {
        let trust = self.trust();
        let standing = |name: &str, settings: &mcp::Settings, project| {
            if project && !trust.holds(name, settings, &resolved(cwd)) {
                Standing::Untrusted
            } else if settings.enabled {
                Standing::Enabled
            } else {
                Standing::Disabled
            }
        };
        let servers = self.configured(config, cwd).into_iter();
        servers
            .map(|(name, settings, project)| {
                let standing = standing(&name, &settings, project);
                let starts = standing == Standing::Enabled && start(&name);
                External {
                    project,
                    standing,
                    started: starts.then(|| self.start(&name, &settings, cwd, project)),
                    name,
                    settings,
                }
            })
            .collect()
    }

    /// The owner's servers and then those of the project's `.mcp.json` that have other names, which are marked; in
    /// stable order.
    fn configured(&self, config: &Config, cwd: &Path) -> Vec<(String, mcp::Settings, bool)> {
        // A file of the project that cannot be read must not cost the owner's.
        let named = config::named_in_project(cwd).unwrap_or_else(|error| Named {
            servers: BTreeMap::new(),
            warnings: vec![error.to_string()],
        });
        for warning in &named.warnings {
            tracing::warn!("{warning}");
        }
        let mut all: BTreeMap<String, (mcp::Settings, bool)> = named
            .servers
            .into_iter()
            .map(|(name, settings)| (name, (settings, true)))
            .collect();
        let own = config.mcp_servers.clone().into_iter();
        all.extend(own.map(|(name, settings)| (name, (settings, false))));
        all.into_iter()
            .map(|(name, (settings, project))| (name, settings, project))
            .collect()
    }

    fn start(
        &self,
        name: &str,
        settings: &mcp::Settings,
        cwd: &Path,
        project: bool,
    ) -> Result<mcp::Usable, String> {
        let settings = self.used(settings, project)?;
        let variable = self.variable(project);
        self.servers
            .start(name, &settings, &resolved(cwd), variable)
    }

    /// `settings` as they decide about threads.
    fn used(&self, settings: &mcp::Settings, project: bool) -> Result<mcp::Settings, String> {
        let mut settings = self.filled(settings, project)?;
        if project {
            // What runs unasked, or is put before the model, is for the owner to say.
            settings.auto.clear();
            settings.context = false;
        }
        Ok(settings)
    }

    /// `settings` as they are used: a project's have variables in them.
    fn filled(&self, settings: &mcp::Settings, project: bool) -> Result<mcp::Settings, String> {
        match project {
            true => config::expand(settings, &self.variable(project)),
            false => Ok(settings.clone()),
        }
    }

    /// The variables that an external server may be told of. The key is for the model; a project cannot have it sent
    /// anywhere.
    fn variable(&self, project: bool) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let ours = project
                && (name == self.config.model.api_key_env || name.starts_with("OPENOXIDE_"));
            self.environment.get(name).filter(|_| !ours)
        }
    }

    pub(super) fn trust(&self) -> mcp::Trust {
        mcp::Trust::read(&self.paths.external().join("trusted.json"))
    }
}
