//! `openoxide doctor`: what this machine offers, one line each, and what to do about what it lacks.

use std::{
    io::{self, Write},
    sync::Arc,
};

use serde::Serialize;

mod external;
mod machine;
mod model;

use super::{OK, args::Options};
use crate::{
    app::App,
    config::ConfigError,
    conversation::shown_line,
    workspace::sandbox::{Protection, Sandbox},
};

/// Something is not as it should be.
const LACKING: u8 = 1;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    fine: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_do: Option<String>,
}

impl Finding {
    fn fine(what: &'static str, found: String) -> Self {
        Self {
            what,
            fine: true,
            found,
            to_do: None,
        }
    }

    fn lacking(what: &'static str, found: String, to_do: &str) -> Self {
        Self {
            what,
            fine: false,
            found,
            to_do: Some(to_do.to_owned()),
        }
    }
}

pub(super) async fn run(json: bool, options: &Options) -> anyhow::Result<u8> {
    let mut findings = sandbox(&Arc::new(Sandbox::new(None)));
    match App::build(options.setup()?).map_err(anyhow::Error::from) {
        Ok(app) => {
            findings.extend(model::configuration(&app));
            findings.extend(model::model(&app).await);
            findings.extend(external::servers(&app).await);
            findings.push(machine::git());
            findings.push(machine::state(&app));
        }
        Err(error) => findings.extend([broken(&error), machine::git()]),
    }
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &findings)?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            let mark = if finding.fine { "ok" } else { "--" };
            writeln!(out, "{mark}  {}: {}", finding.what, finding.found)?;
            if let Some(to_do) = &finding.to_do {
                writeln!(out, "      {to_do}")?;
            }
        }
    }
    Ok(if findings.iter().all(|finding| finding.fine) {
        OK
    } else {
        LACKING
    })
}

/// A configuration that nothing runs with.
fn broken(error: &anyhow::Error) -> Finding {
    let way_out = error.downcast_ref().and_then(ConfigError::way_out);
    let to_do = way_out.unwrap_or("mend it; nothing runs until then");
    let found = shown_line(&error.to_string());
    Finding::lacking("configuration", found, &shown_line(to_do))
}

fn sandbox(sandbox: &Arc<Sandbox>) -> Vec<Finding> {
    let protection = sandbox.protection();
    let mut findings = vec![Finding {
        what: "sandbox",
        fine: protection == Protection::Whole,
        found: match &protection {
            Protection::Whole => format!("{}, whole", sandbox.by()),
            Protection::Partial(_) => format!("{}, partial", sandbox.by()),
            Protection::None => "none: commands need an approval or are refused".to_owned(),
        },
        to_do: match &protection {
            Protection::Whole => None,
            Protection::Partial(_) => Some(
                "see below for what would make it whole, or set `policy.accept_partial = true` to run commands unasked all the same"
                    .to_owned(),
            ),
            Protection::None => Some(
                "see below for what would change that; in a container that is itself the sandbox use `--sandbox danger-full-access`"
                    .to_owned(),
            ),
        },
    }];
    if let Protection::Partial(missing) = &protection {
        findings.extend(missing.iter().map(|what| Finding {
            what: "not enforced",
            fine: false,
            found: (*what).to_owned(),
            to_do: None,
        }));
    }
    findings.extend(sandbox.notes().into_iter().map(|note| Finding {
        what: "to know",
        fine: true,
        found: note.to_owned(),
        to_do: None,
    }));
    findings.extend(sandbox.troubles().iter().map(|trouble| Finding {
        what: "tried in vain",
        fine: protection == Protection::Whole,
        found: trouble.clone(),
        to_do: way_out(trouble).map(str::to_owned),
    }));
    findings
}

fn way_out(trouble: &str) -> Option<&'static str> {
    let ways = [
        (
            "the system call filter",
            "a kernel with CONFIG_SECCOMP_FILTER; in a container or VM layer that has none (gVisor, some CI) there is no way",
        ),
        ("an overlay", "a kernel of 5.11 or newer with overlayfs"),
        (
            "new namespaces",
            "sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; in Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`",
        ),
        (
            "uid_map",
            "on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for openoxide with `userns,`",
        ),
        (
            "/proc",
            "in Docker: `--security-opt systempaths=unconfined`",
        ),
        (
            "Landlock",
            "a kernel of 5.13 or newer with `landlock` in its `lsm=` list",
        ),
    ];
    ways.iter()
        .find_map(|(sign, way)| trouble.contains(sign).then_some(*way))
}
