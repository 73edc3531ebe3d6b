#!/usr/bin/env python3
"""One, two, three nodes on one PostgreSQL: messages a second, CPU of each process, and claims with a large queue.

    bench/nodes.py [--nodes 1,2,3] [--runs 3] [--messages 15000] [--rows 100000,10000000] [--seconds 60] [--only load,limits,queue]

PostgreSQL is Debian's, in a throw-away cluster on this machine, durable (fsync on); each run has a fresh database.

load    smtp-source -> nodes -> smtp-sink over loopback, 4 KiB messages, 100 kept-open sessions shared out among the nodes
limits  the same with five rolling limits on the route, too wide to stop a message: what it costs to keep limits together
queue   --rows recipients that are due already, each of a message of its own, in 100 lanes, put into the tables by SQL. Then nodes
        deliver for --seconds, or until half is gone: recipients claimed a second, what one claim costs the server
        (pg_stat_statements), and CPU of each process

Needs root, Debian's postgresql and postfix packages. 10,000,000 rows need --disk gigabytes at most. BENCH_DIR=path puts them on another
disk, PILLARBOX=path is the binary. Results: target/bench/nodes.jsonl, and nodes.md beside it. Exit code 1: something did not arrive.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import smtplib
import statistics
import sys
import tempfile
import time
import types

import relays
import run

sys.path.insert(0, str(relays.REPOSITORY / "interop"))
from cluster import KEY, Postgres  # noqa: E402

LANES = 100
SESSIONS = 100
# So many rows go into the tables at once.
STEP = 250_000
# What a row takes with its indexes, KiB, rounded up: the content is a few lines.
ROW_KIB = 1.4
# More than fits beside the machine's other work would tell of the disk.
SERVER = ("shared_buffers=1GB", "max_wal_size=2GB", "maintenance_work_mem=512MB", "shared_preload_libraries=pg_stat_statements",
          "pg_stat_statements.track=all")
LIMITS = [word for unit in ("second", "minute", "hour", "day") for word in (f"--per-{unit}", "9000000")] + ["--recipients-per-day", "90000000"]


class Node(relays.Pillarbox):
    """One of several: the first one that is started makes the settings of all."""

    def __init__(self, place, name, sink_port, store):
        self.name, self.more = name, f'node = "{name}"\n'
        self.env = {**os.environ, "PILLARBOX_STORE": store, "PILLARBOX_KEY": KEY}
        super().__init__(place, sink_port)

    def configure(self):
        self.prepare()


class Cluster:
    """A fresh database and its nodes, which run inside the `with`."""

    def __init__(self, bench, count, name):
        self.bench, self.name, self.place = bench, name, bench.place / name
        self.place.mkdir()
        bench.pg.sql(f"CREATE DATABASE {name}", "postgres")
        store = f"postgres://pillarbox@127.0.0.1:{bench.pg.port}/{name}?sslmode=disable"
        self.nodes = [Node(self.place, f"node{n}", bench.sink_port, store) for n in range(1, count + 1)]
        try:
            self.nodes[0].start()
            self.nodes[0].set_up()
        finally:
            self.nodes[0].stop()

    def __enter__(self):
        self.sink = run.Sink(self.bench.sink_port)
        try:
            for node in self.nodes:
                node.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.stop()
        self.sink.stop()

    def remove(self):
        self.bench.pg.sql(f"DROP DATABASE {self.name} WITH (FORCE)", "postgres")
        shutil.rmtree(self.place)

    def sql(self, text, timeout=60):
        return self.bench.pg.sql(f"SET search_path TO pillarbox, public; {text}", self.name, timeout)

    def cpu(self):
        """By process. What has ended was waited for by this one: only sources are."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return dict(**{node.name: node.cpu() for node in self.nodes}, postgres=relays.cpu(self.bench.pg.process.process.pid),
                    source=ended.ru_utime + ended.ru_stime, sink=relays.cpu(self.sink.process.pid))


class Cpu:
    """What was used from here on, seconds for 1,000."""

    def __init__(self, cluster):
        self.cluster, self.before = cluster, cluster.cpu()

    def split(self, messages):
        return {name: round((now - self.before[name]) / messages * 1000, 3) for name, now in self.cluster.cpu().items()}


def send(cluster, messages):
    """To all nodes at once; gives when it began, when the last was accepted, and when the last had arrived."""
    base, began = cluster.sink.count(), time.monotonic()
    each, sessions = -(-messages // len(cluster.nodes)), max(1, SESSIONS // len(cluster.nodes))
    sources = [run.source(node.port, sessions, True, 1, each) for node in cluster.nodes]
    wanted, seen, last, accepted = base + each * len(sources), base, began, None
    while accepted is None or (seen < wanted and time.monotonic() - max(last, accepted) < 30):
        if accepted is None and all(source.poll() is not None for source in sources):
            accepted = time.monotonic()
        if (count := cluster.sink.count()) != seen:
            seen, last = count, time.monotonic()
        time.sleep(0.01)
    said = b"".join(source.stdout.read() for source in sources).decode("latin1").strip()[-300:]
    return dict(messages=wanted - base, arrived=seen - base, accept_per_s=round((wanted - base) / (accepted - began), 1),
                per_s=round((seen - base) / max(last - began, 0.001), 1), said=said)


def load(bench, cell, count, messages):
    cluster = Cluster(bench, count, f"{cell}{count}")
    try:
        with cluster:
            if cell == "limits":
                cluster.nodes[0].cli("route", "set", "sink", *LIMITS)
                time.sleep(3)  # the others look for settings every two seconds
            send(cluster, 300 * count)
            before = Cpu(cluster)
            result = send(cluster, messages)
            return dict(result, cpu_per_1000=before.split(result["messages"]))
    finally:
        cluster.remove()


def columns(cluster, table):
    return cluster.sql(f"SELECT string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns "
                       f"WHERE table_schema = 'pillarbox' AND table_name = '{table}'").split(",")


def copied(cluster, table, source, **changed):
    """Rows as there are in `source`, but for what is said otherwise."""
    names = columns(cluster, table)
    if unknown := changed.keys() - set(names):
        raise RuntimeError(f"{table} has no {unknown}: it is another schema than this was written for")
    return f"INSERT INTO {table}({','.join(names)}) SELECT {','.join(str(changed.get(name, 's.' + name)) for name in names)} FROM {source}"


def patterns(cluster):
    """One message to each lane, accepted as any mail is and held, becomes the pattern of all others."""
    node = cluster.nodes[0]
    with cluster:
        node.cli("sender", "pause", "bench", "--new-mail", "hold")
        with smtplib.SMTP("127.0.0.1", node.port, timeout=60) as client:
            for n in range(LANES):
                client.sendmail("sender@source.bench.test", [f"pattern@d{n}.dest.bench.test"], b"Subject: waiting\r\n\r\nfor its time\r\n")
        for table in ("message", "recipient", "lane", "content"):
            cluster.sql(f"CREATE TABLE public.pattern_{table} AS SELECT * FROM {table}")
        node.cli("sender", "resume", "bench")
        end = time.monotonic() + 60
        while cluster.sink.count() < LANES:
            if time.monotonic() > end:
                raise RuntimeError("the patterns were not delivered")
            time.sleep(0.1)
    cluster.sql("CREATE TABLE public.pattern AS SELECT row_number() OVER (ORDER BY message) - 1 AS k, message AS id, lane FROM public.pattern_recipient")


def fill(cluster, made, more, most):
    """Makes `more` rows beside the `made` ones that were made before, of at most `most`. Nothing runs meanwhile. Seconds."""
    began, rows = time.monotonic(), made + more
    indexes = cluster.sql("SELECT string_agg(format('%I', indexname), ',') || '|' || string_agg(indexdef, ';') FROM pg_indexes "
                          "WHERE schemaname = 'pillarbox' AND tablename IN ('message', 'recipient', 'content') AND indexname NOT LIKE '%_pkey'")
    dropped, _, rebuilt = indexes.partition("|")
    # Many rows are indexed sooner at the end.
    anew = more > made / 10
    if anew:
        cluster.sql(f"DROP INDEX {dropped}")
    # Below all that the nodes make, and all of it due before.
    first = f"(SELECT min(id) FROM public.pattern) - {most + 1}"
    for start in range(made, rows, STEP):
        numbers = f"generate_series({start}, {min(start + STEP, rows) - 1}) g JOIN public.pattern p ON p.k = g % {LANES}"
        for table, own, changed in (
                ("message", "s.id = p.id", dict(id=f"{first} + g", pending=1)),
                ("content", "s.message = p.id", dict(message=f"{first} + g")),
                ("recipient", "s.message = p.id", dict(
                    message=f"{first} + g", state=0, lease=0, due=f"(SELECT min(accepted) FROM public.pattern_message) - {most} + g",
                    wish="NULL", why="NULL", address="'user' || g || substr(s.address, strpos(s.address, '@'))"))):
            cluster.sql(copied(cluster, table, f"{numbers} JOIN public.pattern_{table} s ON {own}", **changed), 600)
        print(f"  {min(start + STEP, rows):,} rows after {time.monotonic() - began:.0f} s", flush=True)
    for one in rebuilt.split(";") if anew else ():
        cluster.sql(one, 1800)
    cluster.sql(copied(cluster, "lane", "public.pattern_lane s", waiting="0", held="0", next_due="NULL") + " ON CONFLICT (id) DO NOTHING")
    cluster.sql("UPDATE lane l SET waiting = c.waiting, next_due = c.due FROM (SELECT lane, count(*) AS waiting, min(due) AS due FROM recipient "
                "WHERE state = 0 GROUP BY lane) c WHERE c.lane = l.id", 600)
    for table in ("message", "recipient", "content", "lane"):
        cluster.bench.pg.sql(f"VACUUM (ANALYZE) pillarbox.{table}", cluster.name, 1800)
    cluster.sql("CHECKPOINT", 600)
    return round(time.monotonic() - began, 1)


def claims(cluster):
    """What the statements that lease cost the server since the count was begun: recipients, milliseconds of all its statements, and calls."""
    rows = cluster.sql("SELECT coalesce(sum(rows) FILTER (WHERE query LIKE 'WITH picked AS MATERIALIZED%state = $%lease = $%'), 0), "
                       "coalesce(sum(total_exec_time), 0), coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM "
                       "pg_database WHERE datname = current_database()) AND query LIKE 'WITH picked AS MATERIALIZED%lease = $%'")
    recipients, took, calls = rows.split("|")
    return int(recipients), float(took), int(calls)


def drain(cluster, rows, seconds):
    """Nodes deliver what waits. What a claim costs is told of all claims; how many there are a second, from the first delivery on."""
    cluster.sql("SELECT pg_stat_statements_reset()")
    with cluster:
        end = time.monotonic() + 60
        while cluster.sink.count() == 0:
            if time.monotonic() > end:
                raise RuntimeError("nothing is delivered")
            time.sleep(0.01)
        earlier = claims(cluster)[0]
        before, began, base = Cpu(cluster), time.monotonic(), cluster.sink.count()
        while time.monotonic() - began < seconds and cluster.sink.count() - base < rows / 2:
            time.sleep(0.05)
        took, arrived = time.monotonic() - began, cluster.sink.count() - base
        recipients, spent, calls = claims(cluster)
        split = before.split(max(arrived, 1))
    return dict(seconds=round(took, 1), arrived=arrived, per_s=round(arrived / took, 1), claims_per_s=round((recipients - earlier) / took, 1), claim_calls=calls,
                claim_ms_per_1000=round(spent / max(recipients, 1) * 1000, 1), cpu_per_1000=split)


def queue(bench, counts, sizes, seconds):
    """All sizes in one database, the smallest first; what one turn delivered is put there again for the next."""
    cluster = Cluster(bench, max(counts), "queue")
    everyone = cluster.nodes
    try:
        cluster.sql("CREATE EXTENSION pg_stat_statements SCHEMA public")
        patterns(cluster)
        made, most = 0, sum(sizes) * (1 + len(counts))
        for rows in sizes:
            for count in counts:
                more = rows - int(cluster.sql("SELECT count(*) FROM recipient WHERE state = 0", 600))
                took, made = fill(cluster, made, more, most), made + more
                size = int(cluster.sql("SELECT pg_database_size(current_database())")) / 2**30
                cluster.nodes = everyone[:count]
                yield count, dict(rows=rows, filled=more, fill_s=took, gib=round(size, 2), **drain(cluster, rows, seconds))
    finally:
        cluster.nodes = everyone
        cluster.remove()


class Bench:
    def __init__(self, place):
        self.place, self.sink_port = place, relays.free_port()
        self.pg = Postgres(types.SimpleNamespace(path=place), "pg", settings=SERVER).start()
        run.OUT.mkdir(parents=True, exist_ok=True)
        self.rows, self.file = [], open(run.OUT / "nodes.jsonl", "a")

    def add(self, cell, nodes, result):
        self.rows.append(dict(cell=cell, nodes=nodes, when=time.strftime("%F %T"), **result))
        self.file.write(json.dumps(self.rows[-1]) + "\n")
        self.file.flush()
        print(json.dumps(self.rows[-1]), flush=True)

    def report(self):
        groups = {}
        for row in self.rows:
            groups.setdefault((row["cell"], row.get("rows", 0), row["nodes"]), []).append(row)
        lines = ["| what | nodes | accepted/s | delivered/s | CPU s per 1,000: nodes | postgres | source | sink |", "|---|---|---|---|---|---|---|---|"]
        middle = lambda rows, key: statistics.median(row[key] for row in rows)
        large = []
        for (cell, size, nodes), rows in sorted(groups.items(), key=lambda one: one[0]):
            cpu = lambda name: statistics.median(row["cpu_per_1000"][name] for row in rows)
            each = " + ".join(f"{cpu(f'node{n}'):.3f}" for n in range(1, nodes + 1))
            accepted = f"{middle(rows, 'accept_per_s'):,.0f}" if cell != "queue" else "-"
            what = f"{cell}, {size:,} rows" if size else cell
            lines.append(f"| {what} | {nodes} | {accepted} | {middle(rows, 'per_s'):,.0f} | {each} | {cpu('postgres'):.3f} | {cpu('source'):.3f} | {cpu('sink'):.3f} |")
            if size:
                large.append(f"| {size:,} | {nodes} | {middle(rows, 'claims_per_s'):,.0f} | {middle(rows, 'claim_ms_per_1000'):,.1f} | {rows[0]['gib']} |")
        if large:
            lines += ["", "| rows | nodes | claimed/s | ms of the leasing statement per 1,000 | database, GiB |", "|---|---|---|---|---|", *large]
        text = "\n".join(lines) + "\n"
        (run.OUT / "nodes.md").write_text(text)
        return text

    def stop(self):
        self.pg.stop()
        self.file.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(one.replace("_", "")) for one in text.split(",")]
    parser.add_argument("--nodes", type=numbers, default=[1, 2, 3])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--messages", type=int, default=15_000)
    parser.add_argument("--rows", type=numbers, default=[100_000, 10_000_000])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="load,limits,queue")
    parser.add_argument("--disk", type=float, default=15, help="gigabytes that may be used")
    options = parser.parse_args()
    if os.getuid() != 0 or not shutil.which("smtp-source"):
        raise SystemExit("nodes: needs root, and Postfix's smtp-source and smtp-sink: apt-get install --no-install-recommends postfix")
    cells, sizes = options.only.split(","), sorted(options.rows)
    parent = os.environ.get("BENCH_DIR", "/var/tmp")
    needed = 3 + (sizes[-1] * ROW_KIB / 2**20 if "queue" in cells else 0)
    free = shutil.disk_usage(parent).free / 2**30
    if needed > min(options.disk + 3, free):
        raise SystemExit(f"nodes: {sizes[-1]:,} rows need {needed:.0f} GiB; {free:.0f} are free in {parent}, {options.disk:.0f} may be used (--disk)")
    place = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=parent))
    place.chmod(0o755)
    bench = None
    try:
        bench = Bench(place)
        for turn in range(options.runs):
            for cell in [cell for cell in ("load", "limits") if cell in cells]:
                for count in options.nodes if turn % 2 == 0 else options.nodes[::-1]:
                    bench.add(cell, count, dict(run=turn, **load(bench, cell, count, options.messages)))
        if "queue" in cells:
            for count, result in queue(bench, options.nodes, sizes, options.seconds):
                bench.add("queue", count, result)
        print("\n" + bench.report())
        lost = [row for row in bench.rows if row["arrived"] < row.get("messages", 1)]
    finally:
        if bench:
            bench.stop()
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
