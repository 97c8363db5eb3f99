//! `openoxide mcp login` and `logout`: a person says in the browser what the agent may do at an external server.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::bail;
use tokio::sync::mpsc;

use super::{FAILING, chosen, show, test};
use crate::{
    app::{App, External, Standing},
    conversation::shown_line,
    frontend::cli::{
        OK,
        exec::{INTERRUPTED, signalled},
    },
    workspace::shell::is_secret_name,
};

/// For a person to say yes.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn run(
    app: &App,
    name: &str,
    scopes: &[String],
    browser: bool,
) -> anyhow::Result<u8> {
    let external = one(app, name)?;
    let shown = shown_line(name);
    let signed_in = tokio::select! {
        signed_in = sign_in(app, &external, scopes, browser) => signed_in,
        _ = signalled() => return Ok(INTERRUPTED),
    };
    if let Err(why) = signed_in {
        bail!("not signed in at `{shown}`: {why}");
    }
    writeln!(
        io::stderr().lock(),
        "signed in at `{shown}`; this is what it offers:"
    )?;
    let reports = test(app, Some(name)).await;
    app.servers().end().await;
    let reports = reports?;
    show(&reports, false)?;
    let fails = reports.iter().any(|report| report.state == "failed");
    Ok(if fails { FAILING } else { OK })
}

pub(super) fn forget(app: &App, name: &str) -> anyhow::Result<u8> {
    let external = one(app, name)?;
    let forgotten = app.logout(&external).map_err(anyhow::Error::msg)?;
    let words = match forgotten {
        true => {
            "what was allowed here is forgotten; what the server knows of it can be taken back there"
        }
        false => "nothing was allowed here",
    };
    writeln!(io::stderr().lock(), "{words}")?;
    Ok(OK)
}

fn one(app: &App, name: &str) -> anyhow::Result<External> {
    let external = chosen(app.external(|_| false)?, Some(name))?.remove(0);
    if external.standing == Standing::Untrusted {
        bail!(
            "the project names the external server `{0}`, and you have not trusted it: look at where it is, then `openoxide mcp trust {0}`",
            shown_line(name)
        );
    }
    Ok(external)
}

async fn sign_in(
    app: &App,
    external: &External,
    scopes: &[String],
    browser: bool,
) -> Result<(), String> {
    let login = app.login(external, scopes).await?;
    let address = login.address();
    let said = writeln!(
        io::stderr().lock(),
        "Allow it {} here:\n\n{address}\n",
        login.about()
    );
    said.map_err(|error| error.to_string())?;
    if browser && io::stderr().is_terminal() {
        show_in_browser(&address);
    }
    let finished = tokio::time::timeout(PATIENCE, login.finish(pasted())).await;
    finished.unwrap_or_else(|_| Err("nobody said yes within ten minutes".to_owned()))
}

/// Lines from the terminal, if there is one: where the browser runs on another machine, it cannot come back by itself.
fn pasted() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    if !io::stderr().is_terminal() {
        return receiver;
    }
    if let Ok(terminal) = File::open("/dev/tty") {
        // Without it there is still the browser.
        let _ = writeln!(
            io::stderr().lock(),
            "If the browser cannot come back here, paste the address that it ends at:"
        );
        // Ends with the process, or with a line that nobody waits for.
        tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(terminal).lines().map_while(Result::ok);
            for line in lines {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Where there is a screen to show it on. Without one the address is there to be copied.
fn show_in_browser(address: &str) {
    let has_screen = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if has_screen("DISPLAY") || has_screen("WAYLAND_DISPLAY") {
        "xdg-open"
    } else {
        return;
    };
    let nothing = Stdio::null;
    let mut command = Command::new(program);
    command.arg(address).stdin(nothing()).stdout(nothing());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_none_or(is_secret_name) {
            command.env_remove(name);
        }
    }
    // It may not be there.
    let _ = command.stderr(nothing()).spawn();
}
