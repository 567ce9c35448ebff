//! The codec: what is written reads back, and nothing read can panic.

use proptest::prelude::*;

use super::*;

#[test]
fn writes_headers_padding_and_nests() {
    let mut w = Writer::new();
    w.message(0x0102, 0x0304, 7, |w| {
        w.raw(&[1, 0, 0, 10]);
        w.nest(5, |w| {
            w.text(1, "ab");
            w.be32(2, 9);
        });
        w.u8(3, 255);
    });
    let bytes = w.bytes();
    assert_eq!(bytes.len(), 16 + 4 + (4 + 8 + 8) + 8);
    assert_eq!(&bytes[..4], &(bytes.len() as u32).to_ne_bytes());
    assert_eq!(&bytes[20..], b"\x14\0\x05\x80\x07\0\x01\0ab\0\0\x08\0\x02\0\0\0\0\x09\x05\0\x03\0\xff\0\0\0");
    let message = Messages(bytes).next().unwrap();
    assert_eq!((message.kind, message.flags, message.seq), (0x0102, 0x0304, 7));
    let attrs = Attrs::after(message.payload, 4);
    let nest = Attrs(attrs.find(5).unwrap());
    assert_eq!(nest.find(1).and_then(read_text), Some("ab"));
    assert_eq!(nest.find(2).and_then(read_be32), Some(9));
    assert_eq!(attrs.find(3), Some(&[255][..]));
    assert_eq!(attrs.find(4), None);
}

proptest! {
    #[test]
    fn reading_arbitrary_bytes_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for message in Messages(&bytes) {
            for (_, payload) in Attrs(message.payload) {
                let _ = (Attrs(payload).count(), read_text(payload), read_be64(payload), read_u16(payload));
            }
        }
        prop_assert!(Attrs(&bytes).count() <= bytes.len() / 4 + 1);
    }

    #[test]
    fn attributes_round_trip(list in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..20)) {
        let mut w = Writer::new();
        for (kind, payload) in &list {
            w.attr(*kind, payload);
        }
        let read: Vec<_> = Attrs(w.bytes()).map(|(k, p)| (k, p.to_vec())).collect();
        prop_assert_eq!(read, list);
    }
}
