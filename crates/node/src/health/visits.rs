//! Connections that end: so many at once, each for so long. Whoever can reach the port (metrics: every workload) could
//! otherwise hold all of the process's descriptors by saying nothing, or all of the room against the probes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at once. A node has a handful of probes and scrapers.
pub(super) const MAX_VISITS: usize = 64;

/// How long one may last, whatever happens on it: an answer takes milliseconds, and who comes back connects again.
pub(super) const MAX_STAY: Duration = Duration::from_secs(30);

/// Accepts everybody. Where there is no room for one more, the guest with the most connections loses its oldest: who
/// takes all of them takes them from itself.
pub(super) struct Visits {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// Who is here, the oldest first, and some who have gone.
    guests: Vec<Guest>,
}

struct Guest {
    from: IpAddr,
    place: Weak<OwnedSemaphorePermit>,
    leave: CancellationToken,
}

impl Visits {
    pub(super) fn new(listener: TcpListener) -> Visits {
        Visits { listener, room: Arc::new(Semaphore::new(MAX_VISITS)), guests: Vec::new() }
    }

    /// A place for one more; somebody else's if need be.
    async fn place(&mut self) -> Arc<OwnedSemaphorePermit> {
        self.guests.retain(|guest| guest.place.strong_count() > 0);
        let sources: Vec<IpAddr> = self.guests.iter().map(|guest| guest.from).collect();
        if self.guests.len() >= MAX_VISITS
            && let Some(index) = least_missed(&sources)
        {
            self.guests.remove(index).leave.cancel();
        }
        Arc::new(self.room.clone().acquire_owned().await.expect("the semaphore is never closed"))
    }
}

/// Which connection goes first: the oldest of whoever has the most. The oldest come first.
fn least_missed(sources: &[IpAddr]) -> Option<usize> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for from in sources {
        *counts.entry(from.to_canonical()).or_default() += 1;
    }
    let most = counts.values().max()?;
    sources.iter().position(|from| counts.get(&from.to_canonical()) == Some(most))
}

impl Listener for Visits {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (place, leave) = (self.place().await, CancellationToken::new());
        let guest = Guest { from: address.ip(), place: Arc::downgrade(&place), leave: leave.clone() };
        self.guests.push(guest);
        let (end, leave) = (Box::pin(sleep(MAX_STAY)), Box::pin(leave.cancelled_owned()));
        (Visit { stream, end, leave, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
pub(super) struct Visit {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    leave: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Visit {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        let is_over = self.end.as_mut().poll(cx).is_ready() || self.leave.as_mut().poll(cx).is_ready();
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Pin::new(&mut self.stream)) }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_whoever_has_the_most_goes_first() {
        let check = |sources: &[&str], expected: Option<usize>| {
            let sources: Vec<IpAddr> = sources.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(least_missed(&sources), expected, "{sources:?}");
        };
        check(&[], None);
        check(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"], Some(1));
        check(&["10.0.0.1", "10.0.0.2"], Some(0));
        // One that came over IPv6 to a socket of both families is the same one.
        check(&["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.2"], Some(1));
    }
}
