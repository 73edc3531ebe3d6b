//! A name server for measurements: answers from a table of finished packets, as fast as one thread can. And a client
//! that floods one, so that a measurement can say what its name server would have been able to do.
//!
//!     flat_dns serve ADDR:PORT FILE      each line of FILE: `NAME TYPE-NUMBER HEX-OF-RDATA`
//!     flat_dns flood ADDR:PORT FILE SECONDS
//!
//! Knows nothing of delegation, TCP or EDNS.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::unwrap_used, reason = "a tool of the developers")]

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::time::Duration;

type Table = HashMap<Vec<u8>, (u8, Vec<u8>)>;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "serve", at, file] => serve(at, file),
        [_, "flood", at, file, seconds] => flood(at, file, seconds.parse().expect("seconds")),
        _ => println!("flat_dns serve ADDR:PORT FILE | flood ADDR:PORT FILE SECONDS"),
    }
}

/// Labels with their lengths, lower case, and the type.
fn key(name: &str, kind: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).expect("a label"));
        octets.extend(label.to_ascii_lowercase().as_bytes());
    }
    octets.push(0);
    octets.extend(kind.to_be_bytes());
    octets
}

fn lines(file: &str) -> Vec<(String, u16, Vec<u8>)> {
    let text = std::fs::read_to_string(file).expect("the file of records");
    let octets =
        |hex: &str| (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..][..2], 16).expect("hex")).collect();
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].to_owned(), words[1].parse().expect("type"), octets(words[2]))
    };
    text.lines().map(line).collect()
}

fn serve(at: &str, file: &str) {
    let (mut table, mut known) = (Table::new(), HashSet::new());
    for (name, kind, data) in lines(file) {
        let (count, records) = table.entry(key(&name, kind)).or_default();
        *count += 1;
        records.extend([0xc0, 0x0c]);
        records.extend(kind.to_be_bytes());
        records.extend([0, 1, 0, 0, 1, 44]);
        records.extend(u16::try_from(data.len()).expect("length").to_be_bytes());
        records.extend(data);
        let mut rest = name.as_str();
        while !rest.is_empty() {
            let mut exists = key(rest, 0);
            exists.truncate(exists.len() - 2);
            known.insert(exists);
            rest = rest.split_once('.').map_or("", |(_, rest)| rest);
        }
    }
    // The root's SOA, 300 seconds.
    let absent = [&[0, 0, 6, 0, 1, 0, 0, 1, 44, 0, 22, 0, 0][..], &[0, 0, 1, 44].repeat(5)].concat();
    let socket = UdpSocket::bind(at).expect("bind");
    println!("ready");
    let (mut query, mut answer) = ([0; 1_500], Vec::new());
    while let Ok((count, peer)) = socket.recv_from(&mut query) {
        let Some(end) = query[..count].iter().skip(12).position(|octet| *octet == 0).map(|at| at + 13) else {
            continue;
        };
        let asked = query[12..end + 2].to_ascii_lowercase();
        let found = table.get(&asked);
        let exists = found.is_some() || known.contains(&asked[..asked.len() - 2]);
        answer.clear();
        answer.extend(&query[..2]);
        answer.extend([0x85, if exists { 0x80 } else { 0x83 }, 0, 1, 0]);
        answer.extend(found.map_or([0, 0, 1, 0, 0], |(count, _)| [*count, 0, 0, 0, 0]));
        answer.extend(&query[12..end + 4]);
        answer.extend(found.map_or(absent.as_slice(), |(_, records)| records));
        let _ = socket.send_to(&answer, peer);
    }
}

fn flood(at: &str, file: &str, seconds: u64) {
    const WINDOW: usize = 64;
    let questions: Vec<Vec<u8>> = lines(file).into_iter().map(|(name, kind, _)| key(&name, kind)).collect();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.connect(at).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("time limit");
    let packet = |n: usize| {
        let mut octets = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        octets.extend(&questions[n % questions.len()]);
        octets.extend([0, 1]);
        octets
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(seconds));
        let _ = sender.send(());
    });
    let (mut answered, mut room) = (0, [0; 1_500]);
    (0..WINDOW).for_each(|n| drop(socket.send(&packet(n))));
    while receiver.try_recv().is_err() {
        match socket.recv(&mut room) {
            Ok(_) => answered += 1,
            // Lost: the window is filled again.
            Err(_) => (1..WINDOW).for_each(|n| drop(socket.send(&packet(n)))),
        }
        let _ = socket.send(&packet(answered));
    }
    println!("{} answers a second", answered as u64 / seconds);
}
