//! The codec that all netlink families share: message headers and attributes (linux/netlink.h; RFC 3549).
//!
//! One writer and one reader serve rtnetlink, nf_tables and ctnetlink alike. Writing appends to one buffer, so that a
//! transaction of thousands of messages is one allocation and one send. Reading never panics: what is cut short or
//! claims a wrong length ends the iteration.

/// Bytes of a `nlmsghdr`.
pub const HEADER_LEN: usize = 16;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the attribute's type without its flag bits.
const TYPE_MASK: u16 = 0x3fff;
/// The most bytes one attribute's payload can have: its length field has 16 bits and counts its own header.
pub const MAX_PAYLOAD: usize = u16::MAX as usize - 4;

/// Appends netlink messages to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    messages: u32,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What is written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// How many messages are written so far.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Forgets all messages and keeps the room.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.messages = 0;
    }

    /// Writes one message: its header, then what `body` writes.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, body: impl FnOnce(&mut Writer)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&seq.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        body(self);
        let len = (self.buffer.len() - start) as u32;
        self.buffer[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.messages += 1;
    }

    /// Sets a flag of a message that starts at `offset`.
    pub fn add_flag(&mut self, offset: usize, flag: u16) {
        if let Some([low, high]) = self.buffer.get_mut(offset + 6..offset + 8) {
            let flags = u16::from_ne_bytes([*low, *high]) | flag;
            [*low, *high] = flags.to_ne_bytes();
        }
    }

    /// Bytes as they are: the family's own fixed header.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        debug_assert!(payload.len() <= MAX_PAYLOAD, "attribute {kind} of {} bytes", payload.len());
        let len = (payload.len() + 4) as u16;
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(payload);
        self.pad();
    }

    /// A text, with the zero byte that the kernel wants.
    pub fn text(&mut self, kind: u16, text: &str) {
        let len = (text.len() + 5) as u16;
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0);
        self.pad();
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    /// Two bytes in network order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Four bytes in network order, as nf_tables has all its numbers.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Eight bytes in network order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Four bytes in host order, as rtnetlink has its numbers.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// An attribute of attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let len = self.buffer.len() - start;
        debug_assert!(len <= usize::from(u16::MAX), "nest {kind} of {len} bytes");
        self.buffer[start..start + 2].copy_from_slice(&(len as u16).to_ne_bytes());
    }

    fn pad(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }
}

/// One message read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request it answers.
    pub seq: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER_LEN)?;
        let len = read_u32(header)? as usize;
        let whole = self.0.get(..len).filter(|_| len >= HEADER_LEN)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: read_u16(&header[4..])?,
            flags: read_u16(&header[6..])?,
            seq: read_u32(&header[8..])?,
            payload: &whole[HEADER_LEN..],
        })
    }
}

/// The attributes of a message or of a nest: (type without flags, payload).
#[derive(Clone, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The attributes that follow a fixed header of `len` bytes.
    pub fn after(payload: &'a [u8], len: usize) -> Attrs<'a> {
        Attrs(payload.get(len.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The first attribute of a type.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self.clone(), |(k, _)| *k == kind).map(|(_, payload)| payload)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(read_u16(self.0)?);
        let kind = read_u16(self.0.get(2..)?)? & TYPE_MASK;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// The first two bytes, in host order.
pub fn read_u16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.first_chunk::<2>().copied()?))
}

/// The first four bytes, in host order.
pub fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.first_chunk::<4>().copied()?))
}

/// The first four bytes, in network order.
pub fn read_be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.first_chunk::<4>().copied()?))
}

/// The first eight bytes, in network order.
pub fn read_be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.first_chunk::<8>().copied()?))
}

/// Text up to its zero byte, if it is UTF-8.
pub fn read_text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests;
