"""Nothing that was answered 250 is lost: kill -9, SIGTERM, power cuts and full disks under load.

A load with a ledger on one side, a catching server that counts copies on the other. KILLS, STOPS and CUTS say how often (20, 5, 5).
What may be delivered twice is stated in docs/ARCHITECTURE.md: one transaction per open connection and kill.
"""

import collections
import fcntl
import os
import random
import smtplib
import subprocess
import threading
import time
import unittest

from common import Catch, Process, Place, free_port, need, run, wait_banner
from relay import PASSWORD, SENDER, binary

CONNECTIONS = 8
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, b"\x02\x00\x00\x00"


class Load:
    """Sends until it is stopped, and books what became of each message."""

    count = 0

    def __init__(self, port, threads=6, size=3000):
        self.port, self.size, self.stopping, self.lock = port, size, threading.Event(), threading.Lock()
        self.acknowledged, self.refused, self.unknown, self.broken = {}, {}, {}, {}
        self.codes, self.next, self.replies = collections.Counter(), 0, {}
        Load.count += 1
        self.prefix = f"l{Load.count}m"
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while not self.stopping.is_set():
            try:
                with self.connect() as client:
                    client.login(SENDER, PASSWORD)
                    while not self.stopping.is_set():
                        self.one(client)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)  # it is away: being restarted

    def connect(self):
        return smtplib.SMTP("127.0.0.1", self.port, timeout=60)

    def one(self, client):
        with self.lock:
            self.next += 1
            name, odd = f"{self.prefix}{self.next}", self.next % 2
        to = [f"{name}-{n}@dest.test" for n in range(1 + odd)]
        content = f"From: <load@app.test>\r\nSubject: {name}\r\nMessage-ID: <{name}@load.test>\r\n\r\n{'x' * 70}\r\n"
        content += ("y" * 76 + "\r\n") * (self.size // 78)
        try:
            codes = [client.mail("load@app.test")[0], *(client.rcpt(address)[0] for address in to)]
        except Exception:
            self.refused[name] = to
            raise
        if any(code != 250 for code in codes):
            self.refuse(client, name, to, next(code for code in codes if code != 250))
            return
        begun = time.monotonic()
        try:
            code, reply = client.data(content.encode())
        except smtplib.SMTPDataError as error:  # DATA itself was refused
            self.refuse(client, name, to, error.smtp_code)
            return
        except Exception:
            self.unknown[name] = to
            raise
        if code == 250:
            self.acknowledged[name] = to
            self.replies[name] = (begun, time.monotonic(), reply.decode("utf-8", "replace"))
        else:
            self.refuse(client, name, to, code)

    def refuse(self, client, name, to, code):
        self.refused[name] = to
        self.codes[code] += 1
        if code == 451:
            self.broken[name] = to
        if code == 421:
            raise smtplib.SMTPServerDisconnected("421")
        time.sleep(0.02)
        client.rset()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
            if thread.is_alive():
                raise RuntimeError("a client did not get an answer within 90 s")


class Relay:
    """Pillarbox on a directory of its own, which may be on another file system, at ports that stay."""

    def __init__(self, place, sink_port, data, settings=""):
        self.dir, self.port = place.path, free_port()
        self.config = self.dir / "pillarbox.toml"
        self.config.write_text(
            f'hostname = "loss.test"\ndata_dir = "{data}"\nshutdown_timeout = "20s"\n[http]\naddress = "127.0.0.1:{free_port()}"\n'
            f'[retry]\nintervals = ["1s"]\n{settings}'
            f'[[listener]]\nname = "load"\naddress = "127.0.0.1:{self.port}"\nmode = "plain"\nauth_without_tls = "loopback"\n')
        self.server, self.ready, self.ends, self.cuts = None, [], [], []
        self.start()
        password = self.dir / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        self.cli("sender", "add", SENDER, "--password-from", f"file:{password}", "--allow-from", "*")
        self.cli("route", "add", "out", "--smarthost", f"127.0.0.1:{sink_port}", "--tls", "none", "--connections", CONNECTIONS,
                 "--default")

    def cli(self, *arguments):
        return run(binary(), *arguments, "--config", self.config)

    def start(self):
        started = time.monotonic()
        self.server = Process([binary(), "serve", "--config", self.config], self.dir / "out.log")
        try:
            wait_banner(self.port, self.server.process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.server.output()}") from None
        self.ready.append(time.monotonic() - started)

    def kill9(self):
        self.ends.append(time.monotonic())
        self.server.process.kill()
        self.server.process.wait()

    def stop(self):
        self.server.stop(60)


class Loss(unittest.TestCase):
    def setUp(self):
        need("openssl", "mount", "umount", "mkfs.ext4")
        self.place, self.catch = Place("loss"), Catch()
        self.addCleanup(self.place.remove)
        self.addCleanup(self.catch.stop)
        self.random = random.Random(int(os.environ.get("SEED", "1")))

    def relay(self, data=None, settings=""):
        relay = Relay(self.place, self.catch.port, data or self.place.path / "data", settings)
        self.addCleanup(relay.stop)
        return relay

    def wait(self):
        time.sleep(self.random.uniform(0.3, 1.5))

    def copies(self):
        count = collections.Counter()
        for mail in list(self.catch.mail):
            name = mail.header("Subject")
            count.update((name, to) for to in mail.recipients)
        return count

    def reckon(self, relay, load, dying=False):
        """Waits until all that was acknowledged has arrived or nothing arrives any more, then compares.

        On a disk that is dying a 451 says that a sync failed: what it should have synced may be there all the same. And a sync
        under way at the moment of the cut may succeed for nothing, because this machine lives on when its disk is dead; a real
        one could not have answered. So messages are counted apart that were begun before the cut was over, and answered after it
        had begun: one of each connection at most.
        """
        end, arrived = time.monotonic() + 30, 0
        pairs = lambda book: {(name, to) for name, recipients in book.items() for to in recipients}
        promised = pairs(load.acknowledged)
        while (lost := promised - self.copies().keys()) and time.monotonic() < end:
            if len(self.catch.mail) != arrived:
                end, arrived = time.monotonic() + 30, len(self.catch.mail)
            time.sleep(0.5)
        if dying:
            in_cut = lambda name: any(load.replies[name][0] <= over and began <= load.replies[name][1] for began, over in relay.cuts)
            print(f"\n  {sum(in_cut(name) for name, _ in lost)} lost that were answered in the cut", end="")
            lost = {(name, to) for name, to in lost if not in_cut(name)}
        time.sleep(1)
        count = self.copies()
        ghosts = (pairs(load.refused) - pairs(load.broken if dying else {})) & count.keys()
        duplicates = sum(n - 1 for n in count.values())
        print(f"\n  {len(load.acknowledged)} acknowledged, {len(load.refused)} refused {dict(load.codes)}, {len(load.unknown)} unknown, "
              f"{len(lost)} lost, {len(ghosts)} ghosts, {duplicates} duplicates; ready after {max(relay.ready):.2f} s at most", flush=True)
        self.assertGreater(len(load.acknowledged), 20, "too little was accepted to prove anything")
        if lost:
            self.fail(self.obituary(relay, load, sorted({name for name, _ in lost})))
        self.assertEqual(sorted(ghosts)[:10], [], "refused and delivered all the same")
        return duplicates

    def obituary(self, relay, load, names):
        """What was said about lost messages, when, and what the relay knows of them."""
        lines = [f"{len(names)} lost"]
        for name in names[:10]:
            _, when, reply = load.replies[name]
            nearest = min((when - end for end in relay.ends), key=abs, default=0)
            lines.append(f"{name}: '{reply}', {nearest:+.4f} s from a cut or kill")
            for word in reply.split():
                try:
                    lines.append(relay.cli("queue", "show", word))
                except RuntimeError:
                    pass
        return "\n".join([*lines, relay.cli("queue", "ls")[-2000:], relay.server.output()])

    def test_kill_9_loses_nothing(self):
        relay, kills = self.relay(), int(os.environ.get("KILLS", "20"))
        load = Load(relay.port)
        for _ in range(kills):
            self.wait()
            relay.kill9()
            relay.start()
        self.wait()
        load.stop()
        # a message has at most two recipients here, and one transaction for both
        self.assertLessEqual(self.reckon(relay, load), kills * CONNECTIONS * 2)

    def test_sigterm_neither_loses_nor_repeats(self):
        relay, stops = self.relay(), int(os.environ.get("STOPS", "5"))
        load = Load(relay.port)
        for _ in range(stops):
            self.wait()
            relay.server.process.terminate()
            self.assertEqual(relay.server.process.wait(40), 0)
            relay.start()
        self.wait()
        load.stop()
        self.assertEqual(self.reckon(relay, load), 0)
        self.assertEqual(len(load.unknown), 0, "sessions were cut in the middle of a message")

    def mount(self, *arguments):
        path = self.place.path / "disk"
        path.mkdir(exist_ok=True)
        run("mount", *arguments, path)
        return path

    def umount(self, path):
        for _ in range(100):
            if subprocess.run(["umount", path], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"cannot unmount {path}")

    def test_power_cuts_lose_nothing_acknowledged(self):
        image = self.place.path / "disk.img"
        run("truncate", "-s", "256M", image)
        run("mkfs.ext4", "-q", "-F", image)
        disk = self.mount("-o", "loop", image)
        self.addCleanup(subprocess.run, ["umount", "-l", disk], stderr=subprocess.DEVNULL)
        relay = self.relay(disk / "data")
        load = Load(relay.port)
        cuts = int(os.environ.get("CUTS", "5"))
        for _ in range(cuts):
            self.wait()
            # the file system forgets all that was not synced, and every write from now on fails
            fd = os.open(disk, os.O_RDONLY)
            began = time.monotonic()
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
            relay.cuts.append((began, time.monotonic()))
            relay.ends.append(began)
            os.close(fd)
            time.sleep(0.2)
            relay.kill9()
            self.umount(disk)
            self.mount("-o", "loop", image)
            relay.start()
        self.wait()
        load.stop()
        self.assertLessEqual(self.reckon(relay, load, dying=True), cuts * CONNECTIONS * 2)
        relay.stop()
        self.umount(disk)

    def test_a_full_disk_refuses_clearly_and_recovers(self):
        disk = self.mount("-t", "tmpfs", "-o", "size=64m", "tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], stderr=subprocess.DEVNULL)
        relay = self.relay(disk / "data", '[limits]\nfree_disk = "8 MiB"\n')
        ballast = disk / "ballast"
        for leave in (4 << 20, 0):  # below what has to stay free, then not one octet
            load = Load(relay.port)
            self.wait()
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while (room := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave) > 0:
                        file.write(b"\0" * min(room, 1 << 20))
                except OSError:
                    pass
            end = time.monotonic() + 30
            while not load.codes and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(1)
            before = len(load.acknowledged)
            ballast.unlink()
            while len(load.acknowledged) < before + 20 and time.monotonic() < end + 60:
                time.sleep(0.1)
            recovered = len(load.acknowledged) - before
            load.stop()
            self.reckon(relay, load)
            self.assertGreaterEqual(recovered, 20, "does not accept again with room on the disk")
            self.assertTrue(load.codes, "a full disk was never noticed")
            self.assertLessEqual(set(load.codes), {452, 451}, "other refusals than 'not now'")
            self.catch.mail.clear()


if __name__ == "__main__":
    unittest.main(verbosity=2)
