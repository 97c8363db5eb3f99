//! The sandbox as the kernel sees it: what a command can reach, as root and as an ordinary user.
//!
//! The attempts are in `fixtures/sandbox/escapes.py`, and what they are made at in `stage.py`. On a machine that does not
//! offer the whole sandbox these tests say so and return.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const OPENOXIDE: &str = env!("CARGO_BIN_EXE_openoxide");
const SECRET: &str = "sk-probe-5f1c0a9b";
/// Nobody.
const ORDINARY: &str = "65534";

/// The program, and how to run it as somebody.
struct Machine {
    folder: tempfile::TempDir,
    ordinary: bool,
}

impl Machine {
    /// As whoever runs the tests, or, where that is root and `ordinary` is wanted, as nobody. None, with a word on
    /// standard error, where there is not what the test needs.
    fn with_sandbox(ordinary: bool) -> Option<Self> {
        if ordinary && !is_root() {
            // Then it is one already.
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("openoxide-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        open_to_all(folder.path());
        for file in ["escapes.py", "stage.py", "without.py"] {
            let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sandbox");
            std::fs::copy(fixture.join(file), folder.path().join(file)).unwrap();
        }
        let program = folder.path().join("openoxide");
        // Not by this process: a child of another test would hold the file open for writing, and it could not be run.
        let copied = Command::new("cp").arg(OPENOXIDE).arg(&program).status();
        assert!(copied.unwrap().success());
        open_to_all(&program);
        let machine = Self { folder, ordinary };
        if !Path::new("/usr/bin/python3").exists() {
            return skip("there is no /usr/bin/python3");
        }
        let doctor = machine.run(&["doctor"]);
        let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
        if found.starts_with("ok  sandbox: ") {
            Some(machine)
        } else {
            skip(&found)
        }
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = if self.ordinary {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("OPENAI_API_KEY", SECRET)
            .env("HOME", "/var/tmp")
            .env("OPENOXIDE_HOME", self.folder.path().join("home"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(&self.program(), arguments).output().unwrap()
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("openoxide")
    }

    /// A directory to work in, owned by whoever runs commands.
    fn workspace(&self) -> PathBuf {
        let workspace = self.folder.path().join("workspace");
        std::fs::create_dir_all(&workspace).unwrap();
        if self.ordinary {
            let id = ORDINARY.parse().ok();
            std::os::unix::fs::chown(&workspace, id, id).unwrap();
        }
        workspace
    }

    /// One line under `policy` in the workspace.
    fn sandboxed(&self, policy: &str, line: &str) -> (Option<i32>, String) {
        let workspace = self.workspace();
        let arguments = [
            "sandbox",
            policy,
            "--cwd",
            workspace.to_str().unwrap(),
            "--",
            line,
        ];
        let ran = self.run(&arguments);
        let output = [ran.stdout, ran.stderr].concat();
        (
            ran.status.code(),
            String::from_utf8_lossy(&output).into_owned(),
        )
    }

    /// The program, where the kernel refuses `layers`.
    fn without(&self, layers: &str) -> PathBuf {
        let place = self.folder.path().join(format!("without-{layers}"));
        let filter = self.folder.path().join("without.py");
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/python3 {} {layers} {} \"$@\"\n",
            filter.display(),
            self.program().display()
        );
        std::fs::write(&place, script).unwrap();
        open_to_all(&place);
        place
    }

    /// What the attempts come to.
    fn probe(&self, policy: &str) -> Vec<serde_json::Value> {
        self.probe_of(&self.program(), policy)
    }

    fn probe_of(&self, program: &Path, policy: &str) -> Vec<serde_json::Value> {
        let stage = self.folder.path().join("stage.py");
        let arguments = [stage.to_str().unwrap(), program.to_str().unwrap()].map(str::to_owned);
        let arguments = [arguments[0].as_str(), arguments[1].as_str(), policy];
        let ran = self
            .command(Path::new("/usr/bin/python3"), &arguments)
            .output()
            .unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            lines.contains("\"outside\""),
            "{lines}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn skip<T>(why: &str) -> Option<T> {
    crate::support::home::skipped(why.lines().next().unwrap_or_default());
    None
}

fn named(lines: &[serde_json::Value], key: &str, result: &str) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line["result"] == result && !line[key].is_null())
        .map(|line| format!("{}: {}", line[key], line["why"]))
        .collect()
}

#[test]
fn no_attempt_to_escape_succeeds_and_what_should_work_works() {
    for ordinary in [false, true] {
        let Some(machine) = Machine::with_sandbox(ordinary) else {
            continue;
        };
        for policy in ["workspace-write", "read-only"] {
            let lines = machine.probe(policy);
            let who = format!("{policy}, ordinary user: {ordinary}");
            let escaped = named(&lines, "escape", "ESCAPED");
            assert!(escaped.is_empty(), "{who}: {escaped:#?}");
            let broken = named(&lines, "work", "BROKEN");
            assert!(broken.is_empty(), "{who}: {broken:#?}");
            assert!(named(&lines, "escape", "denied").len() >= 100, "{who}");
            assert_eq!(
                lines.last().unwrap()["outside"],
                serde_json::json!([]),
                "{who}"
            );
        }
    }
}

/// What is not held without namespaces, and the words that say so. Whatever else gets out is not named.
const NAMED: &[(&str, &[&str])] = &[
    (
        "`.git/config`, `.git/hooks`, `.mcp.json` and the like are writable",
        &[
            "git",
            "hook",
            "openoxide_configuration",
            "mcp",
            "vscode",
            "envrc",
            "repository",
        ],
    ),
    (
        "modes, owners, times and attributes of files outside can be changed",
        &["chmod", "chown", "utimes", "setxattr"],
    ),
    (
        "names of files in closed places such as `~/.ssh` can be seen",
        &["list_ssh"],
    ),
    (
        "other processes and their open files can be seen, their priorities and limits changed",
        &["descriptors_of_the_server", "renice", "affinity", "pidfd"],
    ),
    // An ordinary user cannot empty the set that bounds what new privileges could bring; there are none.
    ("", &["capabilities"]),
];

#[test]
fn whatever_a_missing_layer_lets_out_is_named() {
    for (ordinary, layers, by) in [
        (false, "namespaces", "landlock+seccomp, partial"),
        (true, "namespaces", "landlock+seccomp, partial"),
        (true, "network", "namespaces+landlock+seccomp, partial"),
        (false, "landlock", "namespaces+seccomp, whole"),
    ] {
        let Some(machine) = Machine::with_sandbox(ordinary) else {
            continue;
        };
        let program = machine.without(layers);
        let doctor = machine.command(&program, &["doctor"]).output().unwrap();
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.contains(by), "{layers}: {doctor}");
        let lines = machine.probe_of(&program, "workspace-write");
        for escaped in named(&lines, "escape", "ESCAPED") {
            let words = NAMED
                .iter()
                .find(|(_, signs)| signs.iter().any(|sign| escaped.contains(sign)));
            let named = words.is_some_and(|(words, _)| doctor.contains(words));
            assert!(
                layers == "namespaces" && named,
                "{layers}, {ordinary}: {escaped}: {doctor}"
            );
        }
        assert!(named(&lines, "escape", "denied").len() >= 80, "{layers}");
    }
}

#[test]
fn where_nothing_can_be_enforced_nothing_runs_in_silence() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    for layers in [
        "namespaces,landlock",
        "seccomp",
        "namespaces,landlock,seccomp",
    ] {
        let program = machine.without(layers);
        let run = |arguments: &[&str]| {
            let ran = machine.command(&program, arguments).output().unwrap();
            let said = [ran.stdout, ran.stderr].concat();
            (
                ran.status.code(),
                String::from_utf8_lossy(&said).into_owned(),
            )
        };
        let (code, said) = run(&["doctor"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("sandbox: none"), "{said}");
        let workspace = machine.workspace();
        let cwd = workspace.to_str().unwrap();
        let (code, said) = run(&["sandbox", "workspace-write", "--cwd", cwd, "--", "touch x"]);
        assert_eq!(code, Some(2), "{said}");
        let model = machine.folder.path().join("model.json");
        let calls = serde_json::json!({"model": "recorded", "samples": [{"calls": [
            {"name": "shell", "arguments": {"command": "touch ran"}},
            {"name": "write_file", "arguments": {"path": "written", "content": "x"}},
            {"name": "write_file", "arguments": {"path": "../outside", "content": "x"}}]}, {"text": "done"}]});
        std::fs::write(&model, calls.to_string()).unwrap();
        let recorded = format!("recorded:{}", model.display());
        let turn = |options: &[&str]| {
            let _ = std::fs::remove_file(workspace.join("written"));
            let common = [
                "-m",
                "go",
                "--model",
                &recorded,
                "--ephemeral",
                "--output",
                "json",
                "--cwd",
                cwd,
            ];
            let (_, said) = run(&[&common, options].concat());
            let found = (
                workspace.join("ran").exists(),
                workspace.join("written").exists(),
            );
            (said, found)
        };
        for policy in ["on-request", "never"] {
            let (said, found) =
                turn(&["--sandbox", "workspace-write", "--approval-policy", policy]);
            assert_eq!(found, (false, true), "{layers}, {policy}: {said}");
            for words in [
                "--sandbox danger-full-access",
                "\"by\":\"none\"",
                "\"filesystem\"",
            ] {
                assert!(said.contains(words), "{layers}, {policy}: {words}: {said}");
            }
        }
        let (said, found) = turn(&["--sandbox", "read-only"]);
        assert_eq!(found, (false, false), "{layers}: {said}");
        assert!(!machine.folder.path().join("outside").exists());
        for how in [&["demo"][..], &["demo", "--mcp"]] {
            let (code, said) = run(how);
            assert_eq!(code, Some(0), "{layers}: {said}");
            assert!(said.contains("nothing was enforced"), "{layers}: {said}");
        }
    }
}

/// A probe that nothing stops must get out, or it proves nothing.
#[test]
fn without_a_sandbox_the_attempts_succeed() {
    let Some(machine) = Machine::with_sandbox(is_root()) else {
        return;
    };
    let lines = machine.probe("danger-full-access");
    let escaped = named(&lines, "escape", "ESCAPED").len();
    assert!(escaped >= 70, "{:#?}", named(&lines, "escape", "denied"));
}

#[test]
fn the_usual_tools_work_inside() {
    for ordinary in [false, true] {
        let Some(machine) = Machine::with_sandbox(ordinary) else {
            continue;
        };
        for (tool, line) in [
            (
                "git",
                "git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --oneline | grep -c x",
            ),
            (
                "python3",
                "/usr/bin/python3 -c 'import json, subprocess; print(json.dumps(subprocess.check_output([\"echo\", \"1\"]).decode()))'",
            ),
            (
                "make",
                "printf 'all:\\n\\t@echo made\\n' >Makefile && make -j4",
            ),
            (
                "cc",
                "printf 'int main(void) { return 0; }' >a.c && cc -o a a.c && ./a",
            ),
            (
                "npm",
                "mkdir -p js && cd js && echo '{\"name\": \"a\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"node -e 1\"}}' >package.json && npm test --silent",
            ),
        ] {
            if !in_path(tool) {
                skip::<()>(&format!("there is no {tool}"));
                continue;
            }
            let (code, output) = machine.sandboxed("workspace-write", line);
            assert_eq!(code, Some(0), "{tool}, ordinary user: {ordinary}: {output}");
        }
    }
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user cannot look into root's home, where some tools of CI are.
    std::env::split_paths(&path)
        .filter(|place| !place.starts_with("/root"))
        .any(|place| place.join(tool).exists())
}

#[test]
fn cargo_builds_inside() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let line = "cargo init -q --name probe . && cargo build -q --offline && cargo run -q --offline";
    let arguments = ["sandbox", "workspace-write", "--cwd"];
    let workspace = machine.workspace();
    let ran = machine
        .command(&machine.program(), &arguments)
        .arg(&workspace)
        .args(["--", line])
        .env("HOME", std::env::var_os("HOME").unwrap_or_default())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "Hello, world!\n",
        "{said}"
    );
}

#[test]
fn codes_and_signals_come_through() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    for (line, code) in [
        ("exit 7", 7),
        ("nonesuch-command", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$; sleep 5", 143),
    ] {
        assert_eq!(machine.sandboxed("read-only", line).0, Some(code), "{line}");
    }
}

#[test]
fn the_death_of_openoxide_ends_all_that_a_command_started() {
    for ordinary in [false, true] {
        let Some(machine) = Machine::with_sandbox(ordinary) else {
            continue;
        };
        let token = format!("98{}", std::process::id());
        let line = format!(
            "setsid sh -c 'trap \"\" TERM HUP; sleep {token}1 & sleep {token}2' >/dev/null 2>&1 & \
             (env -i setsid sleep {token}3 >/dev/null 2>&1 &); sleep {token}4"
        );
        let workspace = machine.workspace();
        let arguments = [
            "sandbox",
            "workspace-write",
            "--cwd",
            workspace.to_str().unwrap(),
            "--",
            &line,
        ];
        let mut openoxide = machine
            .command(&machine.program(), &arguments)
            .spawn()
            .unwrap();
        let mut waited = Instant::now();
        while sleepers(&token) < 4 && waited.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(5));
        }
        assert_eq!(sleepers(&token), 4);
        openoxide.kill().unwrap();
        openoxide.wait().unwrap();
        waited = Instant::now();
        while sleepers(&token) > 0 && waited.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(5));
        }
        assert_eq!(sleepers(&token), 0, "ordinary user: {ordinary}");
    }
}

/// Processes called `sleep` with an argument that begins with `token`.
fn sleepers(token: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let sleeps = |process: &std::fs::DirEntry| {
        std::fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| line.starts_with(format!("sleep\0{token}").as_bytes()))
    };
    processes.filter(sleeps).count()
}

#[test]
fn a_program_that_was_replaced_still_confines() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let line = "for i in 1 2 3; do sleep 0.2; done; touch /etc/openoxide-was-here || echo held";
    let workspace = machine.workspace();
    let arguments = [
        "sandbox",
        "workspace-write",
        "--cwd",
        workspace.to_str().unwrap(),
        "--",
        line,
    ];
    let running = machine
        .command(&machine.program(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::fs::remove_file(machine.program()).unwrap();
    let ran = running.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "held\n");
}

#[test]
fn commits_work_in_a_linked_worktree_and_its_orders_are_held() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let made = Command::new("sh")
        .args(["-c", "git init -q main && cd main && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git worktree add -q ../workspace"])
        .current_dir(machine.folder.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .unwrap();
    assert!(made.success());
    let commit = "touch a && git add a && git -c user.name=a -c user.email=a@b commit -q -m y && git log --oneline | wc -l";
    assert_eq!(
        machine.sandboxed("workspace-write", commit),
        (Some(0), "2\n".to_owned())
    );
    for line in [
        "echo x >../main/.git/hooks/pre-commit",
        "echo x >>../main/.git/config",
        "echo x >../main/.git/info/attributes",
        "mv ../main/.git/hooks ../main/.git/h",
        "echo gitdir: /tmp >.git",
        "echo x >../main/file",
        "echo / >$(git rev-parse --git-dir)/commondir",
    ] {
        let (code, output) = machine.sandboxed("workspace-write", line);
        assert_ne!(code, Some(0), "{line}: {output}");
    }
    assert_ne!(machine.sandboxed("read-only", commit).0, Some(0));
}

/// A sandbox lets nobody make namespaces, so an openoxide inside one has only a part of its own, and must say so.
#[test]
fn where_only_a_part_can_be_had_it_is_named_and_still_holds() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let program = machine.program();
    let inside = |line: &str| {
        let line = line.replace("openoxide", program.to_str().unwrap());
        machine.sandboxed(
            "workspace-write",
            &format!("export HOME=/tmp OPENOXIDE_HOME=/tmp/o; {line}"),
        )
    };
    let (code, output) = inside("openoxide doctor");
    assert_eq!(code, Some(1), "{output}");
    for words in [
        "landlock+seccomp, partial",
        "`.git/config`",
        "policy.accept_partial",
    ] {
        assert!(output.contains(words), "{words}: {output}");
    }
    let (_, output) = inside(
        "mkdir -p p /tmp/o/threads && cd p && echo secret >/tmp/o/threads/x && openoxide sandbox workspace-write -- \
         'touch in; touch /tmp/out; cat /tmp/o/threads/x; touch $TMPDIR/t && ls'",
    );
    assert!(
        output.contains("warning: the sandbox is landlock+seccomp only"),
        "{output}"
    );
    assert!(output.starts_with("in\n"), "{output}");
    assert_eq!(output.matches("Permission denied").count(), 2, "{output}");
}

/// A turn of the whole program whose model runs `command` and ends; its outcome.
fn turn(command: &str, options: &str) -> String {
    let model = serde_json::json!({"model": "recorded", "samples": [
        {"calls": [{"name": "shell", "arguments": {"command": command}}]}, {"text": "done"}]});
    format!(
        "mkdir -p t && cd t && cat >../model.json <<'END'\n{model}\nEND\n\
         openoxide -m go --model recorded:../model.json --ephemeral --output json {options}"
    )
}

#[test]
fn the_outcome_says_what_held_the_commands() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let program = machine.program();
    let run = |line: &str, inside: bool| {
        let line = line.replace("openoxide ", &format!("{} ", program.to_str().unwrap()));
        let line = format!("export HOME=$PWD OPENOXIDE_HOME=$PWD/o; {line}");
        // Inside a sandbox only a part of another can be had.
        let policy = if inside {
            "workspace-write"
        } else {
            "danger-full-access"
        };
        let (_, output) = machine.sandboxed(policy, &line);
        output
            .lines()
            .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .or_else(|| serde_json::from_str(&output[output.find('{')?..=output.rfind('}')?]).ok())
            .unwrap_or_else(|| panic!("{output}"))
    };
    let whole = "namespaces+landlock+seccomp";
    let write = "touch /var/tmp/openoxide-was-here";
    for policy in ["workspace-write", "read-only"] {
        let outcome = run(&turn(write, &format!("--sandbox {policy}")), false);
        let sandbox = &outcome["sandbox"];
        assert_eq!(
            (&sandbox["by"], &sandbox["missing"]),
            (&whole.into(), &serde_json::Value::Null)
        );
        assert_eq!(sandbox["network"], false);
        assert_ne!(outcome["commands"][0]["exit_code"], 0, "{outcome}");
    }
    let outcome = run(&turn("touch here", "--sandbox workspace-write"), true);
    assert_eq!(outcome["sandbox"]["by"], "landlock+seccomp", "{outcome}");
    assert!(
        outcome["denied"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("policy.accept_partial"),
        "{outcome}"
    );
    let accepted = turn(
        "touch here",
        "--sandbox workspace-write -c policy.accept_partial=true",
    );
    let outcome = run(&accepted, true);
    assert_eq!(outcome["commands"][0]["exit_code"], 0, "{outcome}");
    assert!(
        outcome["sandbox"]["missing"][0]
            .as_str()
            .unwrap()
            .contains(".git/config"),
        "{outcome}"
    );
}

#[test]
fn the_demo_works_where_only_a_part_is_enforced_and_says_so() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    for how in ["demo", "demo --mcp"] {
        let line = format!("export HOME=/tmp; {} {how}", machine.program().display());
        let (code, output) = machine.sandboxed("workspace-write", &line);
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("ran in a partial sandbox"), "{output}");
    }
}

/// A plan as openoxide hands it to its helper.
fn plan(namespaces: bool, workdir: &Path, places: serde_json::Value) -> String {
    let mut plan = serde_json::json!({
        "layers": {
            "namespaces": namespaces, "sealed": namespaces, "own_network": namespaces, "own_proc": namespaces,
            "landlock": true, "seccomp": true,
        },
        "seen": null, "writable": [], "readable": [], "pinned": [], "read_only": [], "hidden": [], "sockets": [],
        "scratch": null, "network": false, "workdir": workdir,
    });
    let named = places.as_object().unwrap().clone();
    plan.as_object_mut().unwrap().extend(named);
    plan.to_string()
}

#[test]
fn a_directory_that_became_a_symlink_on_the_way_to_a_place_ends_the_command() {
    let Some(machine) = Machine::with_sandbox(false) else {
        return;
    };
    let base = machine.folder.path().canonicalize().unwrap();
    std::fs::create_dir_all(base.join("w/sub/b")).unwrap();
    std::fs::create_dir_all(base.join("out/b")).unwrap();
    let place = base.join("w/sub/b");
    let attempt = |namespaces: bool, workdir: &Path, places: serde_json::Value| {
        let plan = plan(namespaces, workdir, places);
        let parent = std::process::id().to_string();
        let line = format!("echo owned >{}/owned", place.display());
        let arguments = ["sandbox-exec", &plan, &parent, "--", "sh", "-c", &line];
        let ran = machine.command(&machine.program(), &arguments).output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.code(), said)
    };
    for namespaces in [true, false] {
        let writable = serde_json::json!({"writable": [place]});
        let (code, said) = attempt(namespaces, &place, writable);
        assert_eq!(code, Some(0), "as long as it is a directory: {said}");
        std::fs::remove_file(place.join("owned")).unwrap();
    }
    std::fs::rename(base.join("w/sub"), base.join("w/before")).unwrap();
    std::os::unix::fs::symlink("../out", base.join("w/sub")).unwrap();
    for namespaces in [true, false] {
        let kinds: &[&str] = match namespaces {
            true => &["writable", "pinned", "read_only", "hidden"],
            false => &["writable", "readable"],
        };
        for kind in kinds {
            let (code, said) = attempt(namespaces, &base, serde_json::json!({*kind: [place]}));
            assert_eq!(code, Some(125), "{kind}: {said}");
            assert!(
                said.contains("sub/b`: a symlink stands on the way"),
                "{kind}: {said}"
            );
        }
        let (code, said) = attempt(namespaces, &place, serde_json::json!({}));
        assert_eq!(code, Some(125), "{said}");
        assert!(said.contains("a symlink stands on the way"), "{said}");
    }
    assert!(!base.join("out/b/owned").exists());
}
