//! `openoxide mcp`: the external servers that the agent may use, whether they work, and which of a project's are
//! trusted.

mod login;
mod trust;

use std::io::{self, Write};

use anyhow::bail;

use super::{
    OK,
    args::ExternalCommand,
    exec::{INTERRUPTED, signalled},
};
use crate::{
    app::{App, External, Standing},
    conversation::{shortened, shown_line},
    tools::mcp::Report,
};

/// One of them does not work.
const FAILING: u8 = 1;

/// Tools of a server that are named in text.
const NAMED: usize = 40;

pub(super) async fn run(command: ExternalCommand) -> anyhow::Result<u8> {
    match command {
        ExternalCommand::List(wish) => {
            let app = App::build(wish.options.setup()?)?;
            let mut reports = Vec::new();
            for external in chosen(app.external(|_| false)?, wish.name.as_deref())? {
                reports.push(known(&app, &external));
            }
            show(&reports, wish.json)?;
            Ok(OK)
        }
        ExternalCommand::Test(wish) => {
            let app = App::build(wish.options.setup()?)?;
            let tested = tokio::select! {
                tested = test(&app, wish.name.as_deref()) => Some(tested),
                _ = signalled() => None,
            };
            app.servers().end().await;
            let Some(reports) = tested.transpose()? else {
                return Ok(INTERRUPTED);
            };
            show(&reports, wish.json)?;
            let fails = |report: &Report| report.state == "failed";
            Ok(if reports.iter().any(fails) {
                FAILING
            } else {
                OK
            })
        }
        ExternalCommand::Login {
            name,
            scope,
            no_browser,
            options,
        } => login::run(&App::build(options.setup()?)?, &name, &scope, !no_browser).await,
        ExternalCommand::Logout { name, options } => {
            login::forget(&App::build(options.setup()?)?, &name)
        }
        ExternalCommand::Trust { name, options } => {
            trust::run(&App::build(options.setup()?)?, &name)
        }
    }
}

/// Those that are meant.
fn chosen(all: Vec<External>, name: Option<&str>) -> anyhow::Result<Vec<External>> {
    let Some(name) = name else { return Ok(all) };
    let known: Vec<String> = all.iter().map(|one| shown_line(&one.name)).collect();
    let found: Vec<External> = all.into_iter().filter(|one| one.name == name).collect();
    if found.is_empty() {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        bail!(
            "there is no external server `{}`; there are: {known}",
            shown_line(name)
        );
    }
    Ok(found)
}

/// Starts them beside each other.
pub(super) async fn test(app: &App, name: Option<&str>) -> anyhow::Result<Vec<Report>> {
    let all = app.external(|known| name.is_none_or(|name| name == known))?;
    let meant = chosen(all, name)?.into_iter();
    let reports = meant.map(|external| async move {
        match &external.started {
            Some(Ok(usable)) => Report::tried(usable).await,
            Some(Err(why)) => Report {
                state: "failed".to_owned(),
                error: Some(why.clone()),
                ..known(app, &external)
            },
            None => known(app, &external),
        }
    });
    Ok(futures_util::future::join_all(reports).await)
}

fn known(app: &App, external: &External) -> Report {
    let state = match external.standing {
        Standing::Enabled => "enabled",
        Standing::Disabled => "disabled",
        Standing::Untrusted => "not trusted",
    };
    let mut report = app.known(external, state);
    if external.standing == Standing::Untrusted {
        report.tools.clear();
        report.to_do = Some(format!(
            "the project's `.mcp.json` names it; look at what it starts, then `openoxide mcp trust {}`",
            shown_line(&external.name)
        ));
    }
    report
}

fn show(reports: &[Report], json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, reports)?;
        writeln!(out)?;
        return Ok(());
    }
    if reports.is_empty() {
        writeln!(
            out,
            "no external servers; `[mcp_servers.NAME]` in your configuration, `--mcp-config FILE` or `--mcp-server NAME:TRANSPORT:TARGET` add some"
        )?;
    }
    for report in reports {
        write!(out, "{}", text(report))?;
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!(
        "{}  {}  {} {}",
        shown_line(&report.name),
        report.state,
        report.transport,
        shortened(&shown_line(&report.target), 160)
    )];
    if let Some(about) = &report.about {
        let ping = report.ping_ms.map(|ms| format!(", answers in {ms:.1} ms"));
        lines.push(format!(
            "{}, protocol {}, started in {} ms{}",
            about.name,
            about.protocol,
            about.start_ms,
            ping.unwrap_or_default()
        ));
    }
    if !report.tools.is_empty() {
        let mut names: Vec<String> = report.tools.iter().take(NAMED).map(tool).collect();
        if report.tools.len() > NAMED {
            names.push(format!("… {} more", report.tools.len() - NAMED));
        }
        lines.push(format!("tools: {}", names.join(", ")));
    }
    if report.resources > 0 {
        lines.push(format!("resources: {}", report.resources));
    }
    lines.extend(report.error.as_ref().map(|why| shown_line(why)));
    let stderr = report.stderr.iter().map(|line| format!("stderr: {line}"));
    lines.extend(stderr);
    lines.extend(report.to_do.as_ref().map(|what| format!("to do: {what}")));
    lines.join("\n    ") + "\n"
}

fn tool(tool: &crate::tools::mcp::ReportedTool) -> String {
    let auto = if tool.auto { " (unasked)" } else { "" };
    format!("{}{auto}", tool.name)
}
