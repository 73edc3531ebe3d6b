//! Records of sender policies: no panic, positions inside of the record, and surveys and evaluations that end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::policy::dns::{Data, Reply, Step, Steps};
use proto::policy::spf::{Client, Evaluation, Limits, Survey};
use proto::policy::{Parsed, bimi, dkim, dmarc, spf, sts, tlsrpt};

fuzz_target!(|octets: &[u8]| {
    let size = octets.len();
    check(&spf::parse(octets), size);
    check(&dmarc::parse(octets), size);
    check(&dkim::parse_key(octets), size);
    check(&dkim::parse_signature(octets), size);
    check(&sts::parse(octets), size);
    check(&sts::parse_policy(octets), size);
    check(&tlsrpt::parse(octets), size);
    check(&bimi::parse(octets), size);
    let fields = dkim::fields(octets);
    let _ = fields.iter().map(dkim::relaxed_field).count();
    let _ = dkim::public_key_of(octets);
    // Every name has this record, so every include leads on.
    drive(Survey::new("a.example", Limits::default()), octets);
    let client = Client {
        ip: [192, 0, 2, 7].into(),
        helo: "h.example".into(),
        mail_from: "l@a.example".into(),
        receiver: "r.example".into(),
        now: 0,
    };
    drive(Evaluation::new(client, Limits::default()), octets);
    drive(dmarc::Discovery::new("a.b.c.d.e.f.g.h.example.com"), octets);
});

fn check<T>(parsed: &Parsed<T>, size: usize) {
    assert!(parsed.remarks.iter().all(|remark| remark.at <= size && remark.text.len() < 1000));
    assert!(parsed.record.is_some() || parsed.has_errors());
}

fn drive<S: Steps>(mut procedure: S, record: &[u8]) {
    for _ in 0..2000 {
        match procedure.step() {
            Step::Done(_) => return,
            Step::Ask(question) => procedure.answer(question, Reply::Records(vec![Data::Txt(record.to_vec())])),
        }
    }
    panic!("asks without end");
}
