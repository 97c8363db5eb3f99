//! Commands in a terminal, in each of the ways that they run: what they find there, and what portable-pty would do if it
//! were let.

use std::time::{Duration, Instant};

use openoxide::workspace::shell::{Exit, Input, InputError, Patience, Running};
use tokio::signal::unix::SignalKind;

use crate::support::commands::{Place, watch};

/// A command that waits for keys says so in this time.
const SOON: Duration = Duration::from_secs(10);

/// Watches until the output so far holds `text`, and gives it.
async fn until_says(running: &mut Running, text: &str) -> String {
    let mut output = String::new();
    let deadline = Instant::now() + SOON;
    while !output.contains(text) {
        assert!(Instant::now() < deadline, "`{text}` is not in `{output}`");
        let seen = watch(running, Patience::For(Duration::from_millis(20))).await;
        output += &seen.output;
        assert!(
            seen.exit.is_none() || output.contains(text),
            "`{output}` {seen:?}"
        );
    }
    output
}

#[tokio::test]
async fn a_program_finds_a_terminal_and_its_owner() {
    let (place, ways) = Place::new();
    for way in ways {
        let line =
            "test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; echo $TERM; pwd
            echo direct >/dev/tty; [ $(cut -d' ' -f7 /proc/$$/stat) != 0 ] && echo owned";
        let seen = place.in_terminal(way, line).await;
        let expected = format!(
            "terminal\n40 120\ndumb\n{}\ndirect\nowned\n",
            place.path().display()
        );
        assert_eq!(seen.output, expected, "{way:?}");
        assert_eq!(seen.exit, Some(Exit::Code(0)), "{way:?}");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_given() {
    let (place, ways) = Place::new();
    for way in ways {
        let seen = place.in_terminal(way, "env | cut -d= -f1 | sort").await;
        let names: Vec<&str> = seen.output.lines().collect();
        // The shell adds some, and portable-pty `SHELL`; nothing is ours.
        let known = [
            "HOME",
            "OLDPWD",
            "OPENOXIDE_COMMAND",
            "PATH",
            "PWD",
            "SHELL",
            "SHLVL",
            "TERM",
            "_",
        ];
        assert!(
            names.contains(&"TERM") && names.len() > 4,
            "{way:?} {names:?}"
        );
        assert!(
            names.iter().all(|name| known.contains(name)),
            "{way:?} {names:?}"
        );
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_and_not_the_home() {
    let (place, ways) = Place::new();
    for way in ways {
        for broken in ["nowhere", "file"] {
            std::fs::write(place.path().join("file"), "").unwrap();
            let mut command = place.command(way, Input::Terminal, "pwd");
            command.workdir = place.path().join(broken);
            let error = Running::start(&command)
                .err()
                .expect("an error")
                .to_string();
            assert!(error.contains(broken), "{error}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_executed_says_so() {
    let (place, ways) = Place::new();
    for way in ways {
        for (line, words) in [
            ("true \0".to_owned(), "NUL"),
            (format!("true {}", "x".repeat(200_000)), "too long"),
        ] {
            let command = place.command(way, Input::Terminal, &line);
            let error = Running::start(&command)
                .err()
                .expect("an error")
                .to_string();
            assert!(error.contains(words), "{error}");
        }
        std::fs::write(place.path().join("bad"), "#!/no/such/interpreter\n").unwrap();
        let seen = place.in_terminal(way, "chmod +x bad; ./bad").await;
        // Which of the two is up to the shell.
        let code = [126, 127].map(|code| Some(Exit::Code(code)));
        assert!(code.contains(&seen.exit), "{way:?} {seen:?}");
        assert!(seen.output.contains("./bad: "), "{way:?} {seen:?}");
    }
}

#[tokio::test]
async fn a_signal_is_told_by_its_number() {
    let (place, ways) = Place::new();
    for way in ways {
        for (line, exit) in [
            ("exit 7", Exit::Code(7)),
            ("kill -TERM $$; sleep 5", Exit::Signal(15)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("kill -SEGV $$", Exit::Signal(11)),
            ("kill -HUP $$; sleep 5", Exit::Signal(1)),
            ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
        ] {
            let seen = place.in_terminal(way, line).await;
            assert_eq!(seen.exit, Some(exit), "{way:?} {line} {seen:?}");
        }
    }
}

#[tokio::test]
async fn the_last_words_are_not_lost() {
    let (place, ways) = Place::new();
    for way in ways {
        for _ in 0..20 {
            let seen = place.in_terminal(way, "seq 3000; echo the end").await;
            assert!(seen.output.ends_with("2999\n3000\nthe end\n"), "{way:?}");
            assert!(seen.output.starts_with("1\n2\n3\n"), "{way:?}");
        }
    }
}

#[tokio::test]
async fn typing_goes_on_where_it_stopped_and_nothing_is_typed_by_itself() {
    let (place, ways) = Place::new();
    for way in ways {
        let line = "read -p 'first? ' a; read -p 'second? ' b; echo \"<$a> <$b>\"";
        let mut running = place.start(way, Input::Terminal, line);
        until_says(&mut running, "first? ").await;
        running.type_in(b"o").unwrap();
        // Each look is over before the next key, and whatever wrote it is gone.
        watch(&mut running, Patience::For(Duration::from_millis(100))).await;
        running.type_in(b"ne\n").unwrap();
        let echoed = until_says(&mut running, "second? ").await;
        assert_eq!(echoed, "ne\nsecond? ", "{way:?}");
        running.type_in(b"two\n").unwrap();
        let seen = watch(&mut running, Patience::End).await;
        assert_eq!(seen.output, "two\n<one> <two>\n", "{way:?}");
        assert_eq!(seen.exit, Some(Exit::Code(0)), "{way:?}");
    }
}

#[tokio::test]
async fn control_keys_do_what_they_do_in_a_terminal() {
    let (place, ways) = Place::new();
    for way in ways {
        let started =
            "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
        let mut running = place.start(way, Input::Terminal, started);
        until_says(&mut running, "ready").await;
        running.type_in(b"\x03").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert!(seen.output.contains("interrupted"), "{way:?} {seen:?}");
        assert_eq!(seen.exit, Some(Exit::Code(3)), "{way:?}");

        let mut running = place.start(way, Input::Terminal, "echo ready; exec sleep 60");
        until_says(&mut running, "ready").await;
        running.type_in(b"\x03").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.exit, Some(Exit::Signal(2)), "{way:?}");

        let mut running = place.start(way, Input::Terminal, "cat; echo \"cat ended with $?\"");
        running.type_in(b"word\n\x04").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.output, "word\nword\ncat ended with 0\n", "{way:?}");
    }
}

#[tokio::test]
async fn a_shell_in_it_has_job_control() {
    let (place, ways) = Place::new();
    for way in ways {
        let mut running = place.start(
            way,
            Input::Terminal,
            "PS1='> ' exec bash --norc --noprofile -i",
        );
        let greeting = until_says(&mut running, "> ").await;
        assert!(!greeting.contains("job control"), "{way:?} {greeting}");
        running.type_in(b"sleep 60\n").unwrap();
        watch(&mut running, Patience::For(Duration::from_millis(300))).await;
        running.type_in(b"\x1a").unwrap();
        until_says(&mut running, "Stopped").await;
        running.type_in(b"fg\n").unwrap();
        watch(&mut running, Patience::For(Duration::from_millis(300))).await;
        running.type_in(b"\x03").unwrap();
        until_says(&mut running, "> ").await;
        running.type_in(b"exit 4\n").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.exit, Some(Exit::Code(4)), "{way:?} {seen:?}");
    }
}

#[tokio::test]
async fn a_line_that_the_terminal_would_cut_is_refused() {
    let (place, ways) = Place::new();
    for way in ways {
        let mut running = place.start(way, Input::Terminal, "echo ready; head -n 1 | wc -c");
        until_says(&mut running, "ready").await;
        let long = [&b"x".repeat(5000)[..], b"\n"].concat();
        let refused = running.type_in(&long);
        assert!(
            matches!(refused, Err(InputError::LineTooLong(5000))),
            "{refused:?}"
        );
        running.type_in(&long[5000 - 4095..]).unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert!(
            seen.output.ends_with("\n4096\n"),
            "{way:?} {}",
            seen.output.len()
        );

        // A program that takes key by key gets all of them.
        let raw = "stty -icanon -echo; echo ready; head -c 5001 | wc -c";
        let mut running = place.start(way, Input::Terminal, raw);
        until_says(&mut running, "ready").await;
        running.type_in(&long).unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.output, "5001\n", "{way:?}");
    }
}

#[tokio::test]
async fn a_command_that_does_not_read_keeps_nobody_waiting() {
    let (place, ways) = Place::new();
    for way in ways {
        let mut running = place.start(
            way,
            Input::Terminal,
            "stty -icanon -echo; echo ready; sleep 60",
        );
        until_says(&mut running, "ready").await;
        running.type_in(&b"x".repeat(200_000)).unwrap();
        let began = Instant::now();
        let seen = watch(&mut running, Patience::For(Duration::from_millis(200))).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{way:?}");
        assert!(
            seen.unread > 100_000 && seen.exit.is_none(),
            "{way:?} {seen:?}"
        );
        let full = running.type_in(&b"x".repeat(1 << 20));
        assert!(matches!(full, Err(InputError::Full(_))), "{full:?}");
    }
}

#[tokio::test]
async fn a_terminal_that_everybody_left_is_not_read_again_and_again() {
    fn ticks() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let rest = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
    let (place, ways) = Place::new();
    // The helper behind which a command is holds the terminal for it.
    let way = ways[0];
    let before = ticks();
    let line = "echo said; exec <&- >&- 2>&-; sleep 1; exit 3";
    let seen = place.in_terminal(way, line).await;
    assert_eq!(
        (seen.output.as_str(), seen.exit),
        ("said\n", Some(Exit::Code(3)))
    );
    // At a hundred a second; one thread runs all of this test.
    assert!(ticks() - before < 50, "{} ticks", ticks() - before);
}

#[tokio::test]
async fn a_holder_of_the_terminal_does_not_delay_the_answer() {
    let (place, ways) = Place::new();
    for way in ways {
        for line in [
            "sleep 60 & echo started",
            "nohup sleep 60 & sleep 0.05; echo started",
            "setsid sleep 60 & echo started",
            "trap '' HUP; (while :; do sleep 1; done) & echo started",
        ] {
            let seen = place.in_terminal(way, line).await;
            assert!(seen.seconds < 10.0, "{way:?} {line}: {}", seen.seconds);
            assert!(seen.output.contains("started"), "{way:?} {line}");
            place
                .assert_deserted(Duration::from_millis(500), line)
                .await;
        }
    }
}

#[tokio::test]
async fn the_time_out_comes_also_in_a_flood() {
    let (place, ways) = Place::new();
    for way in ways {
        let mut command = place.command(way, Input::Terminal, "yes");
        command.timeout = Duration::from_millis(300);
        let mut running = Running::start(&command).unwrap();
        let seen = watch(&mut running, Patience::End).await;
        assert_eq!(seen.exit, Some(Exit::TimedOut), "{way:?}");
        assert!(
            seen.seconds < 5.0 && seen.omitted_bytes > 0,
            "{way:?} {}",
            seen.seconds
        );
        place
            .assert_deserted(Duration::from_millis(500), "yes")
            .await;
    }
}

#[tokio::test]
async fn pipes_take_input_too_with_an_end_and_an_interrupt() {
    // As the program does: who was started in the background ignores it, and so would what is started from here.
    let heeded = tokio::signal::unix::signal(SignalKind::interrupt());
    let _heeded = heeded.expect("a handler");
    let (place, ways) = Place::new();
    for way in ways {
        let mut running = place.start(way, Input::Pipe, "cat; echo \"cat ended with $?\"");
        running.type_in(b"word\n").unwrap();
        assert_eq!(until_says(&mut running, "word\n").await, "word\n");
        running.type_in(b"last\x04").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.output, "lastcat ended with 0\n", "{way:?}");

        let mut running = place.start(
            way,
            Input::Pipe,
            "exec <&-; echo ready; sleep 60; echo not reached",
        );
        until_says(&mut running, "ready").await;
        running.type_in(b"nobody reads this").unwrap();
        watch(&mut running, Patience::For(Duration::from_millis(50))).await;
        running.type_in(b"\x03").unwrap();
        let seen = watch(&mut running, Patience::For(SOON)).await;
        assert_eq!(seen.exit, Some(Exit::Signal(2)), "{way:?} {seen:?}");
        assert_eq!(seen.output, "", "{way:?}");

        let mut running = place.start(way, Input::None, "cat; sleep 60");
        assert!(matches!(running.type_in(b"x"), Err(InputError::Closed)));
    }
}
