//! A client submits by SMTP with STARTTLS and AUTH; the message is delivered to the smart host.

mod common;

use common::{PATIENCE, Server};
use testkit::client::Client;
use testkit::sink::Sink;

#[tokio::test]
async fn a_message_by_smtp_reaches_the_smart_host() {
    let server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());

    let mut client = Client::connect(server.smtp()).await;
    let offer = client.ehlo().await;
    assert!(offer.offers("STARTTLS") && !offer.offers("AUTH"), "no password in clear: {offer:?}");
    client.command("MAIL FROM:<app@shop.test>").await.expect(530);
    let mut client = client.start_tls("localhost", &server.ca).await;
    client.auth_plain("app", "wrong").await.expect(535);
    client.auth_plain("app", &server.password).await.expect(235);
    let answer = client.submit("app@shop.test", &["ann@one.test"], "Subject: hello\r\n\r\nHi\r\n").await.expect(250);
    client.quit().await;

    let received = sink.wait_for(1, PATIENCE).await;
    assert_eq!(received[0].from, "app@shop.test");
    assert_eq!(received[0].to, ["ann@one.test"]);
    assert!(received[0].header("Received").unwrap().contains("ESMTPSA"), "{}", received[0].text());
    assert!(received[0].text().ends_with("\r\n\r\nHi\r\n"), "{}", received[0].text());
    let id = answer.text();
    let id = id.split_whitespace().last().unwrap();
    let shown = server
        .until("the outcome", async || {
            let shown = server.run_json(&["queue", "show", id]);
            (shown["message"]["recipients"][0]["state"] == "delivered").then_some(shown)
        })
        .await;
    assert_eq!(shown["message"]["recipients"][0]["meaning"], "accepted by sink");
}
