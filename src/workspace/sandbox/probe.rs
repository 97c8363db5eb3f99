//! What of the sandbox this machine offers, found out by trying it on a command that does nothing.
//!
//! Files under `/sys` or `/proc/sys` do not tell: what is there may still be refused by a container, a security module
//! or a filter.

use std::path::Path;

use super::{
    Sandbox,
    plan::{Layers, Plan},
};
use crate::workspace::{View, checkpoint::private_directory};

/// What there is.
#[derive(Debug)]
pub(super) struct Offer {
    /// None: nothing that would confine a command.
    pub(super) layers: Option<Layers>,
    /// What was tried in vain, and why, in the order of trying.
    pub(super) troubles: Vec<String>,
}

/// From all of it to the least that is worth having.
#[cfg(target_os = "linux")]
const CHOICES: [Layers; 6] = {
    let all = Layers::ALL;
    [
        all,
        Layers {
            landlock: false,
            ..all
        },
        Layers {
            own_proc: false,
            ..all
        },
        Layers {
            own_network: false,
            ..all
        },
        Layers {
            own_network: false,
            own_proc: false,
            ..all
        },
        Layers {
            namespaces: false,
            sealed: false,
            own_network: false,
            own_proc: false,
            ..all
        },
    ]
};

/// How a trouble begins that costs only what overlays do.
#[cfg(target_os = "linux")]
const OVERLAY: &str = "inside: an overlay of ";

/// Tries what there is with `program` as the helper.
#[cfg(target_os = "linux")]
pub(super) fn look(program: &Path) -> Offer {
    let mut troubles = Vec::new();
    for layers in CHOICES {
        let mut tried = works(program, layers);
        if let Err(trouble) = &tried
            && trouble.starts_with(OVERLAY)
        {
            troubles.push(trouble.clone());
            let sealed = false;
            let layers = Layers { sealed, ..layers };
            tried = works(program, layers);
        }
        match tried {
            Ok(layers) => {
                return Offer {
                    layers: Some(layers),
                    troubles,
                };
            }
            Err(trouble) if troubles.last() == Some(&trouble) => {}
            Err(trouble) => troubles.push(trouble),
        }
    }
    Offer {
        layers: None,
        troubles,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn look(_program: &Path) -> Offer {
    Offer {
        layers: None,
        troubles: vec!["there is no sandbox for this system yet".to_owned()],
    }
}

/// Runs a shell that says a word which only it can say.
#[cfg(target_os = "linux")]
fn works(program: &Path, layers: Layers) -> Result<Layers, String> {
    match run(program, nothing(layers), "echo $((20+3)) inside", "")?.as_str() {
        "23 inside\n" => Ok(layers),
        said => Err(format!("a command said `{}`", said.trim())),
    }
}

/// What somebody tries who wants to see the work of another, who has the next directory in `$0`: by its name, in what is
/// above it, and among the processes that there are. Its own it sees.
#[cfg(target_os = "linux")]
const ATTEMPT: &str = r#"exec 2>/dev/null
cat work
cat "$0"/neighbour/work
ls "$0"
echo >"$0"/neighbour/left
set -- /proc/[0-9]*
echo $# processes"#;

/// Runs a shell beside a neighbour, who must stay unseen.
#[cfg(target_os = "linux")]
pub(super) fn separates(program: &Path, layers: Layers, state: &Path) -> Result<(), String> {
    let fail =
        |error: std::io::Error| format!("it cannot be tried in `{}`: {error}", state.display());
    private_directory(state).map_err(fail)?;
    let held = tempfile::Builder::new()
        .prefix("apart-")
        .tempdir_in(state)
        .map_err(fail)?;
    let stage = held.path().canonicalize().map_err(fail)?;
    let [own, neighbour] = ["own", "neighbour"].map(|name| stage.join(name));
    for place in [&own, &neighbour] {
        std::fs::create_dir(place).map_err(fail)?;
        std::fs::write(place.join("work"), format!("{}\n", place.display())).map_err(fail)?;
    }
    let plan = Plan {
        seen: View::System(Vec::new()).places(),
        writable: vec![own.clone()],
        workdir: own.clone(),
        ..nothing(layers)
    };
    let said = run(program, plan, ATTEMPT, &stage.to_string_lossy())?;
    let expected = format!("{}\nown\n2 processes\n", own.display());
    match said == expected && !neighbour.join("left").exists() {
        true => Ok(()),
        false => Err(format!(
            "a command came to the work of another: `{}`",
            said.trim()
        )),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn separates(_: &Path, _: Layers, _: &Path) -> Result<(), String> {
    Err("there is no sandbox for this system yet".to_owned())
}

/// Nothing but the machine to read.
#[cfg(target_os = "linux")]
fn nothing(layers: Layers) -> Plan {
    Plan {
        layers,
        ..Plan::nothing(Path::new("/"))
    }
}

/// What a shell says that is told to do `script`, with `$0`, behind `plan`; or why it was not started.
#[cfg(target_os = "linux")]
fn run(program: &Path, plan: Plan, script: &str, argument: &str) -> Result<String, String> {
    let launcher = Sandbox::new(Some(program.to_owned()))
        .launcher(plan)
        .map_err(|error| error.to_string())?;
    let ran = std::process::Command::new(launcher.program)
        .args(launcher.arguments)
        .args(["/bin/sh", "-c", script, argument])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let line = said.lines().last().unwrap_or_default();
    let reason = line.split_once("could not be made: ").map(|(_, why)| why);
    Err(match reason {
        Some(why) => why.to_owned(),
        None => format!("the helper ended with {}", ran.status),
    })
}
