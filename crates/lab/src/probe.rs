//! Packet streams whose losses can be counted: UDP by sequence number, TCP by a running counter.

use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendmsg, setsockopt, socket,
};
use serde::{Deserialize, Serialize};

/// Port of both streams in the receiving workload, unless told otherwise.
const PORT: u16 = 9999;

/// How long the receiver waits for the last packets after the sender says that it is done.
const LINGER: Duration = Duration::from_millis(500);

/// One end of the streams; runs inside a workload until the file `stop` exists.
#[derive(Subcommand, Debug)]
pub enum Probe {
    /// Send UDP packets at a steady rate, and a TCP stream beside them.
    Send {
        /// The receiving workload's address.
        to: IpAddr,
        /// Packets per second.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Where the other end listens.
        #[arg(long, default_value_t = PORT)]
        port: u16,
        /// Ends when this file appears.
        #[arg(long)]
        stop: std::path::PathBuf,
        /// Where to write the totals.
        #[arg(long)]
        report: std::path::PathBuf,
    },
    /// Send one IPv4 packet as it is, given in hexadecimal, from the header on. (The kernel computes that one's checksum.)
    Packet {
        /// Where to.
        to: Ipv4Addr,
        /// The packet.
        bytes: String,
    },
    /// Receive both streams.
    Receive {
        /// Where to listen.
        #[arg(long, default_value_t = PORT)]
        port: u16,
        /// Ends shortly after this file appears.
        #[arg(long)]
        stop: std::path::PathBuf,
        /// Where to write the totals.
        #[arg(long)]
        report: std::path::PathBuf,
    },
}

/// How many packets are sent at once after a pause that the machine imposed: what is lost must not be what queues cannot hold.
const BURST: u32 = 500;

/// The receiver's buffer: seconds of the stream, should the receiver have to wait for the processor.
const RECEIVE_BUFFER: usize = 8 << 20;

/// What one end saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// UDP packets sent, or received once each.
    pub udp: u64,
    /// UDP packets received more than once.
    pub duplicates: u64,
    /// TCP counters sent, or received in order.
    pub tcp: u64,
    /// The longest time between two TCP counters, in milliseconds.
    pub tcp_gap_millis: u64,
}

/// Runs one end.
pub fn run(probe: &Probe) -> Result<()> {
    match probe {
        Probe::Send { to, rate, port, stop, report } => {
            write(report, &send(SocketAddr::new(*to, *port), *rate, stop)?)
        }
        Probe::Packet { to, bytes } => send_packet(*to, &parse_hex(bytes)?),
        Probe::Receive { port, stop, report } => write(report, &receive(*port, stop)?),
    }
}

fn parse_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    let bytes: Option<Vec<u8>> =
        pairs.map(|p| u8::from_str_radix(&p, 16).ok().filter(|_| p.len() == 2)).collect();
    bytes.with_context(|| format!("{text:?} is not hexadecimal, two digits for each byte"))
}

fn send_packet(to: Ipv4Addr, packet: &[u8]) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    let sent = sendmsg(socket.as_raw_fd(), &[IoSlice::new(packet)], &[], MsgFlags::empty(), Some(&to))?;
    if sent != packet.len() {
        bail!("{sent} bytes of {} were sent", packet.len());
    }
    Ok(())
}

fn write(path: &Path, report: &Report) -> Result<()> {
    std::fs::write(path, serde_json::to_vec(report)?).with_context(|| format!("{}", path.display()))
}

fn send(target: SocketAddr, rate: u32, stop: &Path) -> Result<Report> {
    let any: IpAddr = if target.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?;
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    let stop_tcp = stop.to_owned();
    let tcp = std::thread::spawn(move || send_counters(target, &stop_tcp));
    let interval = Duration::from_secs(1) / rate;
    let mut next = Instant::now();
    let mut sent: u64 = 0;
    while !stop.exists() {
        // A packet that cannot even be queued is as lost as one on the wire: it keeps its number.
        let _ = socket.send(&sent.to_be_bytes());
        sent += 1;
        next = Instant::max(next + interval, Instant::now().checked_sub(interval * BURST).unwrap_or(next));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (tcp, gap) = tcp.join().map_err(|_| anyhow::anyhow!("the TCP sender panicked"))??;
    Ok(Report { udp: sent, duplicates: 0, tcp, tcp_gap_millis: gap })
}

fn send_counters(target: SocketAddr, stop: &Path) -> Result<(u64, u64)> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).context("TCP stream")?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut sent: u64 = 0;
    while !stop.exists() {
        stream.write_all(&sent.to_be_bytes()).context("TCP stream")?;
        sent += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((sent, 0))
}

fn receive(port: u16, stop: &Path) -> Result<Report> {
    let any: IpAddr = "::".parse()?;
    let socket = UdpSocket::bind((any, port))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // Beyond the machine's limit where this process may.
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER))?;
    let listener = TcpListener::bind((any, port))?;
    listener.set_nonblocking(true)?;
    let stop_tcp = stop.to_owned();
    let tcp = std::thread::spawn(move || receive_counters(&listener, &stop_tcp));
    let mut seen = std::collections::HashSet::new();
    let mut duplicates = 0;
    let mut stopped: Option<Instant> = None;
    loop {
        let mut packet = [0; 8];
        if let Ok(8) = socket.recv(&mut packet) {
            duplicates += u64::from(!seen.insert(u64::from_be_bytes(packet)));
        }
        if stopped.is_none() && stop.exists() {
            stopped = Some(Instant::now());
        }
        if stopped.is_some_and(|s| s.elapsed() > LINGER) {
            break;
        }
    }
    let (tcp, gap) = tcp.join().map_err(|_| anyhow::anyhow!("the TCP receiver panicked"))??;
    Ok(Report { udp: seen.len() as u64, duplicates, tcp, tcp_gap_millis: gap })
}

fn receive_counters(listener: &TcpListener, stop: &Path) -> Result<(u64, u64)> {
    let accepted = crate::wait::accept(listener, stop)?;
    let Some(mut stream) = accepted else { return Ok((0, 0)) };
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut next, mut last, mut gap): (u64, Instant, u64) = (0, Instant::now(), 0);
    let mut counter = [0; 8];
    while stream.read_exact(&mut counter).is_ok() {
        if u64::from_be_bytes(counter) != next {
            bail!("TCP counter {} after {next}", u64::from_be_bytes(counter));
        }
        next += 1;
        gap = gap.max(u64::try_from(last.elapsed().as_millis())?);
        last = Instant::now();
    }
    Ok((next, gap))
}
