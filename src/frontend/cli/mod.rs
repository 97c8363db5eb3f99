//! The command line. Standard output carries what was asked for and nothing else; the rest goes to standard error.

mod answer;
mod args;
mod demo;
mod doctor;
mod exec;
mod form;
mod log;
mod mcp;
mod prompt;
mod report;
mod sandbox;
mod service;
mod setup;
mod story;
mod take_back;
mod threads;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use crate::{
    app::{App, Asker, Setup},
    config::ConfigError,
    conversation::shown_text,
    frontend::mcp::{self as served, network},
    workspace::{self, shell},
};
use args::{Args, Command, Isolation, LogFormat, Options, ThreadsCommand};
use log::Log;

/// Everything went as asked.
const OK: u8 = 0;
/// Wrong usage or configuration.
const USAGE: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough, as in `openoxide threads list | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(OK),
        Err(error) => {
            complain(&error);
            ExitCode::from(USAGE)
        }
    }
}

fn run(args: Args) -> anyhow::Result<u8> {
    match (args.command, args.message) {
        (Some(Command::McpServer(server)), _) => {
            let app = App::build(server.setup()?)?;
            let wait = server.wait()?;
            match app.config().server.http.clone() {
                Some(address) => {
                    log_to_stderr(server.options.log_format, OPERATOR);
                    let options = network::Options {
                        address,
                        no_auth: server.no_auth,
                        wait,
                        codex: server.codex_tools,
                    };
                    start(service::run(app, options))
                }
                None if server.no_auth => {
                    anyhow::bail!("`--no-auth` is of the network service; it goes with `--http`")
                }
                None => {
                    log_to_stderr(server.options.log_format, QUIET);
                    start(async move {
                        served::serve(app, wait, server.codex_tools).await?;
                        Ok(OK)
                    })
                }
            }
        }
        (Some(Command::Threads(ThreadsCommand::Answer(args))), _) => start(answer::run(args)),
        (Some(Command::Threads(command)), _) => threads::run(command),
        (Some(Command::Mcp(command)), _) => {
            log_to_stderr(LogFormat::Text, QUIET);
            start(mcp::run(command))
        }
        (Some(Command::Sandbox(args)), _) => sandbox::run(args),
        (Some(Command::Doctor { json, options }), _) => {
            start(async move { doctor::run(json, &options).await })
        }
        (
            Some(Command::Setup {
                client,
                codex_tools,
            }),
            _,
        ) => setup::run(client, codex_tools),
        (Some(Command::Completions { shell }), _) => completions(shell),
        (Some(Command::Demo { mcp }), _) => start(async move {
            if mcp {
                demo::over_mcp().await
            } else {
                demo::run().await
            }
        }),
        (None, None) if std::env::args_os().len() < 2 => help(),
        (None, None) if args.resume.is_none() && !args.r#continue => {
            anyhow::bail!("there is no task; give one with `-m \"task\"`")
        }
        (None, None) if !args.file.is_empty() || !args.image.is_empty() => {
            anyhow::bail!("`--file` and `--image` go with a task; give one with `-m \"task\"`")
        }
        (None, message) => {
            log_to_stderr(args.options.log_format, QUIET);
            let run = exec::Run::new(
                message,
                args.resume,
                args.r#continue,
                args.output,
                args.file,
                args.image,
                args.isolation == Isolation::Worktree,
                &args.options,
            )?;
            let setup = Setup {
                record: args.record,
                ..args.options.setup()?
            };
            start(run.drive(App::build(setup)?))
        }
    }
}

/// Runs a front-end on a runtime, and ends without waiting for a read of standard input that nobody will answer.
fn start(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    shell::adopt_orphans();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let code = runtime.block_on(work);
    runtime.shutdown_background();
    workspace::sandbox::clear_up();
    code
}

fn help() -> anyhow::Result<u8> {
    Args::command().print_help()?;
    Ok(OK)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "openoxide", &mut script);
    io::stdout().write_all(&script)?;
    Ok(OK)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `error:` and, where there is a way out, `hint:`.
fn complain(error: &anyhow::Error) {
    let mut stderr = anstream::stderr().lock();
    // Nowhere is left to say that this failed.
    let _ = writeln!(stderr, "error: {}", shown_text(&format!("{error:#}")));
    if let Some(hint) = error
        .downcast_ref::<ConfigError>()
        .and_then(ConfigError::way_out)
    {
        let _ = writeln!(stderr, "hint: {}", shown_text(hint));
    }
}

/// What somebody at a terminal, or a client that shows our standard error, wants to read of.
const QUIET: &str = "warn,rmcp=error,async_openai=off";
/// What somebody who runs a service does.
const OPERATOR: &str = "warn,openoxide=info,rmcp=error,async_openai=off";

/// Logs go to standard error; what is chatty in the libraries stays quiet unless `OPENOXIDE_LOG` asks for it.
fn log_to_stderr(format: LogFormat, filter: &str) {
    let filter = std::env::var("OPENOXIDE_LOG").unwrap_or_else(|_| filter.to_owned());
    let layer = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(Log::start())
        .with_ansi(false);
    // A second logger can only come from a test in this process.
    let _ = match format {
        LogFormat::Text => layer.try_init(),
        LogFormat::Json => layer.json().try_init(),
    };
}

impl Options {
    fn setup(&self) -> anyhow::Result<Setup> {
        let here = std::env::current_dir()?;
        let cwd = match &self.cwd {
            Some(cwd) => here.join(cwd),
            None => here,
        };
        if !cwd.is_dir() {
            anyhow::bail!("working directory `{}` is not a directory", cwd.display());
        }
        Ok(Setup {
            cwd,
            cwd_named: self.cwd.is_some(),
            env_file: self.env_file.clone(),
            profile: self.profile.clone(),
            flags: self.flags()?,
            model: self.model.clone(),
            ephemeral: self.ephemeral,
            home: None,
            asker: Asker::Owner,
            record: None,
            workspace_tools: false,
            helper: None,
        })
    }
}
