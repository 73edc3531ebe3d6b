"""From the first start to the first mail, and what is set up by pages: routes, their test, senders; then how a message is found."""

import contextlib
import re
import smtplib
import time
import unittest

import pages_browser as chromium
import pages_flow as flow
from pages_flow import Person, both
from pages_world import PASSWORD, Site


class FirstStart(unittest.TestCase):
    def test_from_the_token_to_the_first_mail_in_three_minutes(self):
        browser = chromium.Browser()
        self.addCleanup(browser.stop)
        for script in (True, False):
            with self.subTest(script=script):
                site = Site("setup")
                try:
                    site.hops()
                    with browser.person(site.url, script=script) as page:
                        self.set_up(site, Person(page, site.url, script))
                        self.assertFalse(page.wrongs)
                finally:
                    site.stop()

    def set_up(self, site, person):
        begun = time.monotonic()
        person.open("/login")
        person.fill("One-time token", site.first_token())
        person.press("^Log in")
        self.assertEqual("/setup", person.path())
        person.fill("User name", "admin")
        person.fill("^Password", PASSWORD)
        person.fill("again", "something else")
        person.press("^Create$")
        self.assertIn("differ", person.problem())
        person.fill("User name", "admin")
        person.fill("^Password", PASSWORD)
        person.fill("again", PASSWORD)
        person.press("^Create$")
        self.assertEqual("/admin/start", person.path())

        person.follow("^Add a route$")
        person.choose("Where does the mail leave", "smarthost")
        person.press("^Choose$")
        route = lambda host: (person.fill("Name of the route", "office"), person.fill("^Host", host), person.fill("^Port", "25"),
                              person.choose("^Encryption", "none"))
        route("smtp.closed.test")
        person.press("Test and save")
        self.assertIn("refuse", person.text())
        self.assertEqual("smtp.closed.test", person.page.get_by_label(re.compile("^Host")).input_value(), "what was typed is there still")
        self.assertNotIn("office", site.cli("route", "ls"), "a route that fails its test is not saved")
        route("smtp.office.test")
        person.press("Test and save")
        self.assertEqual("/admin/start", person.path())
        person.press("Send all mail by office")

        person.follow("^Test office$")
        person.fill("^Recipient", "first@one.test")
        person.fill("^Sender", "shop@shop.test")
        person.press("^Send Test Email$")
        person.sees("Took")
        person.open("/admin/start")
        person.sees("went well")
        person.fill("^To", "inbox@one.test")
        person.fill("^From", "shop@shop.test")
        person.press("Send the first mail")
        site.until("the first mail arrives", lambda: any("inbox@one.test" in mail.recipients for mail in site.catch.mail))
        self.assertLess(time.monotonic() - begun, 180)


class Settings(flow.Flows):
    @both("operator")
    def test_a_route_is_tried_and_told_what_is_wrong(self, person, word):
        person.open("/admin/smtp-test")
        person.choose("^Route", "office")
        person.fill("^Recipient", "someone@one.test")
        person.fill("^Sender", "shop@shop.test")
        person.press("Test without sending")
        person.sees("Took")
        self.assertRegex(person.path(), "^/admin/smtp-test/.")
        text = person.page.locator("main").text_content()
        self.assertIn("RCPT TO:<someone@one.test>", text)
        self.assertIn("smtp.office.test", text)
        person.open("/admin/smtp-test")
        person.choose("^Route", "partner")
        person.fill("^Recipient", "someone@one.test")
        person.press("^Send Test Email$")
        person.sees("Next step")
        self.assertIn("refuse", person.text().lower())

    @both()
    def test_a_sender_is_made_and_its_secrets_are_shown_once(self, person, word):
        name = f"printer-{word}"
        person.open("/admin/senders")
        person.fill("^Name", name)
        person.fill("May send as", "shop.test")
        person.press("^Add$")
        shown, password = [one.inner_text() for one in person.page.locator("main code").all()], None
        key = next(one for one in shown if one.startswith("pbx_"))
        self.assertTrue(self.world.ask("POST", "/messages", {"from": "a@shop.test", "to": "b@captured.test", "subject": "s", "text": "t"}, key=key))
        for one in shown:
            with contextlib.suppress(smtplib.SMTPException), smtplib.SMTP("127.0.0.1", self.world.smtp, timeout=30) as client:
                client.starttls(context=None)
                client.login(name, one.strip())
                password = one.strip()
        self.assertTrue(password, f"no password that opens: {shown}")
        person.open(f"/admin/senders/{name}")
        self.assertNotIn(password, person.page.content())
        self.assertNotIn(key, person.page.content())

    @both("operator")
    def test_a_message_is_found_and_explained(self, person, word):
        person.open("/admin/overview")
        person.page.locator("#find").fill("gone@strict.test")
        with person.page.expect_navigation(wait_until="load"):
            person.page.keyboard.press("Enter")
        person.follow("Invoice 300")
        self.assertEqual(f"/admin/messages/{self.world.messages['gone']}", person.path())
        whole = person.page.locator("main").text_content()
        self.assertIn("550 5.1.1 The email account that you tried to reach does not exist", whole)
        self.assertIn("RCPT TO:<gone@strict.test>", whole)
        person.open("/admin/why")
        person.fill("^Address that got", "gone@strict.test")
        person.press("^Look$")
        person.sees("What to check next")
        self.assertIn("suppress", person.text().lower())

    @both()
    def test_the_log_level_is_changed(self, person, word):
        level = "debug" if word == "js" else "info"
        person.open("/admin/settings")
        person.fill("^Level", "loud")
        person.press("^Change$")
        self.assertIn("evel", person.problem())
        person.fill("^Level", level)
        person.press("^Change$")
        self.assertIn(level, person.done())
        self.assertEqual(level, self.world.ask("GET", "/log-level")["level"])
        self.world.ask("PUT", "/log-level", {"level": "info"})


if __name__ == "__main__":
    unittest.main()
