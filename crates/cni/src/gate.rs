//! Readiness gates: URLs that must answer before a pod starts (spec 5 §1.4). Asked by HTTP/1.0, whose answer ends with
//! the connection; any status from 200 to 399 is good.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{CniError, Code};

/// How gates are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a gate is asked.
    pub poll: Duration,
    /// How long all together may stay closed.
    pub whole: Duration,
}

impl Default for Patience {
    /// Calico's.
    fn default() -> Patience {
        Patience { poll: Duration::from_secs(5), whole: Duration::from_secs(30) }
    }
}

/// The longest status line that is waited for.
const MAX_STATUS: u64 = 1024;

/// The parts of `http://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl Url<'_> {
    /// Takes a URL apart; `None` if it is no such one.
    pub fn parse(text: &str) -> Option<Url<'_>> {
        let rest = text.strip_prefix("http://")?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let plain = |c: char| c.is_ascii_graphic();
        let (host, port) = match authority.rsplit_once(':') {
            // The colons inside brackets are the address's own.
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let whole = !host.is_empty() && text.chars().all(plain);
        whole.then_some(Url { host, port, path: if path.is_empty() { "/" } else { path } })
    }
}

/// Waits until every gate has opened.
pub async fn wait_open(gates: &[String], patience: Patience) -> Result<(), CniError> {
    let Patience { poll, whole } = patience;
    let deadline = Instant::now() + whole;
    for gate in gates {
        let Some(url) = Url::parse(gate) else { continue };
        loop {
            let closed = match timeout(poll, ask(&url)).await {
                Ok(Ok(200..=399)) => break,
                Ok(Ok(status)) => format!("status {status}"),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + poll > deadline {
                let details = format!("{gate}: {closed}, for {} s", whole.as_secs());
                return Err(CniError::new(Code::TryAgainLater, "a readiness gate does not open", details));
            }
            sleep(poll).await;
        }
    }
    Ok(())
}

async fn ask(Url { host, port, path }: &Url<'_>) -> io::Result<u16> {
    let mut stream = TcpStream::connect((*host, *port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.").and_then(|t| t.split(' ').nth(1)).and_then(|s| s.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers no HTTP"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, expected: Option<(&str, u16, &str)>| {
            let found = Url::parse(text);
            assert_eq!(found.map(|u| (u.host, u.port, u.path)), expected, "{text}");
        };
        check("http://localhost:9099/readiness", Some(("localhost", 9099, "/readiness")));
        check("http://192.0.2.1", Some(("192.0.2.1", 80, "/")));
        check("http://[::1]:80/a/b?c", Some(("::1", 80, "/a/b?c")));
        check("http://[::1]", Some(("::1", 80, "/")));
        for text in ["https://a", "http://", "http://:80/", "http://a:x/", "a", "http://a/b c"] {
            check(text, None);
        }
    }

    /// A server that answers each request with the next status.
    async fn serve(statuses: &'static [u16]) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/ready", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            for status in statuses {
                let (mut stream, _) = listener.accept().await.expect("a request");
                let mut request = [0; 256];
                let read = stream.read(&mut request).await.expect("its text");
                assert!(request[..read].starts_with(b"GET /ready HTTP/1.0\r\n"));
                let answer = format!("HTTP/1.1 {status} x\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        url
    }

    #[tokio::test]
    async fn a_gate_is_asked_until_it_opens() {
        let gates = [serve(&[503, 500, 204]).await, serve(&[302]).await];
        let patience = Patience { poll: Duration::from_millis(10), whole: Duration::from_secs(10) };
        wait_open(&gates, patience).await.expect("open");
    }

    #[tokio::test]
    async fn one_that_stays_closed_is_named() {
        let gates = [serve(&[404; 100]).await];
        let patience = Patience { poll: Duration::from_millis(500), whole: Duration::ZERO };
        let error = wait_open(&gates, patience).await.expect_err("closed");
        assert!(error.details.starts_with(&format!("{}: status 404", gates[0])), "{error}");
    }
}
