//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Asks every `interval` until `condition` holds; false when `deadline` passed first.
pub fn until(deadline: Duration, interval: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(interval);
    }
}

/// Accepts one connection from a non-blocking listener; `None` when the file `stop` appears first.
pub fn accept(
    listener: &std::net::TcpListener,
    stop: &std::path::Path,
) -> std::io::Result<Option<std::net::TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(Some(stream));
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && !stop.exists() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}
