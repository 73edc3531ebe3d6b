//! Whole transactions against scripted replies, then against any replies at all.

use proptest::prelude::*;

use super::*;
use crate::envelope::{DeliveryNotify, ReturnContent};

const DOT: &str = "(dot)";

fn capabilities(offered: &[&str]) -> Capabilities {
    let mut lines = vec!["mx.example".to_owned()];
    lines.extend(offered.iter().map(|&line| line.to_owned()));
    Capabilities::parse(&Reply { code: 250, lines })
}

fn addresses(count: usize) -> Vec<Address> {
    (0..count).map(|n| Address::parse(&format!("r{n}@d.example")).unwrap()).collect()
}

/// A plan with plain parameters from `s@s.example` to `recipients`.
fn transaction(caps: &Capabilities, recipients: &[Address]) -> Transaction {
    let plain = RcptParameters::default();
    let plan = Plan {
        reverse_path: &ReversePath(Some(Address::parse("s@s.example").unwrap())),
        parameters: &MailParameters::default(),
        recipients: recipients.iter().map(|address| (address, &plain)).collect(),
        size: 1000,
        eight_bit: false,
        caps,
    };
    Transaction::new(&plan).unwrap()
}

fn parse(reply: &str) -> Reply {
    let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
    Reply::new(code.parse().unwrap(), text)
}

/// Drives a transaction as a driver does and returns it with what was written, one command per element.
fn drive(mut transaction: Transaction, replies: &[&str]) -> (Transaction, Vec<String>) {
    let mut written = Vec::new();
    let mut replies = replies.iter();
    loop {
        let output = std::mem::take(transaction.output());
        written
            .extend(String::from_utf8(output).unwrap().split_inclusive("\r\n").map(|line| line.trim_end().to_owned()));
        match transaction.state() {
            State::NeedReply(_) => match replies.next() {
                Some(reply) => transaction.reply(parse(reply)),
                None => return (transaction, written),
            },
            State::SendContent => {
                written.push(DOT.to_owned());
                transaction.content_sent();
            }
            State::Done => {
                assert_eq!(replies.next(), None, "replies left over");
                return (transaction, written);
            }
        }
    }
}

/// One letter per recipient: Delivered, Refused at RCPT, refused at Sender or Message, Postponed, Open.
fn fates(transaction: &Transaction) -> String {
    let letter = |index| match transaction.fate(index) {
        Fate::Delivered(_) => 'D',
        Fate::Refused(Stage::Recipient, _) => 'R',
        Fate::Refused(Stage::Sender, _) => 'S',
        Fate::Refused(_, _) => 'M',
        Fate::Postponed => 'P',
        Fate::Open => 'O',
    };
    (0..transaction.recipients().len()).map(letter).collect()
}

#[test]
fn every_course_of_events_gives_each_recipient_its_fate() {
    // Replies are the same with and without PIPELINING where the server says the same.
    type Row<'a> = (&'a str, &'a [&'a str], usize, &'a [&'a str], &'a str, bool, bool);
    let (pipelining, lockstep): (&[&str], &[&str]) = (&["PIPELINING"], &[]);
    let rows: &[Row<'_>] = &[
        // what, offered, recipients, replies, fates, needs reset, closing
        ("all well, pipelined", pipelining, 2, &["250", "250", "250", "354", "250 ok"], "DD", false, false),
        ("all well, in lockstep", lockstep, 2, &["250", "250", "250", "354", "250 ok"], "DD", false, false),
        ("251 is accepted", pipelining, 1, &["250", "251", "354", "250 ok"], "D", false, false),
        ("one refused", pipelining, 2, &["250", "550", "250", "354", "250 ok"], "RD", false, false),
        ("one refused, in lockstep", lockstep, 2, &["250", "250", "450", "354", "250 ok"], "DR", false, false),
        ("all refused, DATA refused", pipelining, 2, &["250", "550", "450", "554"], "RR", true, false),
        ("all refused, DATA granted", pipelining, 2, &["250", "550", "550", "354", "250"], "RR", false, false),
        ("all refused, DATA granted, dot refused", pipelining, 1, &["250", "550", "354", "554"], "R", false, false),
        ("all refused, in lockstep", lockstep, 2, &["250", "550", "550"], "RR", true, false),
        ("MAIL refused, rest refused", pipelining, 2, &["550", "503", "503", "503"], "SS", false, false),
        ("MAIL refused, RCPT accepted", pipelining, 2, &["451", "250", "250", "503"], "SS", false, false),
        ("MAIL refused, DATA granted", pipelining, 2, &["550", "503", "503", "354", "250"], "SS", false, false),
        ("MAIL refused, in lockstep", lockstep, 2, &["550"], "SS", false, false),
        ("DATA refused", pipelining, 2, &["250", "250", "550", "451"], "MR", true, false),
        ("DATA refused, in lockstep", lockstep, 1, &["250", "250", "451"], "M", true, false),
        ("content refused", pipelining, 2, &["250", "250", "550", "354", "554 spam"], "MR", false, false),
        ("421 at MAIL", pipelining, 2, &["421"], "SS", false, true),
        ("421 at RCPT", pipelining, 3, &["250", "550", "421"], "RRR", true, true),
        ("421 at RCPT after an accepted one", pipelining, 3, &["250", "250", "421"], "RRR", true, true),
        ("421 at DATA", pipelining, 2, &["250", "250", "550", "421"], "MR", true, true),
        ("421 at the dot", pipelining, 2, &["250", "250", "550", "354", "421"], "MR", true, true),
        ("421 after MAIL was refused", pipelining, 2, &["550", "421"], "SS", false, true),
        ("421 at the lone dot", pipelining, 1, &["250", "550", "354", "421"], "R", true, true),
        ("too many", pipelining, 3, &["250", "250", "452 4.5.3", "452 4.5.3", "354", "250 ok"], "DPP", false, false),
        ("too many, no enhanced code", pipelining, 2, &["250", "250", "452 x", "354", "250 ok"], "DP", false, false),
        (
            "too many, old code",
            pipelining,
            2,
            &["250", "250", "552 Too many recipients", "354", "250 ok"],
            "DP",
            false,
            false,
        ),
        (
            "too many at the first is a refusal",
            pipelining,
            2,
            &["250", "452 4.5.3", "250", "354", "250"],
            "RD",
            false,
            false,
        ),
        ("full mailbox is not too many", pipelining, 2, &["250", "250", "452 4.2.2", "354", "250"], "DR", false, false),
        ("over quota is not too many", pipelining, 2, &["250", "250", "552 5.2.2", "354", "250"], "DR", false, false),
        ("too many, then the dot fails", pipelining, 2, &["250", "250", "452 4.5.3", "354", "451"], "MP", false, false),
        ("3yz to MAIL", lockstep, 1, &["354"], "S", false, true),
        ("3yz to RCPT", pipelining, 1, &["250", "354", "503"], "R", true, true),
        ("2yz to DATA delivers nothing", pipelining, 1, &["250", "250", "250"], "M", true, true),
        ("3yz to the dot delivers nothing", pipelining, 1, &["250", "250", "354", "354"], "M", false, true),
        ("the link dies before the dot's reply", pipelining, 1, &["250", "250", "354"], "O", true, false),
        ("the link dies at RCPT", pipelining, 2, &["250", "550"], "RO", true, false),
        ("RCPTMAX", &["PIPELINING", "LIMITS RCPTMAX=1"], 3, &["250", "250", "354", "250"], "DPP", false, false),
    ];
    for &(what, offered, recipients, replies, expected, needs_reset, closing) in rows {
        let (transaction, _) = drive(transaction(&capabilities(offered), &addresses(recipients)), replies);
        assert_eq!(fates(&transaction), expected, "{what}");
        assert_eq!(transaction.needs_reset(), needs_reset, "{what}: needs reset");
        assert_eq!(transaction.closing(), closing, "{what}: closing");
    }
}

#[test]
fn a_refusal_of_mail_stands_when_the_link_dies_behind_it() {
    let caps = capabilities(&["PIPELINING"]);
    let (mut transaction, _) = drive(transaction(&caps, &addresses(2)), &["554 no"]);
    assert!(transaction.outcome().is_none());
    transaction.link_died();
    let refused = |end: &TransactionEnd| matches!(end, TransactionEnd::Refused { stage: Stage::Sender, .. });
    assert!(transaction.outcome().is_some_and(refused) && transaction.closing());
}

#[test]
fn without_a_refusal_a_dead_link_decides_nothing() {
    for replies in [&["250 ok"][..], &["250 ok", "250 ok"], &["250 ok", "250 ok", "354 go"]] {
        let caps = capabilities(&["PIPELINING"]);
        let (mut transaction, _) = drive(transaction(&caps, &addresses(1)), replies);
        transaction.link_died();
        assert_eq!(transaction.outcome(), None, "{replies:?}");
    }
}

#[test]
fn pipelining_writes_all_commands_at_once() {
    let mut transaction = transaction(&capabilities(&["PIPELINING"]), &addresses(2));
    let expected = "MAIL FROM:<s@s.example>\r\nRCPT TO:<r0@d.example>\r\nRCPT TO:<r1@d.example>\r\nDATA\r\n";
    assert_eq!(transaction.output(), expected.as_bytes());
    assert_eq!(transaction.state(), State::NeedReply(Stage::Sender));
}

#[test]
fn without_pipelining_each_command_awaits_its_reply() {
    let mut transaction = transaction(&capabilities(&[]), &addresses(1));
    for (command, reply) in [("MAIL FROM:<s@s.example>", 250), ("RCPT TO:<r0@d.example>", 250), ("DATA", 354)] {
        assert_eq!(std::mem::take(transaction.output()), format!("{command}\r\n").as_bytes());
        transaction.reply(Reply::new(reply, ""));
    }
    assert!(transaction.output().is_empty());
    assert_eq!(transaction.state(), State::SendContent);
    assert!(!transaction.past_dot());
    transaction.content_sent();
    assert!(transaction.past_dot());
    assert_eq!(transaction.state(), State::NeedReply(Stage::Message));
    transaction.reply(Reply::new(250, "queued"));
    assert!(!transaction.past_dot());
    assert_eq!(transaction.outcome(), Some(&TransactionEnd::Delivered(Reply::new(250, "queued"))));
}

#[test]
fn long_pipelines_are_sent_in_windows() {
    let mut transaction = transaction(&capabilities(&["PIPELINING"]), &addresses(250));
    let (mut batches, mut commands) = (Vec::new(), 0);
    while let State::NeedReply(_) = transaction.state() {
        let output = std::mem::take(transaction.output());
        if !output.is_empty() {
            assert_eq!(commands, 0, "written before all replies were read");
            commands = output.iter().filter(|&&octet| octet == b'\n').count();
            batches.push(commands);
        }
        commands -= 1;
        transaction.reply(Reply::new(if batches.iter().sum::<usize>() - commands == 252 { 354 } else { 250 }, ""));
    }
    assert_eq!(batches, [100, 100, 52]);
    assert_eq!(transaction.state(), State::SendContent);
}

#[test]
fn nobody_accepted_means_an_empty_content() {
    let (_, written) = drive(transaction(&capabilities(&["PIPELINING"]), &addresses(1)), &["250", "550", "354", "250"]);
    assert_eq!(written[2..], ["DATA", "."]);
    let (_, written) = drive(transaction(&capabilities(&[]), &addresses(1)), &["250", "550"]);
    assert!(!written.contains(&"DATA".to_owned()));
}

#[test]
fn a_reply_in_the_middle_of_the_content_ends_it() {
    for code in [250, 354, 421, 451, 554] {
        let mut transaction = transaction(&capabilities(&["PIPELINING"]), &addresses(1));
        [250, 250, 354].into_iter().for_each(|code| transaction.reply(Reply::new(code, "")));
        assert_eq!(transaction.state(), State::SendContent);
        transaction.reply(Reply::new(code, "early"));
        transaction.content_sent();
        assert_eq!(fates(&transaction), "M");
        assert!(transaction.closing());
    }
}

#[test]
fn extensions_are_used_only_where_offered() {
    let sender = ReversePath(Some(Address::parse("s@s.example").unwrap()));
    let recipient = Address::parse("r@d.example").unwrap();
    let parameters = MailParameters {
        ret: Some(ReturnContent::Headers),
        envid: Some("a+b".to_owned()),
        auth: Some("x".to_owned()),
        smtputf8: true,
        size: Some(5),
        ..MailParameters::default()
    };
    let rcpt = RcptParameters { notify: Some(DeliveryNotify::Never), orcpt: Some("rfc822;o@d.example".to_owned()) };
    let commands = |offered: &[&str], eight_bit| {
        let caps = capabilities(offered);
        let plan = Plan {
            reverse_path: &sender,
            parameters: &parameters,
            recipients: vec![(&recipient, &rcpt)],
            size: 77,
            eight_bit,
            caps: &caps,
        };
        let (_, written) = drive(Transaction::new(&plan).unwrap(), &["250"]);
        (written[0].clone(), written[1].clone())
    };
    assert_eq!(commands(&[], false), ("MAIL FROM:<s@s.example>".into(), "RCPT TO:<r@d.example>".into()));
    assert_eq!(
        commands(&["SIZE 100", "8BITMIME", "SMTPUTF8"], false),
        ("MAIL FROM:<s@s.example> SIZE=77".into(), "RCPT TO:<r@d.example>".into())
    );
    let (mail, rcpt) = commands(&["SIZE", "8BITMIME", "SMTPUTF8", "DSN"], true);
    assert_eq!(mail, "MAIL FROM:<s@s.example> SIZE=77 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb");
    assert!(rcpt.starts_with("RCPT TO:<r@d.example> ") && rcpt.contains("NOTIFY=NEVER"), "{rcpt}");
    assert!(rcpt.contains("ORCPT=rfc822;o@d.example"), "{rcpt}");
}

#[test]
fn what_the_server_cannot_take_is_said_before_anything_is_sent() {
    let ascii = Address::parse("r@d.example").unwrap();
    let utf8 = Address::parse("grüße@d.example").unwrap();
    let attempt = |offered: &[&str], recipient: &Address, size, eight_bit, smtputf8| {
        let caps = capabilities(offered);
        let plain = RcptParameters::default();
        let plan = Plan {
            reverse_path: &ReversePath(None),
            parameters: &MailParameters { smtputf8, ..MailParameters::default() },
            recipients: vec![(recipient, &plain)],
            size,
            eight_bit,
            caps: &caps,
        };
        Transaction::new(&plan).map(|_| ())
    };
    let missing = |extension: &str| Err(Failure::MissingExtension { extension: extension.to_owned() });
    assert_eq!(attempt(&["SIZE 100"], &ascii, 100, false, false), Ok(()));
    assert_eq!(attempt(&["SIZE 100"], &ascii, 101, false, false), Err(Failure::TooLarge { size: 101, limit: 100 }));
    assert_eq!(attempt(&["SIZE 0"], &ascii, 101, false, false), Ok(()));
    assert_eq!(attempt(&[], &ascii, 1, true, false), missing("8BITMIME"));
    assert_eq!(attempt(&["8BITMIME"], &ascii, 1, true, false), Ok(()));
    assert_eq!(attempt(&["8BITMIME"], &utf8, 1, false, true), missing("SMTPUTF8"));
    assert_eq!(attempt(&["8BITMIME"], &ascii, 1, true, true), missing("SMTPUTF8"));
    assert_eq!(attempt(&["8BITMIME"], &ascii, 1, false, true), Ok(()));
    assert_eq!(attempt(&["8BITMIME", "SMTPUTF8"], &utf8, 1, true, true), Ok(()));
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let codes =
        vec![250_u16, 250, 250, 251, 200, 299, 354, 354, 354, 421, 450, 451, 452, 503, 550, 552, 554, 100, 0, 999];
    let texts = vec!["", "ok", "4.5.3 many", "5.5.3 many", "too many recipients", "4.2.2 full"];
    (prop::sample::select(codes), prop::sample::select(texts)).prop_map(|(code, text)| Reply::new(code, text))
}

proptest! {
    #[test]
    fn never_claims_a_delivery_the_server_did_not_confirm(
        replies in prop::collection::vec((any_reply(), prop::bool::weighted(0.95)), 0..12),
        recipients in 1_usize..6,
        pipelining: bool,
        rcptmax in prop::option::of(1_u32..4),
    ) {
        let mut offered = Vec::new();
        if pipelining {
            offered.push("PIPELINING".to_owned());
        }
        offered.extend(rcptmax.map(|most| format!("LIMITS RCPTMAX={most}")));
        let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
        let mut transaction = transaction(&capabilities(&offered), &addresses(recipients));
        let mut rcpt_accepted = vec![false; recipients];
        let (mut dot_confirmed, mut content_sent, mut replies_used) = (None, false, 0);
        for (reply, complete) in replies {
            // Now and then the content is interrupted by a reply.
            if transaction.state() == State::SendContent && complete {
                transaction.content_sent();
                content_sent = true;
            }
            if transaction.state() == State::Done {
                break;
            }
            if let Some(index) = transaction.current_recipient() {
                rcpt_accepted[index] = reply.class() == 2;
            }
            dot_confirmed = (content_sent && reply.class() == 2).then(|| reply.clone());
            replies_used += 1;
            transaction.reply(reply);
            prop_assert!(transaction.state() == State::Done || transaction.outcome().is_none());
        }
        // MAIL, RCPT each, DATA, dot: no more replies than that are ever awaited.
        prop_assert!(replies_used <= recipients + 3);
        prop_assert!(replies_used < recipients + 3 || transaction.state() == State::Done);
        for (index, &rcpt_accepted) in rcpt_accepted.iter().enumerate() {
            if let Fate::Delivered(reply) = transaction.fate(index) {
                prop_assert!(rcpt_accepted);
                prop_assert_eq!(Some(reply), dot_confirmed.as_ref());
            }
            if transaction.state() == State::Done {
                prop_assert_ne!(transaction.fate(index), Fate::Open);
            }
        }
        let postponed = transaction.recipients().iter().any(|result| matches!(result, RecipientResult::Postponed(Some(_))));
        prop_assert!(!postponed || transaction.recipients().contains(&RecipientResult::Accepted));
        let mut commands = std::mem::take(transaction.output());
        prop_assert!(commands.is_empty() || commands.ends_with(b"\r\n"));
        commands.clear();
    }
}
