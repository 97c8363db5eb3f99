//! The environment of a command: what tools need to work, nothing that looks like a secret, no pager, no colour.
//!
//! An allow list, since what a deny list forgets is handed to whatever the model runs.

use std::ffi::{OsStr, OsString};

/// Set for commands and external servers, so that agents do not call themselves without end.
pub const DEPTH: &str = "OPENOXIDE_DEPTH";

/// Names that pass.
const ALLOWED: &[&str] = &[
    // Who and where.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "HOSTNAME",
    "TMPDIR",
    "TMP",
    "TEMP",
    "TZ",
    "LANG",
    "LANGUAGE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "CI",
    "EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "NIX_PATH",
    "NIX_PROFILES",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PKG_CONFIG_PATH",
    "MANPATH",
    "INFOPATH",
    // How to reach the network, where the sandbox lets a command do so.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    // Where toolchains live.
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_NET_OFFLINE",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "GOPATH",
    "GOROOT",
    "GOBIN",
    "GOCACHE",
    "GOMODCACHE",
    "GOFLAGS",
    "GOPROXY",
    "GOPRIVATE",
    "GOTOOLCHAIN",
    "JAVA_HOME",
    "JDK_HOME",
    "MAVEN_HOME",
    "M2_HOME",
    "GRADLE_HOME",
    "GRADLE_USER_HOME",
    "KOTLIN_HOME",
    "SDKMAN_DIR",
    "ANDROID_HOME",
    "ANDROID_SDK_ROOT",
    "ANDROID_NDK_HOME",
    "DOTNET_ROOT",
    "DOTNET_CLI_HOME",
    "NUGET_PACKAGES",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "CONDA_EXE",
    "PIPX_HOME",
    "POETRY_HOME",
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "NVM_DIR",
    "NVM_BIN",
    "FNM_DIR",
    "VOLTA_HOME",
    "NODE_PATH",
    "NODE_ENV",
    "NODE_OPTIONS",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_CACHE",
    "PNPM_HOME",
    "BUN_INSTALL",
    "DENO_DIR",
    "COREPACK_HOME",
    "YARN_CACHE_FOLDER",
    "RBENV_ROOT",
    "RBENV_VERSION",
    "GEM_HOME",
    "GEM_PATH",
    "BUNDLE_PATH",
    "RUBYLIB",
    "PERL5LIB",
    "COMPOSER_HOME",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "MISE_DATA_DIR",
    "HOMEBREW_PREFIX",
    "HOMEBREW_CELLAR",
    "OPAMROOT",
    "OPAM_SWITCH_PREFIX",
    "STACK_ROOT",
    "GHCUP_INSTALL_BASE_PREFIX",
    "MIX_HOME",
    "HEX_HOME",
    "ZIG_GLOBAL_CACHE_DIR",
    "CUDA_HOME",
    "CC",
    "CXX",
    "LD",
    "AR",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "CMAKE_PREFIX_PATH",
    "SDKROOT",
    "DEVELOPER_DIR",
    "MACOSX_DEPLOYMENT_TARGET",
    "CCACHE_DIR",
    "SCCACHE_DIR",
];

/// Beginnings of names that pass.
const ALLOWED_PREFIXES: &[&str] = &["LC_"];

/// Parts of a name that speak of a secret, whatever else it says.
const SECRET_PARTS: &[&str] = &[
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "COOKIE",
];
/// The same as whole words between underscores: `KEY` is in `KEYBOARD`, too.
const SECRET_WORDS: &[&str] = &["KEY", "KEYS", "PASS", "PWD", "PAT", "DSN", "AUTH"];

/// What says who runs this process, and where they live.
const PERSONAL: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "HOSTNAME",
    "EMAIL",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
];
/// The home of commands whose owner has none here: it is private, and goes with their thread.
const NO_HOME: &str = "/tmp";

/// What every command gets. Programs that ask or page would wait for a person who is not there.
const FIXED: &[(&str, &str)] = &[
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("GH_PAGER", "cat"),
    ("MANPAGER", "cat"),
    ("SYSTEMD_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_EDITOR", "true"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

/// The environment of a command: what of `from` is allowed, then what is fixed, then `extra`, which the owner has
/// chosen by name and which is not judged, then the depth. Later ones win; each name comes once.
pub fn for_commands(
    from: impl Iterator<Item = (OsString, OsString)>,
    extra: &[(String, String)],
    depth: u32,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<_> = from.filter(|(name, value)| passes(name, value)).collect();
    let depth = depth.to_string();
    let owned = extra
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in FIXED
        .iter()
        .copied()
        .chain(owned)
        .chain([(DEPTH, depth.as_str())])
    {
        env.retain(|(known, _)| known != name);
        env.push((name.into(), value.into()));
    }
    env
}

/// `from` for the commands of somebody else than who runs this process.
pub fn of_a_stranger(
    from: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    from.filter(|(name, _)| !PERSONAL.iter().any(|personal| name == personal))
        .chain([("HOME".into(), NO_HOME.into())])
}

fn passes(name: &OsStr, value: &OsStr) -> bool {
    // All names on the list are text.
    let Some(name) = name.to_str() else {
        return false;
    };
    let allowed = ALLOWED.contains(&name)
        || ALLOWED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    allowed && !is_secret_name(name) && !has_login(&value.to_string_lossy())
}

/// Whether a variable called `name` looks like it holds a key, a token or a password.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut words = name.split(['_', '-', '.']);
    // The working directory is no password, unlike `DB_PWD`.
    name != "PWD"
        && (SECRET_PARTS.iter().any(|part| name.contains(part))
            || words.any(|word| SECRET_WORDS.contains(&word)))
}

/// `http://user:password@proxy`
fn has_login(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ',', ' ']).next().unwrap_or(rest);
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(from: &[(&str, &str)], extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let extra: Vec<_> = extra.iter().map(owned).collect();
        let from = from.iter().map(|(name, value)| (name.into(), value.into()));
        for_commands(from, &extra, 1)
            .into_iter()
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect()
    }

    fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut values = env.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    #[test]
    fn what_tools_need_passes_and_the_rest_does_not() {
        let env = made(
            &[
                ("PATH", "/bin"),
                ("LC_ALL", "C"),
                ("CARGO_HOME", "/c"),
                ("OPENAI_API_KEY", "sk-1"),
                ("AWS_SECRET_ACCESS_KEY", "x"),
                ("LD_PRELOAD", "evil.so"),
                ("BASH_ENV", "evil.sh"),
                ("SSH_AUTH_SOCK", "/s"),
                ("LC_TOKEN", "x"),
                ("HTTP_PROXY", "http://ana:pw@proxy:8080"),
                ("HTTPS_PROXY", "http://proxy:8080"),
                ("OPENOXIDE_TOKENS", "x"),
                ("OPENOXIDE_DEPTH", "0"),
            ],
            &[],
        );
        let names: Vec<_> = env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..4], ["PATH", "LC_ALL", "CARGO_HOME", "HTTPS_PROXY"]);
        assert_eq!(names.len(), 4 + FIXED.len() + 1);
    }

    #[test]
    fn nothing_pages_colours_or_asks_unless_the_owner_says_so() {
        let env = made(
            &[("TERM", "xterm"), ("PAGER", "less")],
            &[("PAGER", "more"), ("MY_TOKEN", "given")],
        );
        assert_eq!(value(&env, "TERM"), Some("dumb"));
        assert_eq!(value(&env, "GIT_PAGER"), Some("cat"));
        assert_eq!(value(&env, "GIT_TERMINAL_PROMPT"), Some("0"));
        assert_eq!(value(&env, "PAGER"), Some("more"));
        assert_eq!(value(&env, "MY_TOKEN"), Some("given"));
    }

    #[test]
    fn a_stranger_hears_nothing_of_whoever_runs_this() {
        let own = [("HOME", "/home/ana"), ("EMAIL", "ana@x"), ("PATH", "/bin")];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let env: Vec<(OsString, OsString)> = of_a_stranger(own.into_iter()).collect();
        let left = [("PATH", "/bin"), ("HOME", "/tmp")];
        assert_eq!(env, left.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn the_depth_is_the_callers_and_nobody_elses() {
        let env = made(&[(DEPTH, "0")], &[(DEPTH, "0")]);
        assert_eq!(value(&env, DEPTH), Some("1"));
    }

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "API_KEY",
            "github_token",
            "DB_PASSWORD",
            "NPM_CONFIG__AUTH",
            "MY_PAT",
            "SENTRY_DSN",
            "DB_PWD",
            "PGPASSWORD",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "PATH",
            "GOPATH",
            "PASSENGER_ROOT",
            "PWD",
            "GIT_AUTHOR_NAME",
            "MONKEY",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
