//! `openoxide sandbox POLICY -- CMD…`: one command exactly as the agent would run it.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, bail};

use super::args::SandboxArgs;
use crate::{
    app::{App, Setup},
    config::assignment,
    conversation::SandboxPolicy,
    workspace::sandbox::{Protection, TEMPORARY},
};

pub(super) fn run(args: SandboxArgs) -> anyhow::Result<u8> {
    let here = std::env::current_dir()?;
    let mut setup = Setup {
        cwd: match &args.cwd {
            Some(cwd) => here.join(cwd),
            None => here,
        },
        cwd_named: args.cwd.is_some(),
        ephemeral: true,
        ..Setup::default()
    };
    if args.network {
        setup.flags.push(assignment("policy.network=true")?);
    }
    let app = App::build(setup)?;
    let (workspace, confinement, mut settings) = app
        .place(app.cwd(), args.policy)
        .map_err(anyhow::Error::msg)?;
    let mut command = if args.policy == SandboxPolicy::DangerFullAccess {
        Command::new("/bin/bash")
    } else {
        match confinement.sandbox().protection() {
            Protection::Whole => {}
            Protection::Partial(missing) => say(&format!(
                "the sandbox is {} only; not enforced: {}",
                confinement.sandbox().by(),
                missing.join(", ")
            )),
            Protection::None => bail!(
                "nothing on this machine can confine a command ({}); `openoxide doctor` says what to do",
                confinement.sandbox().troubles().join("; ")
            ),
        }
        let launcher = confinement
            .launcher(&workspace, workspace.cwd())
            .context("the sandbox could not be made")?;
        let mut command = Command::new(&launcher.program);
        command.args(&launcher.arguments).arg("/bin/bash");
        settings
            .environment
            .retain(|(name, _)| !TEMPORARY.iter().any(|known| name == known));
        command
    };
    let status = command
        .arg("-c")
        .arg(line(&args.command))
        .current_dir(workspace.cwd())
        .env_clear()
        .envs(settings.environment)
        .stdin(Stdio::null())
        .status()
        .context("the command could not be started")?;
    Ok(code(status))
}

fn say(warning: &str) {
    // Nowhere is left to say that this failed.
    let _ = writeln!(anstream::stderr(), "warning: {warning}");
}

/// One argument is a line as the model writes it; several are words to be kept apart.
fn line(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => {
            let quoted = words
                .iter()
                .map(|word| format!("'{}'", word.replace('\'', "'\\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or_default(),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
