"""What else people do with the pages, each with scripts and without: jobs, streams, domains, routes that are changed, batches,
webhooks, a message that is exported, the audit log, help, the support bundle, and a test that is watched while it runs."""

import io
import json
import pathlib
import re
import threading
import unittest
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import pages_browser as chromium
import pages_flow as flow
from check_scripts import Script, Server
from pages_flow import both
from pages_world import PASSWORD, STRICT

SLOW = STRICT.rsplit(".", 1)[0] + ".20"


class Administration(flow.Flows):
    def job(self, name):
        return self.world.ask("GET", f"/jobs/{urllib.parse.quote(name, safe='')}")

    @both("operator")
    def test_a_job_is_run_paused_resumed_and_restarted(self, person, word):
        jobs = self.world.ask("GET", "/jobs")["items"]
        name = next(one["name"] for one in jobs if {"run", "pause"} <= set(one["can"]))
        here, why = f"/admin/jobs/{urllib.parse.quote(name, safe='')}", f"not while the backup runs ({word})"
        runs = self.job(name)["runs"]
        person.open(here)
        person.press("^Run now$")
        self.assertIn("as soon as there is room", person.done())
        person.until("it ran", lambda: self.job(name)["runs"] > runs)
        person.open(here)
        person.fill("^Why", why)
        person.press("^Pause$")
        self.assertIn("Paused", person.done())
        self.assertEqual("paused", self.job(name)["state"])
        person.open("/admin/jobs")
        self.assertIn(why, person.text())
        person.open(here)
        person.press("^Resume$")
        self.assertNotEqual("paused", self.job(name)["state"])
        again = next(one["name"] for one in jobs if "restart" in one["can"] and one["state"] == "running")
        person.open(f"/admin/jobs/{urllib.parse.quote(again, safe='')}")
        person.press("^Restart$")
        self.assertEqual("Restarted.", person.done())
        person.until("it runs again", lambda: self.job(again)["state"] == "running")

    @both()
    def test_a_stream_is_added_paused_and_resumed(self, person, word):
        name = f"letters-{word}"
        person.open("/admin/streams")
        person.fill("^Name", name)
        person.press("^Add$")
        self.assertEqual(f"/admin/streams/{name}", person.path())
        person.unfold("^Pause$")
        person.fill("^Why", "wrong price list")
        person.press(f"Pause {name}")
        self.assertIn("wrong price list", person.text())
        self.world.send(f"{name}@one.test", f"Held with {name}", stream=name)
        state = lambda: [one["state"] for one in self.world.ask("GET", f"/queue?stream={name}")["items"]]
        self.assertEqual(["held"], state())
        person.open(f"/admin/streams/{name}")
        person.press("^Resume, with 1")
        self.assertIn("goes on", person.done())
        self.world.catch.wait(f"Held with {name}")
        person.open(f"/admin/audit?what=stream%2F{name}")
        for act in ("add", "pause", "resume"):
            self.assertIn(act, person.text())

    @both()
    def test_a_domain_gets_keys_and_is_told_what_is_wrong(self, person, word):
        domain = f"{word}.shop.test"
        chromium.still(person.page)  # what a button says would be replaced
        person.open("/admin/domains")
        person.fill("^Domain", domain)
        person.choose("^Keys", "ed25519")
        person.press("^Add$")
        self.assertEqual(f"/admin/domains/{domain}", person.path())
        record = self.world.ask("GET", f"/domains/{domain}")["keys"][0]["record"]
        self.assertIn(record["name"], person.text())
        self.assertIn(record["value"], person.text())
        copies = person.page.get_by_role("button", name="Copy", exact=True)
        if person.script:
            person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            copies.first.click()
            person.page.get_by_role("button", name="Copied").first.wait_for()
            self.assertEqual(record["name"], person.page.evaluate("navigator.clipboard.readText()"))
        else:
            self.assertEqual(0, copies.count(), "a button that nothing can come of is not shown")
        person.press("^Check now$")
        person.sees("record wrong")
        person.unfold("^Remove$")
        person.press(f"Remove {domain} with all keys")
        self.assertEqual("/admin/domains", person.path())
        self.assertNotIn(domain, person.text())

    @both()
    def test_a_route_is_changed_only_if_its_test_passes(self, person, word):
        name = f"change-{word}"
        self.world.ask("POST", "/routes", {"name": name, "kind": "smarthost", "host": "smtp.office.test", "port": 25, "tls": "none"})
        host = lambda: self.world.ask("GET", f"/routes/{name}")["host"]
        person.open(f"/admin/routes/{name}")
        person.fill("^Host", "smtp.closed.test")
        person.press("Test and save")
        self.assertIn("refused", person.text().lower())
        self.assertIn("Stages", person.text(), "what the test found is shown")
        self.assertEqual("smtp.office.test", host(), "the route goes on as it was")
        self.assertEqual("smtp.closed.test", person.page.get_by_label(re.compile("^Host")).first.input_value())
        person.press("Save without a test")
        self.assertEqual("smtp.closed.test", host())
        person.fill("^Host", "smtp.office.test")
        person.press("Test and save")
        self.assertEqual("The route is saved.", person.done())
        self.assertEqual("smtp.office.test", host())
        person.unfold("^Remove the route")
        person.press(f"Remove the route {name}")
        self.assertEqual("/admin/routes", person.path())

    @both()
    def test_a_route_begins_with_what_is_known_of_a_provider_and_is_looked_over(self, person, word):
        name = f"ses-{word}"
        person.open("/admin/routes/new")
        person.choose("Where does the mail leave", "ses")
        person.press("^Choose$")
        self.assertIn("amazonses.com", person.page.locator("main").text_content())
        person.fill("Name of the route", name)
        person.fill("User name", "AKIAEXAMPLE")
        person.fill("^Password", PASSWORD)
        person.press("Save without a test")
        self.assertEqual(f"/admin/routes/{name}", person.path())
        self.assertNotIn(PASSWORD, person.page.content())
        # a setting that contradicts what the provider documents is noticed at once
        person.fill("^Port", "26")
        person.press("Save without a test")
        self.assertIn("What is noticed in its settings", person.text())

    @both()
    def test_a_rule_leads_mail_to_a_route(self, person, word):
        domain = f"{word}.rule.test"
        person.open("/admin/routes")
        person.unfold("Add or change a rule")
        person.fill("^Name", f"rule-{word}")
        person.fill("^Order", "50")
        person.fill("^Only mail to", domain)
        person.choose("^Route", "archive")
        person.press("Save the rule")
        self.assertIn(f"The rule rule-{word} is saved.", person.done())
        self.assertIn(domain, person.text())
        self.world.send(f"page@{domain}", f"Led by rule {word}")
        self.world.until("the rule holds", lambda: f"Led by rule {word}" in str(self.world.ask("GET", "/captured")))

    @both()
    def test_a_batch_is_checked_and_then_sent(self, person, word):
        head = {"from": "shop@shop.test", "name": f"Letter {word}", "template": {"subject": "For {{ name }}", "text": "Hello {{ name }}"}}
        lines = lambda *rows: "\n".join(json.dumps(one) for one in (head, *rows))
        good = [{"email": f"r{n}-{word}@one.test", "name": f"reader {n}"} for n in range(2)]
        person.open("/admin/batches/new")
        person.choose("^Sender", "shop")
        person.fill("^Or paste it", lines(good[0], {"email": "nobody", "name": "x"}))
        person.press("^Check only$")
        self.assertIn("Wrong rows", person.text())
        person.choose("^Sender", "shop")
        person.fill("^Or paste it", lines(*good))
        person.press("^Check only$")
        self.assertIn("2 rows, all good", person.text())
        self.assertIn("For reader 0", person.text())
        person.follow("^Back, to send")
        person.choose("^Sender", "shop")
        person.fill("^Or paste it", lines(*good))
        person.press("^Send$")
        self.assertIn("taken", person.done())
        self.assertEqual(f"Letter {word}", person.page.locator("h1").inner_text())
        person.sees("finished")
        self.world.until("both arrive", lambda: {one["email"] for one in good} <= {to for mail in self.world.catch.mail for to in mail.recipients})

    @both()
    def test_a_webhook_is_added_and_its_secret_is_shown_once(self, person, word):
        name = f"hook-{word}"
        person.open("/admin/webhooks")
        person.unfold("Add a webhook")
        person.fill("^Name", name)
        person.fill("^Address", "not an address")
        person.page.locator("form.fields").first.evaluate("form => form.noValidate = true")
        person.press("^Add$")
        self.assertIn("is no URL", person.problem())
        person.fill("^Address", self.world.hooks.base + "/" + name)
        person.unfold("All settings")
        person.page.get_by_label("Allow http").first.check()
        person.press("^Add$")
        secret = re.search(r"whsec_[\w+/=]+", person.text())[0]
        person.open(f"/admin/webhooks/{name}")
        self.assertNotIn(secret, person.page.content())
        person.press("Send a sample")
        self.assertIn("204", person.text())
        self.assertTrue(any(path == "/" + name for path, *_ in self.world.hooks.told))

    def saved(self, person, click):
        with person.page.expect_download() as download:
            click()
        return pathlib.Path(download.value.path()).read_bytes()

    @both("viewer")
    def test_a_message_is_exported_without_what_is_private(self, person, word):
        person.open("/admin/logging")
        person.fill("^Recipient, subject", "gone@strict.test")
        person.press("^Search$")
        person.follow("Invoice 300")
        export = self.saved(person, lambda: person.page.get_by_role("link", name="Masked export").click()).decode()
        self.assertIn("550 5.1.1", export)
        for private in ("gone@", "orders@shop.test", "thank you for your order", "Invoice 300"):
            self.assertNotIn(private, export)

    @both()
    def test_a_support_bundle_is_made_of_what_somebody_knows(self, person, word):
        person.open("/admin/support")
        person.fill("^What goes wrong", "password mails are late")
        person.fill("^Addresses that", "nobody")
        person.press("Make the bundle")
        self.assertIn("nobody", person.problem())
        self.assertEqual("password mails are late", person.page.get_by_label(re.compile("^What goes")).input_value(), "what was typed is there still")
        person.fill("^Addresses that", "gone@strict.test")
        person.choose("spam folder", "there")
        octets = self.saved(person, lambda: person.page.get_by_role("button", name="Make the bundle").click())
        bundle = zipfile.ZipFile(io.BytesIO(octets))
        whole = "\n".join(bundle.read(name).decode() for name in bundle.namelist())
        self.assertIn("password mails are late", whole)
        for private in ("gone@", PASSWORD, "orders@", self.world.key, self.world.sender_key):
            self.assertNotIn(private, whole)

    @both("viewer")
    def test_help_is_searched_and_an_error_is_explained(self, person, word):
        person.open("/admin/help")
        person.fill("^Search the help", "relay access denied")
        person.press("^Search$", person.page.locator("main form[role=search]"))
        first = person.page.locator(".finds a").first
        title = first.inner_text()
        with person.page.expect_navigation(wait_until="load"):
            first.click()
        self.assertEqual(title, person.page.locator("h1").inner_text())
        person.open("/admin/help")
        person.fill("^What it says", "554 5.7.1 <someone@example.com>: Relay access denied")
        person.press("^Explain$")
        self.assertIn("relay", person.text().lower())
        self.assertIn("What to do", person.text())

    def test_a_new_password_ends_all_sessions(self):
        for script in (True, False):
            name, new = f"password-{script}".lower(), "another long pass phrase"
            self.world.ask("POST", "/users", {"name": name, "role": "operator", "password": PASSWORD})
            self.cookies[name], elsewhere = self.world.log_in(name), self.world.log_in(name)
            with self.subTest(script=script), self.person(script, name) as person:
                self.assertTrue(self.is_in(elsewhere))
                person.open("/admin/account")
                person.page.locator("#password-current").fill("not it")
                person.fill("^New password", new)
                person.press("^Change$")
                self.assertTrue(person.problem())
                self.assertTrue(self.is_in(elsewhere))
                person.page.locator("#password-current").fill(PASSWORD)
                person.fill("^New password", new)
                person.press("^Change$")
                self.assertEqual("/login", person.path())
                self.assertFalse(self.is_in(elsewhere))
                self.assertFalse(self.is_in(self.cookies[name]))
                person.fill("User name", name)
                person.fill("Password", new)
                person.press("^Log in$")
                self.assertEqual("/admin/overview", person.path())

    def is_in(self, cookie):
        request = urllib.request.Request(self.world.url + "/api/v1/me", headers={"Cookie": f"pillarbox={cookie}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            self.assertEqual(401, error.code)
            return False

    @both("operator")
    def test_stages_of_a_test_appear_while_it_runs(self, person, word):
        go_on = threading.Event()

        def recipient(_):
            go_on.wait(60)
            return "250 2.1.5 ok"

        server = Server(SLOW, 25, Script(on={"RCPT": recipient}))
        try:
            person.open("/admin/smtp-test")
            person.choose("^Route", "")
            person.unfold("Another server")
            person.fill("^Server", f"{SLOW}:25")
            person.fill("^Recipient", "slow@one.test")
            person.fill("^Sender", "shop@shop.test")
            person.unfold("^More$")
            person.fill("Seconds that each wait", "60")
            person.press("Test without sending")
            person.until("its stages", lambda: re.search(r"banner\s+ok", person.text()) and "running" in person.text())
            self.assertNotIn("Took", person.text())
            go_on.set()
            person.sees("Took")
            self.assertIn("250 2.1.5 ok", person.page.locator("main").text_content())
        finally:
            go_on.set()
            server.close()


if __name__ == "__main__":
    unittest.main()
