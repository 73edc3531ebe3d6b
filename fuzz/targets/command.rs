//! Command lines: no panic; a parsed MAIL or RCPT is written back as one line that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::smtp::command::{Command, encode_mail, encode_rcpt};

fuzz_target!(|line: &[u8]| {
    let mut written = Vec::new();
    match Command::parse(line) {
        Ok(Command::Mail { reverse_path, parameters }) => {
            encode_mail(&reverse_path, &parameters, &mut written);
            match Command::parse(one_line(&written)) {
                Ok(Command::Mail { reverse_path: path, parameters: again }) => {
                    assert_eq!((path, again), (reverse_path, parameters));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(Command::Rcpt { address, parameters }) => {
            encode_rcpt(&address, &parameters, &mut written);
            match Command::parse(one_line(&written)) {
                Ok(Command::Rcpt { address: path, parameters: again }) => {
                    assert_eq!((path, again), (address, parameters));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(command) => assert!(!format!("{command:?}").contains(['\r', '\n'])),
        Err(error) => {
            error.reply().encode_into(&mut written);
            assert!(one_line(&written).len() <= 510);
        }
    }
});

fn one_line(written: &[u8]) -> &[u8] {
    let line = written.strip_suffix(b"\r\n").expect("ends in CR LF");
    assert!(!line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
    line
}
