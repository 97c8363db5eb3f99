//! The program: reads the command line and goes through one of its doors.

use std::process::ExitCode;

fn main() -> ExitCode {
    openoxide::frontend::cli::main()
}
