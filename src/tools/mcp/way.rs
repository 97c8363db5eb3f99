//! Either way to a server as one type, since all that rmcp does over a transport is compiled once for each type of it.

use std::io;

use futures_util::{FutureExt, TryFutureExt};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use super::{http::Http, pipe::Pipe};

/// What messages go through.
pub(super) enum Way {
    /// The standard streams of a program.
    Pipe(Box<Pipe>),
    /// Streamable HTTP.
    Http(Box<Http>),
}

impl Transport<RoleClient> for Way {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        match self {
            Self::Pipe(pipe) => pipe.send(message).left_future(),
            Self::Http(http) => http.send(message).map_err(io::Error::other).right_future(),
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        match self {
            Self::Pipe(pipe) => pipe.receive().await,
            Self::Http(http) => http.receive().await,
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.close().await,
            Self::Http(http) => http.close().await.map_err(io::Error::other),
        }
    }
}
