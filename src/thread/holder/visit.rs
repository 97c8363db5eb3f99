//! The side of a process that finds a thread held by another.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{Ask, Say, short};
use crate::conversation::{Answer, Approval, ApprovalId, Event, Item, ResolvedBy, TurnId};

/// How long a holder may take to answer; it answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the process that holds a thread.
pub struct Visit {
    asks: OwnedWriteHalf,
    says: Lines<BufReader<OwnedReadHalf>>,
}

/// What a watcher starts from, and everything after.
pub struct Watch {
    /// The conversation so far.
    pub items: Vec<Item>,
    /// Questions that are open.
    pub pending: Vec<Approval>,
    visit: Visit,
}

impl Visit {
    /// Goes to whoever listens at `socket`. `None` if nobody does: no process holds the thread.
    pub async fn at(socket: &Path) -> io::Result<Option<Self>> {
        let connected = async {
            let (_directory, address) = short(socket)?;
            UnixStream::connect(address).await
        };
        let stream = match timeout(PATIENCE, connected).await? {
            // A holder that was killed leaves its socket; nobody listens at it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            connected => connected?,
        };
        let (says, asks) = stream.into_split();
        Ok(Some(Self {
            asks,
            says: BufReader::new(says).lines(),
        }))
    }

    /// Answers a question. False if it is not open (any more).
    pub async fn answer(
        &mut self,
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    ) -> io::Result<bool> {
        match self.ask(&Ask::Answer { id, answer, by }).await? {
            Say::Answered(counted) => Ok(counted),
            other => Err(unexpected(&other)),
        }
    }

    /// Stops a turn, or takes it out of the queue. Without a name: the one that runs.
    pub async fn interrupt(&mut self, turn_id: Option<TurnId>) -> io::Result<()> {
        match self.ask(&Ask::Interrupt { turn_id }).await? {
            Say::Interrupted => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Everything up to now and everything after.
    pub async fn subscribe(mut self) -> io::Result<Watch> {
        match self.ask(&Ask::Subscribe).await? {
            Say::Subscribed { items, pending } => Ok(Watch {
                items,
                pending,
                visit: self,
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&mut self, ask: &Ask) -> io::Result<Say> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        timeout(PATIENCE, async {
            self.asks.write_all(&line).await?;
            self.hear()
                .await?
                .ok_or(io::ErrorKind::UnexpectedEof.into())
        })
        .await?
    }

    /// The next line; `None` when the holder has left.
    async fn hear(&mut self) -> io::Result<Option<Say>> {
        match self.says.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

impl Watch {
    /// The next thing that happens. `None` when the holder has left, or this watcher was too slow. Dropped half-way, it
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        match self.visit.hear().await {
            Ok(Some(Say::Event(event))) => Some(event),
            _ => None,
        }
    }
}

fn unexpected(say: &Say) -> io::Error {
    match say {
        Say::Refused(why) => io::Error::other(format!(
            "the process that holds the thread does not understand this one: {why}"
        )),
        _ => io::Error::other(
            "the process that holds the thread answered something else; is it another version of openoxide?",
        ),
    }
}
