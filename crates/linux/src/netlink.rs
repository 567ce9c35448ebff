//! A netlink socket for requests, batches and dumps.
//!
//! The kernel works through what one `send` carries before `send` returns, and by then every acknowledgement lies in
//! the receive buffer. So nothing here waits: after a send, the answers are drained without blocking. (Dumps go on
//! as they are read.)

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use thiserror::Error;

use crate::attr::{Attrs, HEADER_LEN, Message, Messages, Writer, read_text, read_u32};

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR`: the table changed under the dump.
const DUMP_INTR: u16 = 0x10;
/// `NLM_F_CAPPED`: an error message carries only the request's header.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: an error message carries attributes.
const ACK_TLVS: u16 = 0x200;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Acknowledgements of a large batch and parts of a dump must fit, or they are lost with ENOBUFS.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel fills dump buffers up to 32 KiB (linux/netlink.h, `NLMSG_GOODSIZE` and `max_recvmsg_len`).
const READ_LEN: usize = 64 << 10;
/// How often a dump is begun again because the table changed under it, before giving up.
const DUMP_ATTEMPTS: u32 = 10;

/// The netlink families that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours, rules.
    Route,
    /// nf_tables and conntrack.
    Netfilter,
}

/// What went wrong on a netlink socket.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// A system call failed.
    #[error("netlink {call}: {errno}")]
    System {
        /// Which call.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The kernel refused the request.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A dump was interrupted by changes again and again.
    #[error("the kernel's table kept changing while it was read")]
    Interrupted,
    /// The kernel did not acknowledge: its answers overflowed the receive buffer.
    #[error("the kernel's answer was lost")]
    NoAnswer,
}

/// One refusal by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{errno}{}", text.as_deref().map(|t| format!(": {t}")).unwrap_or_default())]
pub struct Refusal {
    /// Sequence number of the refused message.
    pub seq: u32,
    /// The reason as an error number.
    pub errno: Errno,
    /// The reason as text, where the kernel gives one (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
    /// Where in the refused message the offending attribute stands, in bytes (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
}

/// What went out on a socket, so that tests and metrics can hold us to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls of `send`.
    pub sends: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    send_buffer: usize,
    receive: Vec<u8>,
    traffic: Traffic,
}

fn system(call: &'static str) -> impl Fn(Errno) -> NetlinkError {
    move |errno| NetlinkError::System { call, errno }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Socket, NetlinkError> {
        let fd = open_raw(protocol, SockFlag::SOCK_CLOEXEC)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(system("bind"))?;
        // Old kernels know none of these options; everything works without, only errors say less.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            set_netlink_option(&fd, option);
        }
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without CAP_NET_ADMIN in the first user namespace: as much as net.core.rmem_max allows.
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER).map_err(system("setsockopt SO_RCVBUF"))?;
        }
        Ok(Socket { fd, seq: 0, send_buffer: 0, receive: vec![0; READ_LEN], traffic: Traffic::default() })
    }

    /// What was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub fn reserve(&mut self, count: u32) -> u32 {
        // Zero marks messages that the kernel sends unasked; stay clear of it.
        if self.seq.checked_add(count).is_none() {
            self.seq = 0;
        }
        let first = self.seq + 1;
        self.seq += count;
        first
    }

    /// Sends all messages in one call.
    fn send(&mut self, writer: &Writer) -> Result<(), NetlinkError> {
        self.grow_send_buffer(writer.bytes().len());
        send(self.fd.as_raw_fd(), writer.bytes(), MsgFlags::empty()).map_err(system("send"))?;
        self.traffic.sends += 1;
        self.traffic.messages += u64::from(writer.messages());
        self.traffic.bytes += writer.bytes().len() as u64;
        Ok(())
    }

    /// A message can not be larger than the send buffer. Best effort: `send` reports EMSGSIZE if this was refused.
    fn grow_send_buffer(&mut self, len: usize) {
        // The kernel doubles what it is given and wants a little more than the message.
        let wanted = len.next_power_of_two().max(RECEIVE_BUFFER / 4);
        if wanted > self.send_buffer {
            if setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
                let _ = setsockopt(&self.fd, sockopt::SndBuf, &wanted);
            }
            self.send_buffer = wanted;
        }
    }

    /// Sends a batch whose last message (sequence number `last`) asks for an acknowledgement. Returns what the kernel
    /// refused, in the order of the messages; messages other than errors go to `reply`.
    pub fn transact(
        &mut self,
        writer: &Writer,
        last: u32,
        mut reply: impl FnMut(Message<'_>),
    ) -> Result<Vec<Refusal>, NetlinkError> {
        self.send(writer)?;
        let mut refusals: Vec<Refusal> = Vec::new();
        let mut answered = false;
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut self.receive, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                Err(errno) => return Err(NetlinkError::System { call: "recv", errno }),
            };
            for message in Messages(&self.receive[..len]) {
                if message.kind != ERROR {
                    reply(message);
                    continue;
                }
                answered |= message.seq == last;
                refusals.extend(parse_error(&message));
            }
        }
        if refusals.is_empty() && !answered {
            return Err(NetlinkError::NoAnswer);
        }
        Ok(refusals)
    }

    /// Sends one request and returns its refusal as an error.
    pub fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), NetlinkError> {
        let seq = self.reserve(1);
        let mut writer = Writer::new();
        writer.message(kind, flags | REQUEST | ACK, seq, body);
        match self.transact(&writer, seq, |_| {})?.into_iter().next() {
            None => Ok(()),
            Some(refusal) => Err(refusal.into()),
        }
    }

    /// Sends one request that is answered by one message, and decodes that.
    pub fn get<T>(
        &mut self,
        kind: u16,
        body: impl FnOnce(&mut Writer),
        decode: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let seq = self.reserve(1);
        let mut writer = Writer::new();
        writer.message(kind, REQUEST | ACK, seq, body);
        let mut found = None;
        let refusals =
            self.transact(&writer, seq, |message| found = found.take().or_else(|| decode(message)))?;
        match refusals.into_iter().next() {
            None => Ok(found),
            Some(refusal) => Err(refusal.into()),
        }
    }

    /// Reads a whole table: every message that answers the request, decoded. Begins again if the table changes
    /// meanwhile, so that the result is one consistent state.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        body: impl Fn(&mut Writer),
        mut decode: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let seq = self.reserve(1);
            let mut writer = Writer::new();
            writer.message(kind, REQUEST | DUMP, seq, &body);
            self.send(&writer)?;
            let mut found = Vec::new();
            if self.read_dump(seq, |message| found.extend(decode(message)))? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// Reads until the end of a dump; whether it was consistent.
    fn read_dump(&mut self, seq: u32, mut each: impl FnMut(Message<'_>)) -> Result<bool, NetlinkError> {
        let mut consistent = true;
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut self.receive, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(NetlinkError::System { call: "recv", errno }),
            };
            for message in Messages(&self.receive[..len]).filter(|m| m.seq == seq) {
                consistent &= message.flags & DUMP_INTR == 0;
                match message.kind {
                    // DONE may carry an error number as ERROR does.
                    DONE | ERROR => {
                        return match parse_error(&message) {
                            Some(refusal) if refusal.errno == Errno::EINTR => Ok(false),
                            Some(refusal) => Err(refusal.into()),
                            None => Ok(consistent),
                        };
                    }
                    _ => each(message),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A raw netlink socket, not yet bound.
pub(crate) fn open_raw(protocol: Protocol, flags: SockFlag) -> Result<OwnedFd, NetlinkError> {
    let protocol = match protocol {
        Protocol::Route => SockProtocol::NetlinkRoute,
        Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
    };
    socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(system("socket"))
}

fn set_netlink_option(fd: &OwnedFd, option: libc::c_int) {
    let one: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `one`, which outlives the call; the descriptor is open.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// The refusal in an error message; `None` if it is an acknowledgement.
fn parse_error(message: &Message<'_>) -> Option<Refusal> {
    let code = read_u32(message.payload)? as i32;
    if code == 0 {
        return None;
    }
    let mut refusal =
        Refusal { seq: message.seq, errno: Errno::from_raw(code.wrapping_neg()), text: None, offset: None };
    if message.kind == ERROR && message.flags & ACK_TLVS != 0 {
        let copied = if message.flags & CAPPED != 0 {
            HEADER_LEN
        } else {
            message.payload.get(4..).and_then(read_u32).unwrap_or(0) as usize
        };
        for (kind, payload) in
            Attrs::after(message.payload, 4usize.saturating_add(copied).min(message.payload.len()))
        {
            match kind {
                1 => refusal.text = read_text(payload).map(str::to_owned),
                2 => refusal.offset = read_u32(payload),
                _ => {}
            }
        }
    }
    Some(refusal)
}
