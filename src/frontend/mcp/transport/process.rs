//! The process's own standard input and output, without a thread in between where that can be had.
//!
//! tokio's `stdin` and `stdout` hand every read and write to a blocking thread, and a thread that sits in a read keeps
//! the runtime from ending. Clients start servers with pipes (Python, Rust, shells) or socket pairs (Node), and both can
//! be waited for like any other connection; terminals and files cannot and take the slow way.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileTypeExt, net},
    },
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::pipe},
};

/// The reading end. Needs a tokio runtime. With a terminal or a file behind it, the runtime has to be ended by
/// `shutdown_background` or the end of the process, as with [`tokio::io::stdin`].
pub fn input() -> Box<dyn AsyncRead + Send + Unpin> {
    // Opened anew: a pipe of our own can be non-blocking without the processes that share the old one noticing.
    if let Ok(pipe) = pipe::OpenOptions::new().open_receiver("/proc/self/fd/0") {
        return Box::new(pipe);
    }
    match socket(io::stdin()) {
        Ok(socket) => Box::new(socket),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// The writing end, which belongs to the protocol alone: nothing else may print.
pub fn output() -> Box<dyn AsyncWrite + Send + Unpin> {
    if let Ok(pipe) = pipe::OpenOptions::new().open_sender("/proc/self/fd/1") {
        return Box::new(pipe);
    }
    match socket(io::stdout()) {
        Ok(socket) => Box::new(socket),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

fn socket(stream: impl AsFd) -> io::Result<UnixStream> {
    let file = File::from(stream.as_fd().try_clone_to_owned()?);
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = net::UnixStream::from(OwnedFd::from(file));
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
