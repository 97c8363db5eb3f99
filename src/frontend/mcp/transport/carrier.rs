//! Any transport as one type, so that all that rmcp does with one is compiled once: for each it is half a megabyte.

use std::{error::Error, io};

use futures_util::{FutureExt, future::BoxFuture};
use rmcp::{
    RoleServer,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

/// A transport, whatever it carries messages over.
pub(in crate::frontend::mcp) struct Carrier(Box<dyn Carries>);

impl Carrier {
    pub(in crate::frontend::mcp) fn new<T>(transport: T) -> Self
    where
        T: Transport<RoleServer> + 'static,
        T::Error: Error + Send + Sync + 'static,
    {
        Self(Box::new(transport))
    }
}

/// [`Transport`] with its futures in boxes.
trait Carries: Send {
    fn send(&mut self, message: TxJsonRpcMessage<RoleServer>)
    -> BoxFuture<'static, io::Result<()>>;
    fn receive(&mut self) -> BoxFuture<'_, Option<RxJsonRpcMessage<RoleServer>>>;
    fn close(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

impl<T> Carries for T
where
    T: Transport<RoleServer>,
    T::Error: Error + Send + Sync + 'static,
{
    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let sent = Transport::send(self, message);
        sent.map(|sent| sent.map_err(io::Error::other)).boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Option<RxJsonRpcMessage<RoleServer>>> {
        Transport::receive(self).boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, io::Result<()>> {
        let closed = Transport::close(self);
        closed
            .map(|closed| closed.map_err(io::Error::other))
            .boxed()
    }
}

impl Transport<RoleServer> for Carrier {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.0.send(message)
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<RoleServer>>> + Send {
        self.0.receive()
    }

    fn close(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        self.0.close()
    }
}
