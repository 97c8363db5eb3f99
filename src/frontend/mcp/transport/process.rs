//! The process's own standard input and output, without a thread in between where that can be had.
//!
//! tokio's `stdin` and `stdout` hand every read and write to a blocking thread, and a thread that sits in a read keeps
//! the runtime from ending. Clients start servers with pipes (Python, Rust, shells) or socket pairs (Node), and both can
//! be waited for like any other connection; terminals and files cannot and take the slow way.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::FileTypeExt, net},
    },
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::pipe},
};

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The reading end. Needs a tokio runtime, which has to be ended by `shutdown_background` or with the process when a
/// terminal or a file is behind it, as with [`tokio::io::stdin`].
pub fn input() -> Input {
    waitable_input(io::stdin()).unwrap_or_else(|_| Box::new(tokio::io::stdin()))
}

/// The writing end, which belongs to the protocol alone: nothing else may print. Needs a tokio runtime.
pub fn output() -> Output {
    waitable_output(io::stdout()).unwrap_or_else(|_| Box::new(tokio::io::stdout()))
}

fn waitable_input(stream: impl AsFd) -> io::Result<Input> {
    match pipe::OpenOptions::new().open_receiver(reopened(&stream)) {
        Ok(pipe) => Ok(Box::new(pipe)),
        Err(_) => Ok(Box::new(socket(stream)?)),
    }
}

fn waitable_output(stream: impl AsFd) -> io::Result<Output> {
    match pipe::OpenOptions::new().open_sender(reopened(&stream)) {
        Ok(pipe) => Ok(Box::new(pipe)),
        Err(_) => Ok(Box::new(socket(stream)?)),
    }
}

/// Opened anew, a pipe can be non-blocking without the processes that share the old descriptor noticing. Linux only:
/// elsewhere there is no such path, and pipes take the slow way.
fn reopened(stream: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", stream.as_fd().as_raw_fd())
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

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_getfl};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn carries(mut output: Output, mut input: Input) {
        output.write_all(b"a line\n").await.expect("written");
        let mut found = [0; 7];
        input.read_exact(&mut found).await.expect("read");
        assert_eq!(&found, b"a line\n");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_pipe_is_waited_for_and_the_shared_end_stays_as_it_was() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let output = waitable_output(&writer).expect("pipes can be waited for");
        carries(
            output,
            waitable_input(&reader).expect("pipes can be waited for"),
        )
        .await;
        for flags in [fcntl_getfl(&reader), fcntl_getfl(&writer)] {
            assert!(!flags.expect("flags").contains(OFlags::NONBLOCK));
        }
    }

    #[tokio::test]
    async fn a_socket_is_waited_for() {
        let (reader, writer) = net::UnixStream::pair().expect("a pair");
        let output = waitable_output(&writer).expect("sockets can be waited for");
        carries(
            output,
            waitable_input(&reader).expect("sockets can be waited for"),
        )
        .await;
    }

    #[tokio::test]
    async fn a_file_is_not() {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .expect("there is one");
        assert!(waitable_input(&file).is_err());
        assert!(waitable_output(&file).is_err());
    }
}
