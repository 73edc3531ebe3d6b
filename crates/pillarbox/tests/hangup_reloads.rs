//! SIGHUP: a new certificate is used without a restart, and a broken file stops nothing.

mod common;

use common::Server;
use testkit::ca::Ca;
use testkit::client::Client;

#[tokio::test]
async fn a_new_certificate_is_used_after_a_hangup() {
    let mut server = Server::start();
    let new = Ca::new();
    new.issue(&["localhost"]).write(server.dir.path());
    server.hangup();
    let mut client = Client::connect(server.smtp()).await;
    client.ehlo().await;
    let mut client = client.start_tls("localhost", &new).await;
    client.auth_plain("app", &server.password).await.expect(235);
    server.terminate();
}

#[tokio::test]
async fn a_broken_configuration_is_told_and_the_old_one_stays() {
    let server = Server::start();
    std::fs::write(server.config(), "nonsense = 1\n").unwrap();
    server.hangup();
    assert!(server.output().contains("there is no setting `nonsense`"), "{}", server.output());
    let mut client = Client::connect(server.smtp()).await;
    client.ehlo().await;
    client.quit().await;
}
