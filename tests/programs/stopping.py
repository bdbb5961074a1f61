"""A program for the tests of signals: `python stopping.py HOW STATE [held]`.

It says on its standard output what happens, so that a test can wait for a line before
it sends a signal. Held, the cleanup of b, which is shielded, takes until there is a line on
the standard input.
"""

import sys

import trio

from trio_otp import Agent, Backoff, ChildSpec, Supervisor, run, trap_exit


def say(*words):
    print(*words, flush=True)


async def line():
    await trio.to_thread.run_sync(sys.stdin.readline)


def worker(name, cleanup=trio.lowlevel.checkpoint):
    async def work(*, task_status):
        say("start", name)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            say("stopping", name)
            with trio.move_on_after(60, shield=True):
                await cleanup()
            say("stop", name)

    return ChildSpec(work, id=name, shutdown=None)


async def falling():
    say("ready")
    raise ValueError("falls at once")


async def starting(*, task_status):
    say("ready")
    await trio.sleep_forever()


async def trapping():
    with trap_exit() as exiting:
        say("ready")
        await exiting.wait()
        say("asked")


async def ready():
    say("ready")
    await trio.sleep_forever()


async def blocked():
    say("ready")
    await line()


async def slow_init():
    say("ready")
    await trio.sleep_forever()


async def brief_main():
    say("ready")


async def long_main():
    say("ready")
    try:
        await trio.sleep_forever()
    finally:
        say("main left")


LAST = {
    "idle": [ready],
    "delay": [ChildSpec(falling, backoff=Backoff(60))],
    "start": [starting],
    "init": [Agent(slow_init)],
    "trap": [trapping],
    "agent": [Agent(dict), ready],
    "thread": [blocked],
    "main": [],
    "shutdown": [],
}
MAINS = {"main": long_main, "shutdown": brief_main}


async def in_main(children):
    async with Supervisor(children):
        await trio.sleep_forever()


def start(how, state, *held):
    children = [worker("a"), worker("b", line) if held else worker("b"), *LAST[state]]
    if how == "trio":
        trio.run(in_main, children)
    elif state in MAINS:
        run(MAINS[state], children=children)
    else:
        run(children=children)


if __name__ == "__main__":
    start(*sys.argv[1:])
