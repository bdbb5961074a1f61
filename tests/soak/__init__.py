"""The soak: a tree of 1,000 processes that crash all the time, and lose nothing.

`python -m tests.soak --crashes 1000000 --seed 7`, or the short form in `tests/test_soak.py`.

The path of one request: a customer (`customers.py`) draws it and writes a `Ticket`
(`ledger.py`), a server (`servers.py`) does what the ticket says and marks it, the customer
compares what it was told with what the ticket shows, and both sides add it to their counts.
Between two rounds everything is quiet and the counts must agree (`audit.py`).
"""
