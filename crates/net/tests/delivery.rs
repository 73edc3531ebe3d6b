//! Transactions over one connection: what goes over the wire, and what is known after each way it can end.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod peer;

use std::time::Duration;

use net::client::{ClientSettings, Recording, TlsMode};
use peer::{LOCAL, MODERN, connected, deliver, endpoint, local, net_with, serve, settings};
use proto::smtp::client::{RecipientResult, TransactionEnd};
use proto::transcript::{Failure, Stage};

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\nend\r\n";

#[tokio::test]
async fn one_write_for_the_commands_and_one_for_the_content() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.open().await;
            let commands = conn.read().await;
            conn.send("250 ok\r\n250 ok\r\n354 go\r\n").await;
            let content = conn.read().await;
            conn.send("250 2.0.0 queued as 7\r\n").await;
            assert_eq!(conn.line().await, "QUIT\r\n");
            conn.send("221 bye\r\n").await;
            [commands, content].map(|octets| String::from_utf8(octets).expect("text"))
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert!(matches!(&delivery.end, Some(TransactionEnd::Delivered(reply)) if reply.code == 250));
        assert_eq!(delivery.results, [RecipientResult::Accepted]);
        assert!(delivery.reusable && delivery.failure.is_none() && !delivery.stale && !delivery.past_dot);
        assert_eq!(delivery.transcript.steps.len(), 1, "a success keeps the last reply only");
        connection.quit().await;
        let [commands, content] = server.await.expect("server").remove(0);
        assert_eq!(commands, "MAIL FROM:<from@client.test> SIZE=25\r\nRCPT TO:<to@mx.test>\r\nDATA\r\n");
        assert_eq!(content, "Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n");
    })
    .await;
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_reply() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.send("220 old\r\n").await;
            conn.answer("EHLO", "502 what?\r\n").await;
            conn.answer("HELO client.test", "250 old\r\n").await;
            for (start, reply) in [("MAIL", "250 ok\r\n"), ("RCPT", "250 ok\r\n"), ("DATA", "354 go\r\n")] {
                conn.answer(start, reply).await;
                assert!(conn.buffer.is_empty());
            }
            let content = conn.content().await;
            conn.send("250 ok\r\n").await;
            content
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["to@mx.test"], b"x", true).await;
        assert!(matches!(delivery.end, Some(TransactionEnd::Delivered(_))));
        assert_eq!(server.await.expect("server"), ["x\r\n.\r\n"]);
    })
    .await;
}

#[tokio::test]
async fn a_refused_recipient_does_not_hold_up_the_others_and_the_transcript_says_who() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.answer("MAIL", "250 ok\r\n").await;
            conn.answer("RCPT TO:<good@", "250 ok\r\n").await;
            conn.answer("RCPT TO:<bad@", "550 5.1.1 no such user\r\n").await;
            conn.answer("DATA", "354 go\r\n").await;
            conn.content().await;
            conn.send("250 ok\r\n").await;
            conn.rest().await
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["good@mx.test", "bad@mx.test"], BODY, true).await;
        assert_eq!(delivery.results[0], RecipientResult::Accepted);
        assert!(matches!(&delivery.results[1], RecipientResult::Refused(reply) if reply.code == 550));
        assert!(delivery.reusable);
        let refused: Vec<_> = delivery.transcript.steps.iter().filter(|step| step.failure.is_some()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].sent.as_deref(), Some("RCPT TO:<bad@mx.test>"));
        assert_eq!(refused[0].stage, Stage::Recipient);
    })
    .await;
}

#[tokio::test]
async fn a_no_before_the_dot_delivers_nothing() {
    for size in [20, 600 * 1024] {
        local(async {
            let (address, server) = serve(1, async |_, mut conn| {
                conn.open().await;
                conn.envelope().await;
                conn.rest().await
            })
            .await;
            let mut connection = connected(address).await;
            let delivery =
                deliver(&mut connection, &["to@mx.test"], &b"line of text\r\n".repeat(size / 14), false).await;
            assert!(matches!(delivery.failure, Some((Stage::Message, Failure::Local { .. }))));
            assert!(!delivery.reusable && !delivery.past_dot && delivery.end.is_none());
            drop(connection);
            let seen = server.await.expect("server").remove(0);
            assert!(!seen.contains("\r\n.\r\n"));
        })
        .await;
    }
}

#[tokio::test]
async fn a_long_content_arrives_whole_with_every_dot() {
    let mut content = Vec::new();
    for number in 0..40_000 {
        content.extend_from_slice(
            format!("{}line {number} of the content\r\n", [".", "", "..", "", ""][number % 5]).as_bytes(),
        );
        if number == 20_000 {
            content.extend_from_slice(&b"a run without any dot at all\r\n".repeat(10_000));
        }
    }
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.envelope().await;
            let content = conn.content().await;
            conn.send("250 ok\r\n").await;
            content
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["to@mx.test"], &content, true).await;
        assert!(matches!(delivery.end, Some(TransactionEnd::Delivered(_))), "{delivery:?}");
        let seen = server.await.expect("server").remove(0);
        let unstuffed = seen.strip_suffix(".\r\n").expect("dot").replace("\r\n.", "\r\n");
        let unstuffed = unstuffed.strip_prefix('.').unwrap_or(&unstuffed);
        assert!(unstuffed.as_bytes() == content, "content differs");
    })
    .await;
}

#[tokio::test]
async fn a_disconnect_is_reported_with_its_stage_and_only_the_last_one_is_uncertain() {
    for (stop, stage, past_dot) in [
        (0, Stage::Sender, false),
        (1, Stage::Recipient, false),
        (2, Stage::Message, false),
        (3, Stage::Message, false),
        (4, Stage::Message, true),
    ] {
        local(async {
            let (address, _server) = serve(1, async move |_, mut conn| {
                conn.open().await;
                for (step, (start, reply)) in
                    [("MAIL", "250 ok\r\n"), ("RCPT", "250 ok\r\n"), ("DATA", "354 go\r\n")].into_iter().enumerate()
                {
                    let line = conn.line().await;
                    assert!(line.starts_with(start));
                    if step == stop {
                        return;
                    }
                    conn.send(reply).await;
                }
                if stop == 4 {
                    conn.content().await;
                }
            })
            .await;
            let mut connection = connected(address).await;
            // Large enough that a close while it is being sent is noticed before its end.
            let content = if stop == 3 { b"some line of content\r\n".repeat(1_000_000) } else { BODY.to_vec() };
            let delivery = deliver(&mut connection, &["to@mx.test"], &content, true).await;
            assert_eq!(delivery.failure, Some((stage, Failure::Disconnected)), "stop {stop}");
            assert_eq!(delivery.past_dot, past_dot, "stop {stop}");
            assert!(!delivery.reusable && !delivery.stale && delivery.end.is_none());
        })
        .await;
    }
}

#[tokio::test]
async fn silence_after_the_dot_ends_after_ten_minutes_in_uncertainty() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.envelope().await;
            conn.content().await;
            tokio::time::pause();
            conn.rest().await
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert_eq!(delivery.failure, Some((Stage::Message, Failure::Timeout { seconds: 600 })));
        assert!(delivery.past_dot && !delivery.reusable);
    })
    .await;
}

#[tokio::test]
async fn a_dripping_reply_does_not_extend_the_time_limit() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.line().await;
            tokio::time::pause();
            for _ in 0..100 {
                conn.send("2").await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        })
        .await;
        let mut connection = connected(address).await;
        let delivery = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert_eq!(delivery.failure, Some((Stage::Sender, Failure::Timeout { seconds: 300 })));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_stale_and_not_a_failure_of_the_message() {
    for farewell in ["", "421 4.4.2 idle for too long\r\n"] {
        local(async {
            let (address, server) = serve(1, async move |_, mut conn| {
                conn.open().await;
                conn.envelope().await;
                conn.content().await;
                conn.send("250 ok\r\n").await;
                conn.send(farewell).await;
            })
            .await;
            let mut connection = connected(address).await;
            assert!(deliver(&mut connection, &["to@mx.test"], BODY, true).await.reusable);
            server.await.expect("server");
            let delivery = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
            assert!(delivery.stale && !delivery.reusable, "{farewell:?}: {delivery:?}");
            assert_eq!(
                delivery.results,
                if farewell.is_empty() || delivery.end.is_none() {
                    vec![RecipientResult::Pending]
                } else {
                    delivery.results.clone()
                }
            );
        })
        .await;
    }
}

#[tokio::test]
async fn an_idle_connection_notices_that_the_server_says_goodbye() {
    for farewell in ["", "421 4.3.2 shutting down\r\n"] {
        local(async {
            let (address, _server) = serve(1, async move |_, mut conn| {
                conn.open().await;
                conn.send(farewell).await;
            })
            .await;
            let mut connection = connected(address).await;
            tokio::time::timeout(Duration::from_secs(30), connection.closed()).await.expect("noticed");
            assert!(connection.reset().await.is_err());
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_failed_transaction_left_open_is_reset_before_the_next() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.answer("MAIL", "250 ok\r\n").await;
            conn.answer("RCPT", "450 4.2.1 later\r\n").await;
            conn.answer("DATA", "503 no recipients\r\n").await;
            conn.answer("RSET", "250 ok\r\n").await;
            conn.envelope().await;
            conn.content().await;
            conn.send("250 ok\r\n").await;
        })
        .await;
        let mut connection = connected(address).await;
        let refused = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert!(refused.reusable && matches!(refused.results[0], RecipientResult::Refused(_)));
        assert_eq!(refused.end, Some(TransactionEnd::NoRecipients));
        let delivered = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert!(matches!(delivered.end, Some(TransactionEnd::Delivered(_))));
        assert_eq!(connection.transactions(), 2);
        server.await.expect("server");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_while_content_is_sent_is_heard() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.open().await;
            conn.envelope().await;
            conn.line().await;
            conn.send("552 5.3.4 too large\r\n").await;
            // Reads on for a while, then closes: the refusal is in the client's buffer by then.
            for _ in 0..20 {
                conn.line().await;
            }
        })
        .await;
        let mut connection = connected(address).await;
        let content = b"some line of content\r\n".repeat(1_000_000);
        let delivery = deliver(&mut connection, &["to@mx.test"], &content, true).await;
        let heard = matches!(&delivery.end, Some(TransactionEnd::Refused { reply, .. }) if reply.code == 552);
        // A reset may overtake the words; then the link is what failed, before the dot in any case.
        assert!(heard || delivery.failure == Some((Stage::Message, Failure::Disconnected)), "{delivery:?}");
        assert!(!delivery.reusable && !delivery.past_dot);
    })
    .await;
}

#[tokio::test]
async fn a_message_the_server_cannot_take_costs_no_command() {
    local(async {
        let (address, server) = serve(1, async |_, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", "250-mx.test\r\n250 SIZE 10\r\n").await;
            conn.line().await
        })
        .await;
        let mut connection = connected(address).await;
        let eight = deliver(&mut connection, &["to@mx.test"], "\u{fc}\r\n".as_bytes(), true).await;
        assert!(matches!(eight.failure, Some((Stage::Sender, Failure::MissingExtension { .. }))));
        let large = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        assert_eq!(large.failure, Some((Stage::Sender, Failure::TooLarge { size: 25, limit: 10 })));
        assert!(large.reusable && eight.reusable && connection.transactions() == 0);
        connection.quit().await;
        assert_eq!(server.await.expect("server"), ["QUIT\r\n"]);
    })
    .await;
}

#[tokio::test]
async fn a_diagnosis_sees_every_step_of_a_success() {
    local(async {
        let (address, _server) = serve(1, async |_, mut conn| {
            conn.send("220 mx.test\r\n").await;
            conn.answer("EHLO", MODERN).await;
            conn.envelope().await;
            conn.content().await;
            conn.send("250 2.0.0 queued\r\n").await;
        })
        .await;
        let settings = ClientSettings { recording: Recording::Full, ..settings() };
        let mut connection =
            net::client::connect(&net_with(None), &endpoint(address, TlsMode::None), &[LOCAL], &settings)
                .await
                .expect("connection");
        let before = connection.take_transcript();
        let stages: Vec<Stage> = before.steps.iter().map(|step| step.stage).collect();
        assert_eq!(stages, [Stage::Dns, Stage::Tcp, Stage::Banner, Stage::Ehlo]);
        let delivery = deliver(&mut connection, &["to@mx.test"], BODY, true).await;
        let sent: Vec<&str> = delivery.transcript.steps.iter().filter_map(|step| step.sent.as_deref()).collect();
        assert_eq!(sent, ["MAIL FROM:<from@client.test>", "RCPT TO:<to@mx.test>", "DATA", "(25 octets)."]);
        assert_eq!(delivery.transcript.failure(), None);
    })
    .await;
}
