"""What people do with the pages, each with scripts and without: log in, look after the queue, keep people, senders and suppressions,
follow an incident and a message. And pages that change by themselves."""

import re
import unittest
import urllib.parse

import pages_flow as flow
from pages_flow import Person, both, code
from pages_world import PASSWORD


class Daily(flow.Flows):
    @both(None)
    def test_log_in_and_out(self, person, word):
        person.open("/login")
        person.fill("User name", "operator")
        person.fill("Password", "wrong password")
        person.press("^Log in$")
        self.assertIn("wrong", person.problem())
        person.fill("User name", "operator")
        person.fill("Password", PASSWORD)
        person.press("^Log in$")
        self.assertEqual("/admin/overview", person.path())
        person.page.locator(".me summary").click()
        with person.page.expect_navigation(wait_until="load"):
            person.page.get_by_role("button", name="Log out").click()
        self.assertEqual("/login", person.path())
        person.page.goto(self.world.url + "/admin/overview")
        self.assertEqual("/login", person.path())

    def state(self, address):
        recipients = [one for one in self.world.ask("GET", f"/queue?recipient={urllib.parse.quote(address)}")["items"]]
        return recipients[0]["state"] if recipients else None

    @both("operator")
    def test_the_queue_is_held_released_and_cancelled(self, person, word):
        for n in range(4):
            self.world.send(f"q{n}-{word}@partner.test", f"Queue {word} {n}", stream="news")
        of = "/admin/processing-center?by=recipients&domain=partner.test&stream=news"
        person.open(of)
        row = lambda n: person.page.get_by_role("checkbox", name=f"q{n}-{word}@partner.test")
        row(0).check()
        row(1).check()
        person.press("^Hold$")
        self.assertIn("2 recipients", person.text())
        self.assertIn(f"q0-{word}@partner.test", person.text())
        self.assertNotEqual("held", self.state(f"q0-{word}@partner.test"), "a preview changes nothing")
        person.fill("Reason", "looked at by hand")
        person.press("^Hold$")
        self.assertIn("Recipients: 2", person.done())
        self.assertEqual([True, True, False], [self.state(f"q{n}-{word}@partner.test") == "held" for n in range(3)])
        person.open(of + "&state=held")
        row(0).check()
        person.press("^Release$")
        person.press("^Release$")
        self.assertEqual([False, True], [self.state(f"q{n}-{word}@partner.test") == "held" for n in range(2)])
        person.open(of)
        row(3).check()
        person.press("^Cancel")
        self.assertIn("1 recipient", person.text())
        person.press("^Cancel")
        self.assertIsNone(self.state(f"q3-{word}@partner.test"))
        person.open(f"/admin/processing-center?by=recipients&recipient=q2-{word}%40partner.test")
        person.follow("^Cancel")
        self.assertIn("1 recipient", person.text())
        person.press("^Cancel")
        self.assertIsNone(self.state(f"q2-{word}@partner.test"))
        person.open(of)
        person.follow("^Cancel")
        person.press("^Cancel")
        self.assertIsNone(self.state(f"q0-{word}@partner.test"), "all that meet the filter")
        self.assertIsNotNone(self.state("buyer0@partner.test"), "and nobody else")

    def tries(self, address):
        found = self.world.ask("GET", f"/queue?recipient={urllib.parse.quote(address)}")["items"]
        return found[0]["attempts"] if found else None

    @both("operator")
    def test_what_waits_is_tried_at_once(self, person, word):
        of = "/admin/processing-center?by=recipients&domain=strict.test&stream=news"
        names = [f"grey.{word}{n}@strict.test" for n in range(3)]
        for name in names:
            self.world.send(name, f"Later {word}", stream="news")
        person.until("each was tried once", lambda: [self.tries(name) for name in names] == [1, 1, 1])
        person.open(of)
        person.page.get_by_role("checkbox", name=names[0]).check()
        person.press("^Retry")
        self.assertIn("1 recipient", person.text())
        self.assertEqual([1, 1, 1], [self.tries(name) for name in names], "a preview changes nothing")
        person.press("^Retry")
        self.assertIn("Recipients: 1", person.done())
        person.until("the one that was picked is tried", lambda: [self.tries(name) for name in names] == [2, 1, 1])
        person.open(of)
        person.follow("^Retry")
        self.assertIn("3 recipients", person.text())
        person.press("^Retry")
        person.until("all that meet the filter are tried", lambda: [self.tries(name) for name in names] == [3, 2, 2])
        self.world.ask("POST", "/queue/cancel", {"selector": {"domain": "strict.test", "stream": "news"}})

    @both("operator")
    def test_an_incident_is_taken_and_noted(self, person, word):
        person.open(f"/admin/incidents/{self.world.incident}")
        if person.script:
            person.press("I look after it")
            self.assertIn("Acknowledged", person.done())
            person.sees("acknowledged")
        person.fill("^Note", f"The partner will call back ({word}).")
        person.press("Write it down")
        self.assertEqual("Noted.", person.done())
        person.sees(f"The partner will call back ({word}).")
        person.open("/admin/incidents")
        self.assertIn("partner", person.text().lower())

    @both("operator")
    def test_addresses_are_suppressed_and_freed(self, person, word):
        address = f"no-more-{word}@four.test"
        person.open("/admin/suppressions")
        person.unfold("Add addresses")
        person.fill("^Addresses", f"{address}\nnot an address")
        person.fill("^Note", "by telephone")
        person.press("^Add$")
        self.assertIn("address", person.problem())
        self.assertIn(address, person.page.get_by_label("Addresses").first.input_value(), "what was typed is there still")
        person.fill("^Addresses", address)
        person.press("^Add$")
        self.assertIn("1 added", person.done())
        person.open(f"/admin/suppressions?search=no-more-{word}")
        person.page.get_by_role("checkbox", name=address).check()
        box = person.unfold("Remove those")
        person.fill("^Why", "they want it again", box)
        person.press("^Remove$", box)
        self.assertIn("1", person.done())
        self.assertNotIn(address, str(self.world.ask("GET", "/suppressions")))

    @both()
    def test_people_are_added_and_shut_out(self, person, word):
        name = f"new-{word}"
        person.open("/admin/users")
        person.unfold("Add a user")
        person.fill("^Name", name)
        person.choose("^Role", "operator")
        person.fill("^Password", PASSWORD)
        person.press("^Add$")
        self.world.log_in(name)
        person.open(f"/admin/users/{name}")
        person.page.get_by_label("Disabled").check()
        person.press("^Save$")
        self.assertEqual("Saved.", person.done())
        self.assertIn("disabled", person.text())
        self.assertTrue(next(one for one in self.world.ask("GET", "/users")["items"] if one["name"] == name)["disabled"])

    def test_a_second_factor_is_set_up_and_asked_for(self):
        for script in (True, False):
            name = f"factor-{script}".lower()
            self.world.ask("POST", "/users", {"name": name, "role": "viewer", "password": PASSWORD})
            self.cookies[name] = self.world.log_in(name)
            with self.subTest(script=script), self.person(script, name) as person:
                person.open("/admin/account")
                person.page.locator("#begin-current").fill(PASSWORD)
                person.press("^Set up$")
                secret = re.sub(r"\s", "", person.page.get_by_label("Secret", exact=True).inner_text())
                person.fill("^Code", "000000")
                person.press("^Confirm$")
                person.fill("^Code", code(secret))
                person.press("^Confirm$")
                codes = person.page.get_by_label("Recovery codes", exact=True).inner_text().split()
                self.assertEqual(10, len(codes))
            with self.browser.person(self.world.url, script=script) as page:
                person = Person(page, self.world.url, script)
                for given in ("", codes[0]):
                    person.open("/login")
                    person.fill("User name", name)
                    person.fill("Password", PASSWORD)
                    person.fill("^Code", given)
                    person.press("^Log in$")
                    self.assertEqual("/admin/overview" if given else "/login", person.path())

    @both("operator")
    def test_a_webhook_is_tried(self, person, word):
        before = len(self.world.hooks.told)
        person.open("/admin/webhooks/shop")
        person.press("Send a sample")
        self.world.hooks.wait(before + 1)
        self.assertIn("204", person.text())

    @both()
    def test_a_key_is_shown_once(self, person, word):
        person.open("/admin/keys")
        person.unfold("^Add|^Make|^New")
        person.fill("^Name", f"deploy-{word}")
        person.choose("^Role", "viewer")
        person.press("^Add|^Make")
        key = re.search(r"pba_\w+", person.text())[0]
        self.assertTrue(self.world.ask("GET", "/status", key=key))
        person.open(f"/admin/keys/deploy-{word}")
        self.assertNotIn(key, person.page.content())

    def test_pages_change_by_themselves(self):
        with self.person(True, "viewer") as person:
            person.open("/admin/captured")
            loads = []
            person.page.on("framenavigated", lambda _: loads.append(1))
            self.world.send("live@captured.test", "It arrived while you looked")
            person.sees("It arrived while you looked")
            self.assertFalse(loads, "the page was not loaded again")
        with self.person(True, "operator") as person:
            person.open("/admin/processing-center?by=recipients&domain=partner.test")
            person.page.get_by_role("checkbox").nth(1).check()
            other = Person(person.page.context.new_page(), self.world.url, True)
            other.open(person.path())
            self.world.send("fresh@partner.test", "A new one in the queue")
            other.sees("fresh@partner.test")
            other.page.close()
            self.assertNotIn("fresh@partner.test", person.text(), "nothing moves below somebody who picks")
            person.page.get_by_role("checkbox").nth(1).uncheck()
            person.page.locator("h1").click()
            person.sees("fresh@partner.test")


if __name__ == "__main__":
    unittest.main()
