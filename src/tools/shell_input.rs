//! `shell_input`: types into a session, presses keys, or looks again.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Call, Output, Planned, Progress, Tool, ToolError, input,
    shell::{WATCHED, ended, still_running},
};
use crate::{
    conversation::{Access, shortened},
    workspace::{
        Workspace,
        shell::{About, Patience, Sessions},
    },
};

/// Of the typed text, in the title of the call.
const TITLE_CHARS: usize = 60;

pub(super) struct ShellInput {
    pub(super) sessions: Arc<Sessions>,
}

/// Type into a session of `shell`, press keys, or look at its new output. It is gone once its command has ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// As `shell` gave it.
    #[schemars(required)]
    #[serde(default, deserialize_with = "input::count")]
    session_id: Option<usize>,
    /// Typed as it is, so end a line with a line end. Keys are control characters (Ctrl-C is `\\u0003`, end of input is
    /// `\\u0004`), or one name alone: `<ctrl-c>`. Empty: only look.
    #[serde(default)]
    input: String,
    /// Wait so long for the command to end (default: until it is quiet, at most 10).
    #[serde(default, deserialize_with = "input::seconds")]
    wait_seconds: Option<f64>,
}

/// What to do with which session.
pub(super) struct Plan {
    id: u64,
    about: About,
    keys: String,
    patience: Patience,
}

impl Tool for ShellInput {
    type Input = Input;
    type Plan = Plan;
    const NAME: &'static str = "shell_input";
    const ONLY_READS: bool = false;

    fn plan(&self, input: Input, _: &Workspace) -> Result<Planned<Plan>, ToolError> {
        let id = input.session_id.map(|id| id as u64);
        let Some((id, about)) = id.and_then(|id| Some((id, self.sessions.about(id)?))) else {
            return Err(self.unknown(id));
        };
        let keys = keys(input.input);
        let wait = input.wait_seconds;
        let wait = wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
        let access = match keys.is_empty() {
            true => Access::Nothing,
            false => Access::Type {
                command: about.line.clone(),
                workdir: about.workdir.clone(),
                input: keys.clone(),
                free: about.free,
            },
        };
        Ok(Planned {
            access,
            title: title(&about.line, &keys),
            plan: Plan {
                id,
                about,
                keys,
                patience: wait.map_or(Patience::Quiet(WATCHED), Patience::For),
            },
        })
    }

    async fn run(&self, plan: Plan, call: Call) -> Result<Output, ToolError> {
        let Plan {
            id,
            about,
            keys,
            patience,
        } = plan;
        let Some(mut running) = self.sessions.take(id).await else {
            return Err(self.unknown(Some(id)));
        };
        if let Err(error) = running.type_in(keys.as_bytes()) {
            let (id, _) = self.sessions.keep(running, Some(id), about.free);
            return Err(ToolError(format!(
                "nothing was typed into session {id}: {error}"
            )));
        }
        let show = |line: &str| {
            call.host
                .progress(&call.id, Progress::Line(line.to_owned()))
        };
        running.watch(patience, &call.cancel, show).await;
        let seen = running.look();
        match seen.exit {
            Some(exit) => {
                let over = "\n[the session is over]";
                Ok(ended(about.line, running.timeout(), seen, exit, over))
            }
            None => {
                let (id, ousted) = self.sessions.keep(running, Some(id), about.free);
                Ok(still_running(&seen, id, ousted).into())
            }
        }
    }
}

impl ShellInput {
    fn unknown(&self, id: Option<u64>) -> ToolError {
        let named = id.map_or("`session_id` is missing".to_owned(), |id| {
            format!("there is no session {id}; it may have ended")
        });
        let live: Vec<String> = self
            .sessions
            .list()
            .into_iter()
            .map(|(id, line)| format!("{id} (`{}`)", shortened(&line, TITLE_CHARS)))
            .collect();
        ToolError(match live.is_empty() {
            true => format!("{named}; no session is running"),
            false => format!("{named}; these are: {}", live.join(", ")),
        })
    }
}

fn title(line: &str, keys: &str) -> String {
    let line = shortened(line, TITLE_CHARS);
    match keys.is_empty() {
        true => format!("look at {line}"),
        false => format!("{} into {line}", shortened(keys.trim_end(), TITLE_CHARS)),
    }
}

/// A key by its name, where that is all there is: in other text the same letters may be meant as they are.
fn keys(input: String) -> String {
    let name = input.trim().to_ascii_lowercase();
    let letter = name
        .strip_prefix("<ctrl-")
        .and_then(|rest| rest.strip_suffix('>'));
    match letter.map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => char::from(letter - b'a' + 1).to_string(),
        _ => input,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_only_by_a_name_alone() {
        for (input, expected) in [
            ("<ctrl-c>", "\u{3}"),
            ("<Ctrl-D>\n", "\u{4}"),
            ("\u{3}", "\u{3}"),
            ("press <ctrl-c>", "press <ctrl-c>"),
            ("<ctrl-cc>", "<ctrl-cc>"),
            ("<ctrl->", "<ctrl->"),
            ("c\n", "c\n"),
            ("", ""),
        ] {
            assert_eq!(keys(input.to_owned()), expected, "{input:?}");
        }
    }
}
