//! The page of this machine that the browser is sent back to: one question of it, answered once.

use std::time::Duration;

use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// For a browser to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of what it wants.
const LARGEST: usize = 16 << 10;
/// Where the page is.
const PATH: &str = "/callback";

/// A place that waits for the browser. Dropping it closes it.
pub(super) struct Callback {
    listener: TcpListener,
    port: u16,
}

/// What came back: what was said, and how to answer.
pub(super) struct Returned {
    /// The address that the browser was sent to, with what it was sent with.
    pub(super) url: Url,
    stream: Option<TcpStream>,
}

impl Callback {
    /// At `port` of this machine, or at any.
    pub(super) async fn open(port: Option<u16>) -> Result<Self, String> {
        let at = ("127.0.0.1", port.unwrap_or(0));
        let listener = TcpListener::bind(at).await;
        let listener = listener.map_err(|error| {
            format!("nothing can be listened to at port {} of this machine, where the browser comes back: {error}", at.1)
        })?;
        let port = listener.local_addr().map_err(|error| error.to_string())?;
        Ok(Self {
            listener,
            port: port.port(),
        })
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// The next one who asks for the page. A browser opens connections that it does not use, so each is read by itself.
    /// Ended by being dropped.
    pub(super) async fn returned(&self) -> Returned {
        let mut reading = JoinSet::new();
        loop {
            tokio::select! {
                Some(read) = reading.join_next() => if let Ok(Some(returned)) = read {
                    return returned;
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let address = self.address();
                        let read = async move { timeout(PATIENCE, read(stream, &address)).await };
                        reading.spawn(async move { read.await.ok().flatten() });
                    }
                    // Too many files are open; some may be closed soon.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
            }
        }
    }
}

impl Returned {
    /// From what a person copied out of the browser's address line, which could not come back by itself.
    pub(super) fn pasted(line: &str) -> Option<Self> {
        let url = Url::parse(line.trim()).ok()?;
        let stream = None;
        url.query().is_some().then_some(Self { url, stream })
    }

    /// What it was sent with under `name`.
    pub(super) fn said(&self, name: &str) -> Option<String> {
        let mut pairs = self.url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    }

    /// Shows `words` in the browser. It may be gone.
    pub(super) async fn answer(self, words: &str) {
        if let Some(stream) = self.stream {
            let _ = timeout(PATIENCE, page(stream, "200 OK", words)).await;
        }
    }
}

/// Reads the head of a request; whoever wants another page is told that there is none.
async fn read(mut stream: TcpStream, address: &str) -> Option<Returned> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece).await.ok()?;
        head.extend_from_slice(&piece[..count]);
        if count == 0 || head.len() > LARGEST {
            return None;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    let target = str::from_utf8(line).ok()?.strip_prefix("GET ")?;
    let target = target.split(' ').next()?;
    let url = Url::parse(address).ok()?.join(target).ok()?;
    if url.path() != PATH || url.as_str().strip_prefix(address).is_none() {
        // It may be gone.
        let _ = page(stream, "404 Not Found", "There is nothing here.").await;
        return None;
    }
    Some(Returned {
        url,
        stream: Some(stream),
    })
}

/// Plain text: whatever was said, no browser takes it for anything else.
async fn page(mut stream: TcpStream, status: &str, words: &str) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{words}",
        words.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: &str, target: &str) -> String {
        let port = Url::parse(address).unwrap().port().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_the_page_counts_and_idle_connections_hold_nobody_up() {
        let callback = Callback::open(None).await.unwrap();
        let address = callback.address();
        let _idle = TcpStream::connect(("127.0.0.1", callback.port))
            .await
            .unwrap();
        let browser = tokio::spawn({
            let address = address.clone();
            async move {
                for other in [
                    "/favicon.ico",
                    "/callbacks?code=x",
                    "http://evil/callback?code=x",
                ] {
                    assert!(
                        get(&address, other).await.starts_with("HTTP/1.1 404"),
                        "{other}"
                    );
                }
                get(&address, "/callback?code=a%20b&state=s").await
            }
        });
        let returned = timeout(PATIENCE, callback.returned()).await.unwrap();
        assert_eq!(returned.said("code").as_deref(), Some("a b"));
        assert_eq!(returned.said("iss"), None);
        returned.answer("well").await;
        let shown = browser.await.unwrap();
        assert!(
            shown.starts_with("HTTP/1.1 200") && shown.ends_with("\r\n\r\nwell"),
            "{shown}"
        );
    }

    #[test]
    fn what_was_copied_from_the_browser_does_as_well() {
        let returned = Returned::pasted(" http://127.0.0.1:1/callback?code=c&state=s\n").unwrap();
        assert_eq!(returned.said("code").as_deref(), Some("c"));
        assert!(Returned::pasted("nonsense").is_none() && Returned::pasted("http://h/").is_none());
    }
}
