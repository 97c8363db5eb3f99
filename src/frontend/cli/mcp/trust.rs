//! `openoxide mcp trust NAME`: a person at a terminal agrees to a server that a project names, having seen all that the
//! agreement is bound to.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, bail};

use super::{FAILING, chosen};
use crate::{
    app::{App, Standing},
    config,
    conversation::shown_line,
    frontend::cli::OK,
    tools::mcp::Settings,
};

/// Shows what would be started and asks; only a person at a terminal can say yes.
pub(super) fn run(app: &App, name: &str) -> anyhow::Result<u8> {
    let external = chosen(app.external(|_| false)?, Some(name))?.remove(0);
    let shown = shown_line(name);
    if external.standing != Standing::Untrusted {
        bail!("the external server `{shown}` needs no trust: it is your own, or trusted already");
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("only a person at a terminal can trust a server that a project names");
    }
    let directory = app.cwd().canonicalize().context("the working directory")?;
    let mut out = io::stderr().lock();
    for line in wants(&shown, &external.settings, &directory) {
        writeln!(out, "{line}")?;
    }
    write!(out, "Trust it? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        writeln!(out, "not trusted")?;
        return Ok(FAILING);
    }
    app.trust()
        .agree(&external.name, &external.settings, &directory)?;
    writeln!(out, "trusted, until it changes")?;
    Ok(OK)
}

/// All that the agreement is bound to, and whose secrets would go where.
fn wants(name: &str, settings: &Settings, directory: &Path) -> Vec<String> {
    let Settings {
        command,
        args,
        env,
        cwd,
        url,
        headers,
        bearer_token_env,
        oauth,
        ..
    } = settings;
    let (whom, mut lines) = match url {
        Some(url) => (
            host(url),
            vec![
                format!("This project wants to send to the external server `{name}`:"),
                format!("  {}", quoted(url)),
            ],
        ),
        None => (
            "that program".to_owned(),
            vec![format!(
                "This project wants to start the external server `{name}`:"
            )],
        ),
    };
    if let Some(command) = command {
        let words = [command].into_iter().chain(args).map(|word| quoted(word));
        lines.push(format!("  {}", words.collect::<Vec<_>>().join(" ")));
    }
    let place = directory.join(cwd.clone().unwrap_or_default());
    let place = place.canonicalize().unwrap_or(place);
    lines.push(format!("  in {}", shown_line(&place.to_string_lossy())));
    let pairs = |what: &'static str| {
        move |(name, value): (&String, &String)| {
            format!("  with {what} {}={}", shown_line(name), quoted(value))
        }
    };
    lines.extend(env.iter().map(pairs("the variable")));
    lines.extend(headers.iter().map(pairs("the header")));
    let goes = |variable: &str| {
        format!(
            "  the value of your variable `{}` goes to {whom}",
            shown_line(variable)
        )
    };
    lines.extend(
        config::variables(settings)
            .iter()
            .map(|variable| goes(variable)),
    );
    let token = bearer_token_env.iter();
    lines.extend(token.map(|variable| format!("{}, as its token", goes(variable))));
    if let Some(id) = &oauth.client_id {
        lines.push(format!("  a sign-in there is as the client {}", quoted(id)));
    }
    let secret = oauth.client_secret_env.iter();
    let secret = secret.map(|variable| {
        format!(
            "  the value of your variable `{}` goes to whoever gives tokens for it, at a sign-in",
            shown_line(variable)
        )
    });
    lines.extend(secret);
    if let Some(port) = oauth.callback_port {
        lines.push(format!(
            "  a sign-in there comes back to port {port} of this machine"
        ));
    }
    if !oauth.scopes.is_empty() {
        let scopes: Vec<String> = oauth.scopes.iter().map(|scope| quoted(scope)).collect();
        lines.push(format!("  a sign-in there asks for {}", scopes.join(" ")));
    }
    lines.push(match url {
        Some(_) => "What the agent asks of it leaves this machine.".to_owned(),
        None => "It runs outside the sandbox, as you.".to_owned(),
    });
    lines
}

/// A word as one: where it begins and ends can be seen, and no character in it hides.
fn quoted(word: &str) -> String {
    shown_line(&format!(
        "\"{}\"",
        word.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

fn host(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let authority = after.split(['/', '?', '#']).next().unwrap_or(after);
    // What stands before it is a name to be known by, made to look like a host perhaps.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("`{}`", shown_line(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::mcp::Registered;

    #[test]
    fn all_that_is_agreed_to_is_shown() {
        let program = Settings {
            command: Some("run me".to_owned()),
            args: vec!["a b".to_owned(), "c\"d".to_owned()],
            env: [("A".to_owned(), "${HOME_TOKEN}".to_owned())].into(),
            cwd: Some("sub".into()),
            ..Settings::default()
        };
        let lines = wants("s", &program, Path::new("/project")).join("\n");
        for part in [
            r#""run me" "a b" "c\"d""#,
            "in /project/sub",
            r#"the variable A="${HOME_TOKEN}""#,
            "`HOME_TOKEN` goes to that program",
            "outside the sandbox",
        ] {
            assert!(lines.contains(part), "no {part} in {lines}");
        }
        let net = Settings {
            url: Some("https://good.example@evil.example/${PATH_TOKEN}".to_owned()),
            headers: [("x-key".to_owned(), "${SECRET}".to_owned())].into(),
            bearer_token_env: Some("BEARER".to_owned()),
            oauth: Registered {
                client_id: Some("id".to_owned()),
                client_secret_env: Some("CLIENT_SECRET".to_owned()),
                callback_port: Some(4711),
                scopes: vec!["all".to_owned()],
            },
            ..Settings::default()
        };
        let lines = wants("s", &net, Path::new("/project")).join("\n");
        for part in [
            "the header x-key=\"${SECRET}\"",
            "`PATH_TOKEN` goes to `evil.example`",
            "`SECRET` goes to `evil.example`",
            "`BEARER` goes to `evil.example`, as its token",
            "`CLIENT_SECRET`",
            "the client \"id\"",
            "port 4711",
            "asks for \"all\"",
        ] {
            assert!(lines.contains(part), "no {part} in {lines}");
        }
    }
}
