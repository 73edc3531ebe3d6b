//! Content: the first octet says how the others are cut. What we stuff is read back and never ends early; what we read
//! ends at CR LF . CR LF and nowhere else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memchr::memmem;
use proto::smtp::body::{DataDecoder, stuff_into};

fuzz_target!(|octets: &[u8]| {
    let Some((cut, octets)) = octets.split_first() else { return };
    let cut = usize::from(*cut).max(1);

    let mut wire = Vec::new();
    stuff_into(octets, &mut wire);
    let (content, used, bare) = decode(&wire, cut);
    assert_eq!((used, bare), (Some(wire.len()), false));
    if !has_bare(octets) {
        let complete = octets.is_empty() || octets.ends_with(b"\r\n");
        assert_eq!(content.strip_suffix(if complete { b"" as &[u8] } else { b"\r\n" }), Some(octets));
    }

    let (content, used, bare) = decode(octets, cut);
    let whole = [b"\r\n", octets].concat();
    assert_eq!(used, memmem::find(&whole, b"\r\n.\r\n").map(|position| position + 3));
    if let Some(used) = used {
        assert_eq!(bare, has_bare(&octets[..used]));
    }
    if !bare {
        assert!(content.len() <= octets.len());
    }
});

fn decode(octets: &[u8], cut: usize) -> (Vec<u8>, Option<usize>, bool) {
    let mut decoder = DataDecoder::new();
    let mut content = Vec::new();
    let mut before = 0;
    for piece in octets.chunks(cut) {
        if let Some(end) = decoder.decode(piece, &mut content) {
            return (content, Some(before + end), decoder.check().bare());
        }
        before += piece.len();
    }
    (content, None, decoder.check().bare())
}

fn has_bare(octets: &[u8]) -> bool {
    let cr_alone = |(position, octet): (usize, &u8)| match octet {
        b'\r' => octets.get(position + 1) != Some(&b'\n'),
        b'\n' => position == 0 || octets[position - 1] != b'\r',
        _ => false,
    };
    octets.iter().enumerate().any(cr_alone)
}
