//! What of the sandbox this machine offers, found out by trying it on a command that does nothing.
//!
//! Files under `/sys` or `/proc/sys` do not tell: what is there may still be refused by a container, a security module
//! or a filter.

use std::path::Path;

use super::plan::Layers;

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
    use super::{Sandbox, plan::Plan};
    let plan = Plan {
        layers,
        writable: Vec::new(),
        readable: Vec::new(),
        pinned: Vec::new(),
        read_only: Vec::new(),
        hidden: Vec::new(),
        sockets: Vec::new(),
        scratch: None,
        network: false,
        workdir: "/".into(),
    };
    let launcher = Sandbox::new(Some(program.to_owned()))
        .launcher(plan)
        .map_err(|error| error.to_string())?;
    let ran = std::process::Command::new(launcher.program)
        .args(launcher.arguments)
        .args(["/bin/sh", "-c", "echo $((20+3)) inside"])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if ran.status.success() && ran.stdout == b"23 inside\n" {
        return Ok(layers);
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let line = said.lines().last().unwrap_or_default();
    let reason = line.split_once("could not be made: ").map(|(_, why)| why);
    Err(match reason {
        Some(why) => why.to_owned(),
        None => format!("the helper ended with {}", ran.status),
    })
}
