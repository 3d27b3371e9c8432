#!/usr/bin/env python3
"""tickets hands out numbers, one after the other, and follows Signalbox's HTTP driver contract.

    tickets.py NAME PORT DRIVER_PORT DATABASE      POST / takes a ticket, GET / shows the last one

Proxies reach PORT. The agent on the same machine reaches 127.0.0.1:DRIVER_PORT; nobody else should.
"""
import json, os, signal, sqlite3, sys, threading, time, uuid
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT, DRIVER_PORT, DATABASE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux: counts on while the machine sleeps


class Gate:
    """Master or not, the term, and what is in flight: one state under one lock."""

    def __init__(self):
        self.changed, self.master, self.term, self.in_flight = threading.Condition(), False, 0, 0
        self.last, self.leaving, self.run = 0.0, False, uuid.uuid4().hex
        self.lease = (0, 0.0, 0.0)  # of a term, until by the wall clock and by the clock that nobody sets

    def holds(self, term):
        leased, wall, boot = self.lease
        return leased == term and time.time() < wall and time.clock_gettime(BOOT) < boot

    def live(self):  # a term without a lease has no end
        return self.lease[0] != self.term or self.holds(self.term)

    def leased(self, term, wall, boot):  # before the promotion, and then again and again
        with self.changed:
            if term < max(self.term, self.lease[0]):
                return False
            if (term, boot) > (self.lease[0], self.lease[2]):
                self.lease = (term, wall, boot)
            return True

    def enter(self, asked):  # the term at which the request is served, or None
        with self.changed:
            if not self.master or asked > self.term or not self.live():
                return None
            self.in_flight, self.last = self.in_flight + 1, time.monotonic()
            return self.term

    def done(self):
        with self.changed:
            self.in_flight -= 1
            self.changed.notify_all()

    def promote(self, term):
        with self.changed:
            if term < self.term:
                return False
            self.master, self.term = True, term
            return True

    def step_down(self, term, seconds):  # True: closed, nothing in flight, and it stays so
        with self.changed:
            start = time.monotonic()
            while self.master and time.monotonic() < min(self.last + 0.002, start + 0.05):
                self.changed.wait(0.001)  # new work until 2 ms without any, 50 ms at most
            if self.master and term < self.term:
                return False  # promoted above that meanwhile
            self.master = False
            self.changed.notify_all()
            return self.changed.wait_for(lambda: self.in_flight == 0, seconds) and not self.master


gate = Gate()


def wall(order):  # RFC 3339 with nanoseconds: Python reads six digits
    return datetime.fromisoformat(order["deadline"].rstrip("Z")[:26] + "+00:00").timestamp()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep connections

    def reply(self, status, body, headers=()):
        raw = (json.dumps(body) + "\n").encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(raw))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def read(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, *_):
        pass


class Tickets(Handler):
    """The service. A request from above our term, or while we are not master: 503 and the header."""

    def do_POST(self):
        self.read()
        self.serve(take)

    def do_GET(self):
        self.serve(lambda db, term: db.execute("SELECT number FROM tickets").fetchone())

    def serve(self, work):
        term = gate.enter(int(self.headers.get("X-Signalbox-Term") or 0))
        if term is None:
            return self.reply(503, {"detail": "not master"}, [("X-Signalbox-Not-Master", str(gate.term))])
        try:
            with sqlite3.connect(DATABASE, timeout=5, isolation_level=None) as db:
                row = work(db, term)
            if not gate.live():  # without the header: it may have taken effect, and must not be tried again as if not
                return self.reply(504, {"detail": "the lease ran out meanwhile; nobody knows whether it took effect"})
            if row is None:
                return self.reply(503, {"detail": f"the database knows a newer master than term {term}"})
            self.reply(200, {"ticket": row[0], "by": NAME, "term": term})
        finally:
            gate.done()


def take(db, term):  # the term as fencing token: an old master changes no row
    return db.execute("UPDATE tickets SET number = number + 1, term = :term WHERE term <= :term RETURNING number",
                      {"term": term}).fetchone()


class Driver(Handler):
    """The contract. What came through a proxy carries a term, and gives no orders."""

    def do_GET(self):
        if self.path == "/signalbox/ready":
            return self.reply(200, {"ready": not gate.leaving, "lag_seconds": 0})
        if self.path == "/signalbox/mastership":
            with gate.changed:
                return self.reply(200, {"master": gate.master and gate.live(), "term": gate.term, "in_flight": gate.in_flight,
                                        "run": gate.run, "leaving": gate.leaving})
        self.reply(404, {"detail": "not part of the contract"})

    def do_POST(self):
        order = json.loads(self.read() or b"{}")
        if self.path == "/signalbox/promote":
            if order.get("leased") and not gate.holds(order["term"]):
                return self.reply(409, {"detail": f"no live lease of term {order['term']} since the start"})
            if not gate.promote(order["term"]):
                return self.reply(409, {"detail": f"already at term {gate.term}"})
            print(f"{NAME}: master at term {order['term']}", flush=True)
            return self.reply(200, {})
        if self.path == "/signalbox/lease":
            seconds = min(order["ttl_seconds"], wall(order) - time.time(), 60.0)
            if not gate.leased(order["term"], wall(order), time.clock_gettime(BOOT) + seconds):
                return self.reply(409, {"detail": f"already at term {gate.term}"})
            return self.reply(200, {"leased": True})
        if self.path == "/signalbox/step-down":
            seconds = wall(order) - time.time() if "deadline" in order else 5.0
            drained = gate.step_down(order["term"], max(0.0, min(seconds, 60.0)))
            print(f"{NAME}: stepped down, drained: {drained}", flush=True)
            return self.reply(200, {"drained": drained})
        self.reply(404, {"detail": "not part of the contract"})


def stop(*_):  # SIGTERM: tell the agent, go when it has had us step down, after 15 s in any case
    def leave():
        gate.leaving = True
        with gate.changed:
            gate.changed.wait_for(lambda: not gate.master, 15)
        time.sleep(1)  # what the proxies still send is answered 503, and they ask another instance
        os._exit(0)
    threading.Thread(target=leave).start()


class Server(ThreadingHTTPServer):
    request_queue_size, daemon_threads = 1024, True

    def handle_error(self, *_):  # a caller that went away is none of ours
        pass


if __name__ == "__main__":
    with sqlite3.connect(DATABASE, timeout=5) as db:  # stands in for storage that both data centers reach
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE IF NOT EXISTS tickets (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER, term INTEGER)")
        db.execute("INSERT OR IGNORE INTO tickets VALUES (1, 0, 0)")
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=Server(("127.0.0.1", DRIVER_PORT), Driver).serve_forever, daemon=True).start()
    Server(("127.0.0.1", PORT), Tickets).serve_forever()
