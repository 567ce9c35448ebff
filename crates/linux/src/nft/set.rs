//! Sets, maps and their elements to netlink attributes and back.

use calico_dataplane::tables::nft::ActualSet;
use calico_rules::nft::{Data, Element, KeyField, SetSpec, Verdict};
use smol_str::SmolStr;

#[allow(clippy::wildcard_imports, reason = "a module of constants by the kernel's names")]
use super::constant::*;
use super::expr::{encode_verdict, value};
use crate::attr::{Attrs, MAX_PAYLOAD, Writer, read_be32, read_text};

/// `nft`'s number for a field's type (libnftables `enum datatypes`): only for the reader of `nft list`, who would
/// otherwise see hex. Concatenations pack 6 bits a field.
fn datatype(field: KeyField) -> u32 {
    match field {
        KeyField::Ipv4Addr => 7,
        KeyField::Ipv6Addr => 8,
        KeyField::InetProto => 12,
        KeyField::InetService => 13,
        KeyField::IfName => 41,
    }
}

const FIELDS: [KeyField; 5] =
    [KeyField::Ipv4Addr, KeyField::Ipv6Addr, KeyField::InetProto, KeyField::InetService, KeyField::IfName];

/// Bytes of a field alone.
fn field_len(field: KeyField) -> u32 {
    match field {
        KeyField::Ipv4Addr => 4,
        KeyField::Ipv6Addr | KeyField::IfName => 16,
        KeyField::InetProto => 1,
        KeyField::InetService => 2,
    }
}

/// Bytes of the key: in a concatenation each field fills whole 4-byte registers.
fn key_len(key: &[KeyField]) -> u32 {
    match key {
        [field] => field_len(*field),
        fields => fields.iter().map(|f| field_len(*f).next_multiple_of(4)).sum(),
    }
}

/// Writes what follows table and name in NFT_MSG_NEWSET. `id` tells the sets of one transaction apart.
pub fn encode_set(w: &mut Writer, spec: &SetSpec, id: u32) {
    let concatenated = spec.key.len() > 1;
    let mut flags = 0;
    if spec.interval {
        flags |= NFT_SET_INTERVAL;
    }
    if spec.verdict_map {
        flags |= NFT_SET_MAP;
    }
    if spec.interval && concatenated {
        flags |= NFT_SET_CONCAT;
    }
    w.be32(NFTA_SET_FLAGS, flags);
    w.be32(NFTA_SET_KEY_TYPE, spec.key.iter().fold(0, |packed, f| packed << 6 | datatype(*f)));
    w.be32(NFTA_SET_KEY_LEN, key_len(&spec.key));
    if spec.verdict_map {
        w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
    }
    if flags & NFT_SET_CONCAT != 0 {
        w.nest(NFTA_SET_DESC, |w| {
            w.nest(NFTA_SET_DESC_CONCAT, |w| {
                for field in &spec.key {
                    w.nest(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, field_len(*field)));
                }
            });
        });
    }
    w.be32(NFTA_SET_ID, id);
    // Names are byte strings that `nft` keeps in host order; everything else is in network order.
    let order = if spec.key.as_slice() == [KeyField::IfName] { BYTEORDER_HOST } else { BYTEORDER_BIG };
    let mut userdata = [UDATA_SET_KEYBYTEORDER, 4, 0, 0, 0, 0];
    userdata[2..].copy_from_slice(&order.to_ne_bytes());
    w.attr(NFTA_SET_USERDATA, &userdata);
}

/// The shape of a dumped set; `None` if it is none that we make.
pub fn decode_spec(attrs: &Attrs<'_>) -> Option<SetSpec> {
    let flags = attrs.find(NFTA_SET_FLAGS).and_then(read_be32).unwrap_or(0);
    if flags & !(NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_CONCAT) != 0 {
        return None;
    }
    let mut packed = attrs.find(NFTA_SET_KEY_TYPE).and_then(read_be32)?;
    let mut key: Vec<KeyField> = Vec::new();
    while packed != 0 {
        key.push(*FIELDS.iter().find(|f| datatype(**f) == packed & 0x3f)?);
        packed >>= 6;
    }
    key.reverse();
    let verdict_map = flags & NFT_SET_MAP != 0;
    let verdicts = attrs.find(NFTA_SET_DATA_TYPE).and_then(read_be32) == Some(NFT_DATA_VERDICT);
    (attrs.find(NFTA_SET_KEY_LEN).and_then(read_be32)? == key_len(&key)
        && !key.is_empty()
        && verdicts == verdict_map)
        .then(|| SetSpec {
            key: key.into_iter().collect(),
            interval: flags & NFT_SET_INTERVAL != 0,
            verdict_map,
        })
}

/// The room that a list of elements may take in one message, less its own header and the largest element.
const LIST_ROOM: usize = MAX_PAYLOAD - 512;

/// Writes as many elements as fit into one message; returns those left.
pub fn encode_elements<'a>(w: &mut Writer, elements: &'a [Element]) -> &'a [Element] {
    let mut left = elements;
    w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
        let start = w.bytes().len();
        while let Some((element, rest)) = left.split_first() {
            if w.bytes().len() - start > LIST_ROOM {
                break;
            }
            encode_element(w, element);
            left = rest;
        }
    });
    left
}

fn encode_element(w: &mut Writer, element: &Element) {
    match element {
        Element::Exact(key) => w.nest(NFTA_LIST_ELEM, |w| value(w, NFTA_SET_ELEM_KEY, key)),
        Element::Verdict { key, verdict } => w.nest(NFTA_LIST_ELEM, |w| {
            value(w, NFTA_SET_ELEM_KEY, key);
            encode_verdict(w, NFTA_SET_ELEM_DATA, verdict);
        }),
        // The kernel's tree holds boundaries: the first key inside, and the first key behind.
        Element::Interval { first, last } => {
            w.nest(NFTA_LIST_ELEM, |w| value(w, NFTA_SET_ELEM_KEY, first));
            if let Some(end) = successor(last) {
                w.nest(NFTA_LIST_ELEM, |w| {
                    value(w, NFTA_SET_ELEM_KEY, &end);
                    w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                });
            }
        }
    }
}

/// The next key, if there is one.
fn successor(key: &Data) -> Option<Data> {
    let mut next = key.clone();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

/// The key before; the lowest key has none.
fn predecessor(key: &Data) -> Option<Data> {
    let mut previous = key.clone();
    for byte in previous.iter_mut().rev() {
        let (difference, borrow) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrow {
            return Some(previous);
        }
    }
    None
}

/// One element as a dump shows it: for intervals, one boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedElement {
    key: Data,
    end: bool,
    verdict: Option<Verdict>,
}

impl DumpedElement {
    /// What only one element of a set can have.
    pub fn identity(&self) -> (&Data, bool) {
        (&self.key, self.end)
    }
}

/// The elements of one message of a dump.
pub fn decode_elements(payload: &[u8]) -> Vec<DumpedElement> {
    let list = Attrs::after(payload, 4).find(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    Attrs(list)
        .filter_map(|(_, element)| {
            let attrs = Attrs(element);
            let key = Attrs(attrs.find(NFTA_SET_ELEM_KEY)?).find(NFTA_DATA_VALUE)?;
            let flags = attrs.find(NFTA_SET_ELEM_FLAGS).and_then(read_be32).unwrap_or(0);
            Some(DumpedElement {
                key: Data::from_slice(key),
                end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
                verdict: attrs
                    .find(NFTA_SET_ELEM_DATA)
                    .and_then(|d| Attrs(d).find(NFTA_DATA_VERDICT))
                    .and_then(decode_verdict),
            })
        })
        .collect()
}

fn decode_verdict(verdict: &[u8]) -> Option<Verdict> {
    let attrs = Attrs(verdict);
    let chain = || attrs.find(NFTA_VERDICT_CHAIN).and_then(read_text).map(SmolStr::new);
    Some(match attrs.find(NFTA_VERDICT_CODE).and_then(read_be32)? {
        NF_ACCEPT => Verdict::Accept,
        NF_DROP => Verdict::Drop,
        NFT_RETURN => Verdict::Return,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        _ => return None,
    })
}

/// A whole set from its parts.
pub fn assemble(spec: Option<SetSpec>, mut dumped: Vec<DumpedElement>) -> ActualSet {
    let elements = match &spec {
        Some(spec) if spec.interval => {
            // Where one interval ends and the next begins at the same key, the end comes first.
            dumped.sort_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
            intervals(&dumped)
        }
        _ => dumped
            .into_iter()
            .map(|e| match e.verdict {
                Some(verdict) => Element::Verdict { key: e.key, verdict },
                None => Element::Exact(e.key),
            })
            .collect(),
    };
    ActualSet { spec, elements }
}

fn intervals(boundaries: &[DumpedElement]) -> Vec<Element> {
    let mut found = Vec::new();
    let mut open: Option<&Data> = None;
    for boundary in boundaries {
        match (boundary.end, open.take()) {
            // `nft` writes a leading end boundary at zero; it opens nothing.
            (true, None) => {}
            (true, Some(first)) => {
                found.extend(
                    predecessor(&boundary.key).map(|last| Element::Interval { first: first.clone(), last }),
                );
            }
            (false, None) => open = Some(&boundary.key),
            // Two beginnings in a row: the first one ends where the second begins.
            (false, Some(first)) => {
                found.extend(
                    predecessor(&boundary.key).map(|last| Element::Interval { first: first.clone(), last }),
                );
                open = Some(&boundary.key);
            }
        }
    }
    if let Some(first) = open {
        found.push(Element::Interval { first: first.clone(), last: Data::from_elem(0xff, first.len()) });
    }
    found
}
