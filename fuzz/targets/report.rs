//! Mail that comes back: no panic, bounded, the same with every kind of line end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::report::{MAX_RECIPIENTS, Report, classify};

fuzz_target!(|octets: &[u8]| {
    let report = classify(octets);
    if let Report::Bounce(bounce) = &report {
        assert!(bounce.recipients.len() <= MAX_RECIPIENTS && bounce.notice.len() <= 2000);
        for one in &bounce.recipients {
            assert!(one.diagnostic.len() <= 2000 && one.final_recipient.len() <= 320);
            assert!(!one.final_recipient.contains(char::is_control) && !one.diagnostic.contains(char::is_control));
        }
    }
    if !octets.contains(&b'\r') {
        let mut network = Vec::with_capacity(octets.len() * 2);
        for &octet in octets {
            if octet == b'\n' {
                network.push(b'\r');
            }
            network.push(octet);
        }
        assert_eq!(classify(&network), report);
    }
});
