//! The program: reads the command line and goes through one of its doors.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the sandbox's helper is this program, and runs once for each command.
    if let Some(code) = openoxide::workspace::sandbox::run_if_asked(std::env::args_os()) {
        return code;
    }
    openoxide::frontend::cli::main()
}
