"""worker: takes each vote from Redis and writes it to PostgreSQL, one row a voter.

No accepted vote is lost, and of a voter's votes the last one counts:

1. a vote is read at the head of the queue, and stays there;
2. it is written to the table;
3. only then is it removed from the queue.

A worker that is killed between two steps leaves the vote in the queue: the next one does it
again, and writing the same row twice changes nothing. Several workers share the work; a lock
of the database, which ends with the connection of its holder, makes them do it in turn, in the
order of the queue.
"""

import json
import os
import signal
import threading
import time

import psycopg2
import redis

REDIS = os.environ.get("REDIS_HOST", "redis"), int(os.environ.get("REDIS_PORT", "6379"))
LOCK, UNLOCK = "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"


def open_queue():
    """Connect to Redis."""
    host, port = REDIS
    queue = redis.Redis(host, port, socket_timeout=10, socket_connect_timeout=5, retry=None)
    queue.ping()
    return queue


def open_db():
    """Connect to PostgreSQL, and make the table if it is not there."""
    db = psycopg2.connect(
        host=os.environ.get("POSTGRES_HOST", "db"),
        port=os.environ.get("POSTGRES_PORT", "5432"),
        user=os.environ.get("POSTGRES_USER", "postgres"),
        password=os.environ.get("POSTGRES_PASSWORD", "postgres"),
        dbname="postgres",
        connect_timeout=5,
        tcp_user_timeout=10_000,  # ms: do not wait longer for a node that is gone
        keepalives_idle=60,  # s: Swarm's load balancer forgets connections that stay silent
    )
    db.autocommit = True
    with db.cursor() as sql:
        sql.execute(LOCK)  # two workers may start at once
        sql.execute(
            "CREATE TABLE IF NOT EXISTS votes"
            " (id VARCHAR(255) NOT NULL PRIMARY KEY, vote VARCHAR(255) NOT NULL)"
        )
        sql.execute(UNLOCK)
    return db


def first_line(error):
    """Return the first line of what an error says."""
    return str(error).partition("\n")[0]


def keep_trying(what, connect):
    """Connect, and try again each second until it works."""
    while True:
        try:
            return connect()
        except (psycopg2.Error, redis.RedisError) as error:
            print(f"Waiting for {what}: {first_line(error)}")
            time.sleep(1)


def read(entry):
    """Return (voter, vote) from an entry of the queue, or None if it is no vote."""
    try:
        ballot = json.loads(entry)
        voter, vote = ballot["voter_id"], ballot["vote"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    known = isinstance(voter, str) and voter.isalnum() and voter.isascii() and len(voter) <= 64
    return (voter, vote) if known and vote in ("a", "b") else None


def count_next(queue, db):
    """Count the vote at the head of the queue."""
    with db.cursor() as sql:
        sql.execute(LOCK)
        entry = queue.lindex("votes", 0)
        if entry is not None:  # else another worker was faster
            ballot = read(entry)
            if ballot is None:
                print(f"Not a vote, thrown away: {entry!r}")
            else:
                voter, vote = ballot
                print(f"Processing vote for '{vote}' by '{voter}'")
                sql.execute(
                    "INSERT INTO votes (id, vote) VALUES (%s, %s)"
                    " ON CONFLICT (id) DO UPDATE SET vote = excluded.vote",
                    (voter, vote),
                )
            queue.lrem("votes", 1, entry)
        sql.execute(UNLOCK)


def main():
    """Count votes for ever."""
    while True:
        queue = keep_trying("redis", open_queue)
        db = keep_trying("db", open_db)
        print("Connected to redis and db")
        try:
            while True:
                # Wait for a vote: this "moves" the head of the list to where it is already.
                if queue.blmove("votes", "votes", 5, "LEFT", "LEFT") is not None:
                    count_next(queue, db)
        except (psycopg2.Error, redis.RedisError) as error:
            print(f"Connection lost: {first_line(error)}")
            queue.close()
            db.close()
            time.sleep(1)


def end_at_once():
    """End the process at SIGTERM, whatever it waits for; a vote in hand is still queued."""
    signal.sigwait({signal.SIGTERM})
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # keep it for end_at_once
    threading.Thread(target=end_at_once, daemon=True).start()
    main()
