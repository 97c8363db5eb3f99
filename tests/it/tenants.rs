//! Two tenants of one server: whatever one of them tries, it does not see, guess or disturb what the other has.
//!
//! Each attack stands in a table, and what is denied with the neighbour's place is tried with the own one too, where it
//! must work: a wall that nothing gets through is no wall but a grave.

use std::{
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use openoxide::{
    app::{App, Asker, Setup, Tenant, Wish},
    config::assignment,
    conversation::{Item, Outcome, OutputStatus, SandboxPolicy, Status, ThreadId},
    thread::{Header, Started, ThreadHandle},
};
use serde_json::{Value, json};

use crate::support::{
    client::word,
    home::{Home, PATIENCE, run, skipped},
    model_server::{ModelServer, Reply},
    web::{ANA, BOB, Service, Visitor},
};

/// What must not be seen.
const SECRET: &str = "the-work-of-bob";
const OWN: &str = "the-work-of-alice";

/// Two tenants, each with a root of its own and a part of the workspaces.
struct Town {
    folder: tempfile::TempDir,
    app: App,
    alice: App,
    bob: App,
}

/// One call and what came of it.
struct Tried {
    status: OutputStatus,
    said: String,
}

impl Town {
    /// None, with a word on standard error, where this machine keeps nobody apart.
    fn new(flags: &[&str]) -> Option<Self> {
        // Not in `/tmp`, which is another one for every command anyway.
        let folder = tempfile::Builder::new()
            .prefix("openoxide-it-")
            .tempdir_in("/var/tmp");
        Self::within(folder.unwrap(), flags)
    }

    fn within(folder: tempfile::TempDir, flags: &[&str]) -> Option<Self> {
        let at = |name: &str| folder.path().join(name);
        for (name, work) in [("alice", OWN), ("bob", SECRET)] {
            let root = at("work").join(name);
            std::fs::create_dir_all(root.join("deep")).unwrap();
            std::fs::write(root.join("work.txt"), work).unwrap();
            std::fs::write(root.join("deep/AGENTS.md"), work).unwrap();
        }
        let mut all = vec![
            format!("model.name='recorded:{}'", at("model.json").display()),
            format!("server.workspaces='{}'", at("workspaces").display()),
        ];
        for name in ["alice", "bob"] {
            let root = at("work").join(name);
            all.push(format!(
                "server.tenants.{name}.roots=['{}']",
                root.display()
            ));
        }
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let setup = Setup {
            cwd: at("work"),
            home: Some(at("state")),
            asker: Asker::Caller,
            helper: Some(env!("CARGO_BIN_EXE_openoxide").into()),
            flags: all.iter().map(|flag| assignment(flag).unwrap()).collect(),
            ..Setup::default()
        };
        let app = App::build(setup).unwrap();
        match app.can_separate_tenants() {
            Err(why) if why.contains("it takes namespaces") => {
                skipped(&why);
                return None;
            }
            apart => apart.unwrap(),
        }
        let of = |name| app.of(Tenant::new(name, &app.config().server, true).unwrap());
        Some(Self {
            alice: of("alice"),
            bob: of("bob"),
            app,
            folder,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.at("work").join(name)
    }

    async fn header(&self, app: &App, wish: Wish) -> Header {
        self.will_call(&[]);
        app.header(wish).await.unwrap()
    }

    fn will_call(&self, calls: &[(&str, Value)]) {
        let calls = calls
            .iter()
            .map(|(name, arguments)| json!({"calls": [{"name": name, "arguments": arguments}]}));
        let samples: Vec<Value> = calls.chain([json!({"text": "done"})]).collect();
        let recording = json!({"model": "recorded", "samples": samples});
        std::fs::write(self.at("model.json"), recording.to_string()).unwrap();
    }

    /// What runs in the background ends.
    async fn end(&self) {
        for app in [&self.alice, &self.bob] {
            app.threads().shut_down(PATIENCE).await;
        }
    }

    /// A thread of `app` as wished, whose model makes these calls.
    async fn begin(
        &self,
        app: &App,
        wish: Wish,
        calls: &[(&str, Value)],
    ) -> (ThreadHandle, Started) {
        self.will_call(calls);
        let header = app.header(wish).await.unwrap();
        let thread = app.threads().create(header).unwrap();
        let started = thread.start("go".to_owned()).await.unwrap();
        (thread, started)
    }

    /// A thread of `app` as wished, whose model makes these calls, run to its end.
    async fn act(
        &self,
        app: &App,
        wish: Wish,
        calls: &[(&str, Value)],
    ) -> (ThreadHandle, Arc<Outcome>, Vec<Tried>) {
        let (thread, started) = self.begin(app, wish, calls).await;
        let outcome = started.outcome.await.unwrap();
        let items = thread.subscribe().await.unwrap().items;
        let tried = items.into_iter().filter_map(|item| match item {
            Item::ToolOutput(output) => Some(Tried {
                status: output.status,
                said: output.content,
            }),
            _ => None,
        });
        let tried: Vec<Tried> = tried.collect();
        assert_eq!(tried.len(), calls.len(), "{outcome:?}");
        (thread, outcome, tried)
    }
}

impl Tried {
    /// Without what is said of its end.
    fn printed(&self) -> &str {
        let end = self.said.rfind("[exit").unwrap_or(self.said.len());
        self.said[..end].trim()
    }
}

fn in_directory(cwd: &Path) -> Wish {
    Wish {
        cwd: Some(cwd.to_owned()),
        ..Wish::default()
    }
}

fn shell(line: impl Into<String>) -> (&'static str, Value) {
    let line: String = line.into();
    ("shell", json!({"command": line}))
}

/// What somebody tries at `place`, which `link` in the workspace leads to.
fn attempts(place: &Path) -> Vec<(&'static str, Value)> {
    let at = |name: &str| place.join(name).display().to_string();
    let dir = place.display();
    vec![
        ("read_file", json!({"path": at("work.txt")})),
        ("read_file", json!({"path": "link/work.txt"})),
        (
            "read_file",
            json!({"path": format!("{dir}/deep/../work.txt")}),
        ),
        ("list_files", json!({"path": at("")})),
        ("search", json!({"pattern": "the-work", "path": at("")})),
        ("search", json!({"pattern": "the-work", "path": "link/"})),
        (
            "edit_file",
            json!({"path": at("work.txt"), "edits": [{"search": "the", "replace": "no"}]}),
        ),
        ("write_file", json!({"path": at("left"), "content": "x"})),
        shell(format!("cat {dir}/work.txt")),
        shell("cat link/work.txt"),
        shell(format!("ls {dir}; ls {dir}/deep; ls {dir}/..")),
        shell(format!("ln {dir}/work.txt hard; cat hard")),
        shell(format!("cp -r {dir} copy && cat copy/work.txt")),
        shell(format!(
            "cat /proc/1/root{dir}/work.txt /proc/self/root{dir}/work.txt"
        )),
        shell(format!("cd {dir} && cat work.txt")),
        shell(format!(
            "echo x >{dir}/left; mkdir {dir}/made; rm {dir}/work.txt"
        )),
        (
            "shell",
            json!({"command": "cat work.txt", "workdir": at("")}),
        ),
        shell("grep -rs the-work / --include=work.txt --exclude-dir=proc --exclude-dir=sys"),
    ]
}

/// The first of these show something where the place is one's own.
const WORK_AT_HOME: usize = 6;

#[tokio::test]
async fn a_tenant_reads_and_changes_nothing_of_another() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    let (own, bobs) = (town.root("alice"), town.root("bob"));
    symlink(&bobs, own.join("link")).unwrap();
    let calls = attempts(&bobs);
    let (_, outcome, tried) = town.act(&town.alice, in_directory(&own), &calls).await;
    for (call, tried) in calls.iter().zip(&tried) {
        assert!(!tried.said.contains(SECRET), "{call:?}: {}", tried.said);
        let names = ["deep/AGENTS.md", "deep\n", "bob\n"];
        let seen = names.iter().find(|name| tried.said.contains(**name));
        assert_eq!(seen, None, "{call:?}: {}", tried.said);
    }
    assert!(outcome.changes.is_empty(), "{:?}", outcome.changes);
    let kept = std::fs::read_to_string(bobs.join("work.txt")).unwrap();
    assert_eq!(kept, SECRET);
    assert!(!bobs.join("left").exists() && !bobs.join("made").exists());
    for copied in ["hard", "copy"] {
        assert!(!own.join(copied).exists(), "{copied}");
    }
    // The same at home.
    std::fs::remove_file(own.join("link")).unwrap();
    symlink("../alice", own.join("link")).unwrap();
    let calls = attempts(&own);
    let (_, _, tried) = town.act(&town.alice, in_directory(&own), &calls).await;
    for (call, tried) in calls.iter().zip(&tried).take(WORK_AT_HOME) {
        let works = tried.said.contains(OWN) || tried.said.contains("work.txt");
        assert!(works, "{call:?}: {}", tried.said);
    }
    assert!(own.join("left").exists() && own.join("made").exists());
    assert!(own.join("hard").exists() && own.join("copy").exists());
}

/// What a command of one among several finds, without a word of error.
const FOUND: &[(&str, &str)] = &[
    // Of the machine, the system alone.
    (
        "ls -A / | grep -v -x -f /dev/fd/3 3<<<$'bin\ndev\netc\nlib\nlib32\nlib64\nlibx32\nproc\nrun\nsbin\nsys\ntmp\nusr\nvar\nnix\ngnu'",
        "",
    ),
    ("ls -A /var/tmp/openoxide-it-*/work", "alice"),
    ("ls -A /home /root /srv /opt /mnt", ""),
    (
        "head -c 4 /etc/passwd; test -x /usr/bin/env && echo :",
        "root:",
    ),
    ("cat /etc/shadow /etc/gshadow | wc -c", "0"),
    // Its own processes.
    (
        "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -e 'bobs-serve[r]' -e 'tenants:[:]'",
        "0",
    ),
    ("set -- /proc/[0-9]*; [ $# -lt 5 ] && echo few", "few"),
    // Nothing is told by how it was made.
    (
        "cat /proc/self/mountinfo /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -e '/bo[b]' -e 'stat[e]/' -e 'ss[h]'",
        "0",
    ),
    ("env | grep -E '^(HOME|XDG|EMAIL|USER)'", "HOME=/tmp"),
    // Its own places.
    ("ls -A /tmp /dev/shm | grep -c planted", "0"),
    (
        "echo mine >/tmp/mine; echo mine >kept; cat /tmp/mine kept",
        "mine\nmine",
    ),
    (
        "touch /usr/left /etc/left /left /var/left || echo held",
        "held",
    ),
    ("unshare -Ur true || echo held", "held"),
];

#[tokio::test]
async fn commands_of_a_tenant_see_the_system_and_their_own_and_nothing_else() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    let bobs = vec![
        shell("echo of-bob >/tmp/planted; echo of-bob >/dev/shm/planted"),
        (
            "shell",
            json!({"command": "exec -a bobs-server sleep 600", "wait_seconds": 0.1}),
        ),
    ];
    let wish = in_directory(&town.root("bob"));
    let (_bob, _, tried) = town.act(&town.bob, wish, &bobs).await;
    assert!(tried[1].said.contains("still running"), "{}", tried[1].said);
    let quietly = |(line, _): &(&str, &str)| shell(format!("exec 2>/dev/null; {line}"));
    let calls: Vec<_> = FOUND.iter().map(quietly).collect();
    let wish = in_directory(&town.root("alice"));
    let (_alice, _, tried) = town.act(&town.alice, wish, &calls).await;
    for ((line, expected), tried) in FOUND.iter().zip(&tried) {
        assert_eq!(tried.printed(), *expected, "{line}");
    }
    town.end().await;
}

#[tokio::test]
async fn sockets_of_a_tenant_do_not_answer_another() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    if !Path::new("/usr/bin/python3").exists() {
        return skipped("there is no /usr/bin/python3");
    }
    let listeners = ["alice", "bob"].map(|name| UnixListener::bind(town.root(name).join("s")));
    let connect = |name: &str| {
        let script = format!(
            "import socket; socket.socket(socket.AF_UNIX).connect('{}'); print('connected')",
            town.root(name).join("s").display()
        );
        shell(format!("/usr/bin/python3 -c \"{script}\" 2>&1 | tail -n 1"))
    };
    // What somebody outside listens at is nobody's, also where it stands in the own directory.
    let calls = [
        connect("bob"),
        connect("alice"),
        shell(
            "/usr/bin/python3 -c \"import socket; a = socket.socket(socket.AF_UNIX); a.bind('t'); a.listen(); \
               socket.socket(socket.AF_UNIX).connect('t'); print('connected')\"",
        ),
    ];
    let wish = in_directory(&town.root("alice"));
    let (_, _, tried) = town.act(&town.alice, wish, &calls).await;
    assert!(tried[0].said.contains("No such file"), "{}", tried[0].said);
    assert!(!tried[1].said.contains("connected"), "{}", tried[1].said);
    assert_eq!(tried[2].printed(), "connected");
    drop(listeners);
}

#[tokio::test]
async fn nobody_lets_a_tenant_out_of_the_sandbox() {
    let Some(town) = Town::new(&["server.allow_full_access=true"]) else {
        return;
    };
    let own = town.root("alice");
    let calls = [(
        "shell",
        json!({"command": "echo out", "escalate": true, "reason": "to look round"}),
    )];
    let (_, outcome, tried) = town.act(&town.alice, in_directory(&own), &calls).await;
    assert_eq!(tried[0].status, OutputStatus::Denied);
    let why = &outcome.denied[0].reason;
    assert!(why.contains("the work of others"), "{why}");
    let wish = Wish {
        sandbox: Some(SandboxPolicy::DangerFullAccess),
        ..in_directory(&own)
    };
    let refused = town.alice.header(wish).await.unwrap_err().to_string();
    assert!(
        refused.contains("is for nobody on a server with several tenants"),
        "{refused}"
    );
    // Who is alone may.
    let alone = Tenant::new("alice", &town.app.config().server, false).unwrap();
    let wish = Wish {
        sandbox: Some(SandboxPolicy::DangerFullAccess),
        ..in_directory(&own)
    };
    assert!(town.app.of(alone).header(wish).await.is_ok());
}

#[tokio::test]
async fn a_directory_of_another_tenant_cannot_be_worked_in_or_guessed() {
    // The workspaces lie in a root of hers, and the root of his too.
    let Some(town) = Town::new(&[]) else {
        return;
    };
    let wide = format!(
        "server.tenants.alice.roots=['{}']",
        town.folder.path().display()
    );
    let Some(town) = Town::within(town.folder, &[&wide]) else {
        return;
    };
    let (thread, _, _) = town
        .act(&town.bob, Wish::default(), &[shell("echo x >mine")])
        .await;
    let workspace = thread.header().cwd.clone();
    let (in_alices, _, _) = town.act(&town.alice, Wish::default(), &[]).await;
    assert_eq!(
        std::fs::read_to_string(workspace.join("mine")).unwrap(),
        "x\n"
    );
    symlink(&workspace, town.root("alice").join("link")).unwrap();
    let words = async |cwd: &Path, query| {
        let wish = Wish {
            query,
            ..in_directory(cwd)
        };
        let error = town.alice.header(wish).await.err();
        let cwd = cwd.to_string_lossy().into_owned();
        error.map(|words| words.to_string().replacen(&cwd, "IT", 1))
    };
    let nowhere = words(&town.at("workspaces/bob/nowhere"), true).await;
    assert!(
        nowhere.as_ref().unwrap().contains("is outside"),
        "{nowhere:?}"
    );
    for place in [
        workspace.clone(),
        workspace.join(".."),
        town.root("bob"),
        town.root("bob/deep"),
        town.root("alice/link"),
        town.at("workspaces"),
        PathBuf::from("/etc"),
    ] {
        for query in [false, true] {
            assert_eq!(words(&place, query).await, nowhere, "{}", place.display());
        }
    }
    // What is above both: his work is not there.
    let calls = [
        ("list_files", json!({})),
        ("search", json!({"pattern": "the-work"})),
        ("read_file", json!({"path": "work/bob/work.txt"})),
        shell("ls -R work workspaces state; cat work/bob/work.txt"),
        shell(format!("ls -A {}/../*", in_alices.header().cwd.display())),
    ];
    let (_, _, tried) = town
        .act(&town.alice, in_directory(&town.at(".")), &calls)
        .await;
    for (call, tried) in calls.iter().zip(&tried) {
        let name = workspace
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        for sign in [SECRET, &name, "work/bob/work.txt\n", "rollout"] {
            assert!(!tried.said.contains(sign), "{call:?}: {}", tried.said);
        }
    }
    assert!(
        tried[0].said.contains("work/alice/work.txt"),
        "{}",
        tried[0].said
    );
    assert!(tried[1].said.contains(OWN), "{}", tried[1].said);
}

#[tokio::test]
async fn links_that_a_tenant_lays_lead_openoxide_itself_nowhere() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    // One repository around both, as of a company.
    std::fs::create_dir(town.at("work/.git")).unwrap();
    let own = town.root("alice");
    symlink("../bob/work.txt", own.join("AGENTS.md")).unwrap();
    let header = town.header(&town.alice, in_directory(&own)).await;
    assert!(!serde_json::to_string(&header).unwrap().contains(SECRET));
    let at_home = town
        .header(&town.alice, in_directory(&own.join("deep")))
        .await;
    assert!(serde_json::to_string(&at_home).unwrap().contains(OWN));
    std::fs::create_dir(own.join(".openoxide")).unwrap();
    symlink("../../bob/work.txt", own.join(".openoxide/config.toml")).unwrap();
    let refused = town
        .alice
        .header(in_directory(&own))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("leads out") && !refused.contains("the-work"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_repository_that_leads_to_another_one_opens_nothing_of_it() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    let git = |place: &Path, line: &str| {
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", line]).current_dir(place);
        let ran = sh.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
    };
    let (own, bobs) = (town.root("alice"), town.root("bob"));
    let commit = "git init -q && git add . && git -c user.name=b -c user.email=b@c commit -qm x";
    git(&bobs, commit);
    std::fs::write(
        own.join(".git"),
        format!("gitdir: {}/.git\n", bobs.display()),
    )
    .unwrap();
    let calls = [
        shell("git log -p; git show HEAD:work.txt; git status"),
        shell(format!(
            "echo x >{}/.git/left; cat {}/.git/HEAD",
            bobs.display(),
            bobs.display()
        )),
    ];
    let (_, _, tried) = town.act(&town.alice, in_directory(&own), &calls).await;
    for tried in &tried {
        assert!(
            !tried.said.contains(SECRET) && !tried.said.contains("refs/heads"),
            "{}",
            tried.said
        );
    }
    assert!(!bobs.join(".git/left").exists());
    let wish = Wish {
        isolated: true,
        ..in_directory(&own)
    };
    assert!(town.alice.header(wish.clone()).await.is_err());
    // At home, also in a worktree of its own.
    std::fs::remove_file(own.join(".git")).unwrap();
    git(&own, commit);
    let calls = [shell(
        "git log -p | grep the-work; git status --short; echo $?",
    )];
    for wish in [in_directory(&own), wish] {
        let (_, _, tried) = town.act(&town.alice, wish, &calls).await;
        assert!(tried[0].said.contains(OWN), "{}", tried[0].said);
    }
}

#[tokio::test]
async fn a_thread_of_another_is_one_that_is_not_there() {
    let Some(town) = Town::new(&[]) else {
        return;
    };
    let (bobs, his, _) = town
        .act(&town.bob, in_directory(&town.root("bob")), &[shell("true")])
        .await;
    let (own, hers, _) = town
        .act(
            &town.alice,
            in_directory(&town.root("alice")),
            &[shell("true")],
        )
        .await;
    let threads = town.alice.threads();
    let words = |id: ThreadId| {
        let found = threads.find(id).err().map(|error| error.to_string());
        let store = threads.store();
        let read = store.read(id).err().map(|error| error.to_string());
        let glance = store.glance(id).err().map(|error| error.to_string());
        let open = store.open(id).err().map(|error| error.to_string());
        let all = [found, read, glance, open];
        all.map(|words| words.map(|words| words.replace(&id.to_string(), "ID")))
    };
    let unknown = words(ThreadId::generate());
    assert!(unknown.iter().all(Option::is_some));
    assert_eq!(words(bobs.id()), unknown);
    assert_eq!(words(own.id()), [const { None }; 4]);
    assert_eq!(threads.store().ids().unwrap(), [own.id()]);
    assert_eq!(threads.store().list().unwrap().len(), 1);
    assert!(threads.in_memory(bobs.id()).is_none());
    // A task is a turn by its name.
    let (his, hers) = (his.turn_id, hers.turn_id);
    assert_eq!(threads.of_turn(his).await, None);
    assert_eq!(threads.of_turn(hers).await, Some(own.id()));
    assert_eq!(town.bob.threads().of_turn(his).await, Some(bobs.id()));
    // What is damaged is nobody's.
    let rollout = town
        .at("state/threads")
        .join(bobs.id().to_string())
        .join("rollout.jsonl");
    std::fs::write(rollout, "damage\n").unwrap();
    let fresh = town
        .app
        .of(Tenant::new("alice", &town.app.config().server, true).unwrap());
    let refused = fresh.threads().find(bobs.id()).err().unwrap().to_string();
    assert_eq!(refused, format!("there is no thread `{}`", bobs.id()));
}

#[tokio::test]
async fn a_tenant_keeps_as_many_threads_as_it_may_and_is_told_so_before_anything_is_made() {
    let Some(town) = Town::new(&["server.tenants.alice.threads=2"]) else {
        return;
    };
    for _ in 0..2 {
        town.act(&town.alice, Wish::default(), &[]).await;
    }
    let workspaces = || {
        std::fs::read_dir(town.at("workspaces/alice"))
            .unwrap()
            .count()
    };
    assert_eq!(workspaces(), 2);
    let refused = town
        .alice
        .header(Wish::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("2 threads are kept here") && refused.contains("server.threads"),
        "{refused}"
    );
    assert_eq!(workspaces(), 2);
    // Not his.
    town.act(&town.bob, Wish::default(), &[]).await;
    let fork = town.alice.threads().store().ids().unwrap()[0];
    let parent = town.alice.threads().find(fork).unwrap();
    let copy = town.alice.question_about(parent.header());
    let refused = town
        .alice
        .threads()
        .fork(copy, &[])
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("2 threads are kept here"), "{refused}");
    // With the thread goes its directory, and there is room again.
    let kept = openoxide::thread::DirectoryStore::new(town.at("state/threads"));
    openoxide::thread::ending::delete(&kept, fork).unwrap();
    assert_eq!(workspaces(), 1);
    town.act(&town.alice, Wish::default(), &[]).await;
}

#[tokio::test]
async fn turns_beyond_a_tenant_s_share_wait_and_nobody_else_does() {
    let Some(town) = Town::new(&["server.tenants.alice.turns_at_once=1"]) else {
        return;
    };
    let own = town.root("alice");
    let until_told = [shell("until [ -e go ]; do sleep 0.05; done")];
    let (_, first) = town
        .begin(&town.alice, in_directory(&own), &until_told)
        .await;
    let (second, waits) = town
        .begin(&town.alice, in_directory(&own), &[shell("echo x >ran")])
        .await;
    let (_, _, bobs) = town
        .act(
            &town.bob,
            in_directory(&town.root("bob")),
            &[shell("echo ran")],
        )
        .await;
    assert_eq!(bobs[0].printed(), "ran");
    assert!(!own.join("ran").exists());
    let standing = format!("{:?}", second.subscribe().await.unwrap().items);
    assert!(!standing.contains("ToolCall"), "{standing}");
    std::fs::write(own.join("go"), "").unwrap();
    assert_eq!(first.outcome.await.unwrap().status, Status::Completed);
    assert_eq!(waits.outcome.await.unwrap().status, Status::Completed);
    assert!(own.join("ran").exists());
}

#[tokio::test]
async fn an_external_server_starts_only_for_a_tenant_that_was_given_it() {
    let Some(town) = Town::new(&[
        "mcp_servers.files.command='sh'",
        "mcp_servers.files.args=['-c', 'touch started']",
        "mcp_servers.files.startup_seconds=5",
        "server.tenants.bob.mcp_servers=['files']",
    ]) else {
        return;
    };
    for (name, app, starts) in [("alice", &town.alice, false), ("bob", &town.bob, true)] {
        let root = town.root(name);
        town.header(app, in_directory(&root)).await;
        assert_eq!(root.join("started").exists(), starts, "{name}");
    }
    town.app.servers().end().await;
}

/// Two tenants of the real program, with a root in common and workspaces.
fn of_two(home: &Home, model: &ModelServer) -> Command {
    let place = home.home().join("places");
    let common = home.project();
    let flags = [
        "mcp-server",
        "--http",
        "127.0.0.1:0",
        "--workspaces",
        &place.to_string_lossy(),
        "--root",
        &common.to_string_lossy(),
    ];
    let mut command = home.openoxide_with(model, &flags);
    command.env("OPENOXIDE_TOKENS", format!("ana:{ANA},bob:{BOB}"));
    command
}

#[test]
fn files_of_another_are_not_there_for_a_client_either() {
    let (home, model) = (
        Home::new().file("common.txt", "for both"),
        ModelServer::start(vec![
            Reply::call(
                "c1",
                "write_file",
                json!({"path": "made.txt", "content": "the-work-of-ana"}),
            ),
            Reply::text("Made."),
        ]),
    );
    let service = Service::run(of_two(&home, &model));
    let (ana, bob) = (service.caller(ANA), service.caller(BOB));
    let made = ana
        .call("openoxide", json!({"prompt": "Make it."}))
        .result();
    let own = home
        .home()
        .join("places/ana")
        .join(word(&made, "thread_id"));
    symlink(&own, home.project().join("link")).unwrap();
    let read = |client: &Visitor<'_>, path: &Path, kind: &str| {
        let uri = format!("{kind}://{}", path.display());
        let mut exchange = client.begin("resources/read", json!({"uri": uri, "name": uri}));
        let answer = exchange.event().expect("an answer");
        (
            answer["error"]["message"].as_str().map(str::to_owned),
            answer.to_string(),
        )
    };
    let (refused, all) = read(&ana, &own.join("made.txt"), "file");
    assert!(
        refused.is_none() && all.contains("the-work-of-ana"),
        "{all}"
    );
    for (kind, place) in [
        ("file", own.join("made.txt")),
        ("file", own.join("nothing.txt")),
        ("file", home.project().join("link/made.txt")),
        ("file", home.state().join("threads")),
        ("directory", own.clone()),
        ("directory", own.join("..")),
        ("directory", home.home().join("places")),
        ("directory", home.project().join("link")),
    ] {
        let (refused, all) = read(&bob, &place, kind);
        let refused = refused.unwrap_or_else(|| panic!("{kind} {}: {all}", place.display()));
        assert!(
            refused.contains("only regular files and directories inside"),
            "{refused}"
        );
    }
    // What both may see, both see.
    for client in [&ana, &bob] {
        assert!(
            read(client, &home.project().join("common.txt"), "file")
                .1
                .contains("for both")
        );
    }
    service.stop();
}

#[test]
fn several_tenants_are_refused_where_the_machine_cannot_keep_them_apart() {
    if !Path::new("/usr/bin/python3").exists() {
        return skipped("there is no /usr/bin/python3");
    }
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    // The kernel refuses these to the program.
    let without = |layers: &str, tokens: String| {
        let whole = of_two(&home, &model);
        let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sandbox/without.py");
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(filter)
            .arg(layers)
            .arg(whole.get_program())
            .args(whole.get_args());
        command.current_dir(home.project()).env_clear();
        let variables = whole.get_envs();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        command.env("OPENOXIDE_TOKENS", tokens);
        command
    };
    for layers in ["namespaces", "namespaces,landlock", "seccomp"] {
        let refused = run(without(layers, format!("ana:{ANA},bob:{BOB}"))).expect(2);
        let words = "this machine cannot keep several tenants apart: it takes namespaces";
        assert!(
            refused.stderr.contains(words),
            "{layers}: {}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains("a process of its own"),
            "{}",
            refused.stderr
        );
        // One has nobody to be kept apart from.
        Service::run(without(layers, format!("ana:{ANA}"))).stop();
    }
}
